//! ServiceEntry and WorkloadEntry: services and workloads that Kubernetes does not know.

use std::collections::BTreeMap;

message! {
    /// A service that is written by hand.
    struct ServiceEntry {
        hosts: Vec<String> => "Its names.",
        addresses: Vec<String> => "Its addresses: IPs or CIDRs.",
        ports: Vec<ServicePort> => "Its ports.",
        location: Location => "Whether it is part of the mesh.",
        resolution: Resolution => "How its endpoints are found.",
        endpoints: Vec<WorkloadEntry> => "Its endpoints.",
        workload_selector: Option<LabelSelector> => "Labels of its endpoints among WorkloadEntries and pods.",
        export_to: Vec<String> => "The namespaces that may see it; empty means all.",
        subject_alt_names: Vec<String> => "Names of which the endpoints' certificates must have one.",
    }
}

message! {
    /// A selector by labels, as Sidecar and ServiceEntry write it.
    struct LabelSelector {
        labels: BTreeMap<String, String> => "All must be equal.",
    }
}

message! {
    /// A port of a service.
    struct ServicePort {
        number: u32 => "The number.",
        protocol: String => "HTTP, HTTPS, GRPC, HTTP2, TCP, TLS, …",
        name: String => "A name.",
        target_port: u32 => "The endpoints' port; 0 means the same.",
    }
}

enumeration! {
    /// Whether a service is part of the mesh.
    enum Location {
        MeshExternal = 0 "MESH_EXTERNAL" => "Outside.",
        MeshInternal = 1 "MESH_INTERNAL" => "Inside.",
    }
}

enumeration! {
    /// How endpoints are found.
    enum Resolution {
        None = 0 "NONE" => "The address that the client dialled.",
        Static = 1 "STATIC" => "As listed.",
        Dns = 2 "DNS" => "By DNS, all addresses.",
        DnsRoundRobin = 3 "DNS_ROUND_ROBIN" => "By DNS, one address at a time.",
        DynamicDns = 4 "DYNAMIC_DNS" => "By DNS, from the name in the request.",
    }
}

message! {
    /// A workload that is written by hand; also an endpoint of a ServiceEntry.
    struct WorkloadEntry {
        address: String => "An IP, a DNS name, or `unix://` and a path.",
        ports: BTreeMap<String, u32> => "Ports by the service's port names.",
        labels: BTreeMap<String, String> => "Labels.",
        network: String => "Its network.",
        locality: String => "`region/zone/subzone`.",
        weight: u32 => "Its share; 0 means 1.",
        service_account: String => "Its service account, in the object's namespace.",
    }
}
