//! Sidecar: what a namespace's or a workload's proxies see and serve.

use super::destination_rule::ConnectionPoolSettings;
use super::gateway::{Port, ServerTlsSettings};
use super::service_entry::LabelSelector;
use super::virtual_service::Destination;

message! {
    /// What proxies see and serve.
    struct Sidecar {
        workload_selector: Option<LabelSelector> => "Which workloads; absent means the whole namespace.",
        ingress: Vec<IngressListener> => "What they serve; empty means all ports.",
        egress: Vec<EgressListener> => "What they see; empty means everything.",
        inbound_connection_pool: Option<ConnectionPoolSettings> => "Limits towards the application.",
        outbound_traffic_policy: Option<OutboundTrafficPolicy> => "What happens to unknown destinations.",
    }
}

message! {
    /// A port that is served.
    struct IngressListener {
        port: Option<Port> => "The port.",
        bind: String => "The address.",
        capture_mode: CaptureMode => "How traffic arrives.",
        default_endpoint: String => "Where it goes: `127.0.0.1:port`, `0.0.0.0:port`, `unix://path`.",
        tls: Option<ServerTlsSettings> => "TLS from clients outside the mesh.",
        connection_pool: Option<ConnectionPoolSettings> => "Limits towards the application.",
    }
}

message! {
    /// Hosts that are seen.
    struct EgressListener {
        port: Option<Port> => "Only on this port.",
        bind: String => "Only on this address.",
        capture_mode: CaptureMode => "How traffic arrives.",
        hosts: Vec<String> => "`namespace/host`, with `.`, `*` and `~` as namespaces.",
    }
}

enumeration! {
    /// How traffic arrives.
    enum CaptureMode {
        Default = 0 "DEFAULT" => "As the pod is set up.",
        Iptables = 1 "IPTABLES" => "Redirected.",
        None = 2 "NONE" => "Addressed to the proxy.",
    }
}

message! {
    /// What happens to unknown destinations.
    struct OutboundTrafficPolicy {
        mode: OutboundMode => "What happens.",
        egress_proxy: Option<Destination> => "Where they go instead.",
    }
}

enumeration! {
    /// What happens to unknown destinations. (For MeshConfig the default is ALLOW_ANY, see there.)
    enum OutboundMode {
        RegistryOnly = 0 "REGISTRY_ONLY" => "Refused.",
        AllowAny = 1 "ALLOW_ANY" => "Passed through.",
        AllowAnyDynamicDns = 2 "ALLOW_ANY_DYNAMIC_DNS" => "Passed through, resolved by the proxy.",
    }
}
