//! Gateway: ports at the edge of the mesh.

use std::collections::BTreeMap;

message! {
    /// Listeners of gateway workloads.
    struct Gateway {
        servers: Vec<Server> => "The listeners.",
        selector: BTreeMap<String, String> => "Labels of the gateway's pods, in any namespace.",
    }
}

message! {
    /// One listener.
    struct Server {
        port: Option<Port> => "The port.",
        bind: String => "The address; empty means all.",
        hosts: Vec<String> => "Hosts that it serves, as `host` or `namespace/host`.",
        tls: Option<ServerTlsSettings> => "TLS from the client.",
        default_endpoint: String => "Where traffic goes without a route.",
        name: String => "A name.",
    }
}

message! {
    /// A port with its protocol.
    struct Port {
        number: u32 => "The number.",
        protocol: String => "HTTP, HTTPS, GRPC, HTTP2, TCP, TLS, …",
        name: String => "A name.",
        target_port: u32 => "Deprecated here.",
    }
}

message! {
    /// TLS from the client.
    struct ServerTlsSettings {
        https_redirect: bool => "Answer plain HTTP with a redirect.",
        mode: ServerTlsMode => "What kind.",
        server_certificate: String => "A file.",
        private_key: String => "A file.",
        ca_certificates: String => "A file.",
        ca_crl: String => "A file.",
        credential_name: String => "A Secret.",
        credential_names: Vec<String> => "Secrets, one per kind of key.",
        ca_cert_credential_name: String => "A Secret with the clients' authority.",
        tls_certificates: Vec<TlsCertificate> => "Files.",
        subject_alt_names: Vec<String> => "Names of which the client must have one.",
        verify_certificate_spki: Vec<String> => "Hashes of public keys.",
        verify_certificate_hash: Vec<String> => "Hashes of certificates.",
        min_protocol_version: TlsProtocol => "The oldest version.",
        max_protocol_version: TlsProtocol => "The newest version.",
        cipher_suites: Vec<String> => "Cipher suites.",
        insecure_skip_verify: Option<bool> => "Whether clients are not verified.",
    }
}

message! {
    /// A certificate in files.
    struct TlsCertificate {
        server_certificate: String => "A file.",
        private_key: String => "A file.",
        ca_certificates: String => "A file.",
    }
}

enumeration! {
    /// What kind of TLS a listener speaks.
    enum ServerTlsMode {
        Passthrough = 0 "PASSTHROUGH" => "Not terminated; routed by SNI.",
        Simple = 1 "SIMPLE" => "Terminated.",
        Mutual = 2 "MUTUAL" => "Terminated; clients prove themselves.",
        AutoPassthrough = 3 "AUTO_PASSTHROUGH" => "Not terminated; the SNI names the service.",
        IstioMutual = 4 "ISTIO_MUTUAL" => "With the mesh's certificates.",
        OptionalMutual = 5 "OPTIONAL_MUTUAL" => "Clients may prove themselves.",
    }
}

enumeration! {
    /// A version of TLS.
    enum TlsProtocol {
        Auto = 0 "TLS_AUTO" => "The default.",
        V1_0 = 1 "TLSV1_0" => "1.0.",
        V1_1 = 2 "TLSV1_1" => "1.1.",
        V1_2 = 3 "TLSV1_2" => "1.2.",
        V1_3 = 4 "TLSV1_3" => "1.3.",
    }
}
