//! PeerAuthentication: whether mutual TLS is required of clients. Also the selectors that all policies share.

use std::collections::BTreeMap;

message! {
    /// Whether mutual TLS is required.
    struct PeerAuthentication {
        selector: Option<WorkloadSelector> => "Which workloads; absent means the namespace (root namespace: the mesh).",
        mtls: Option<MutualTls> => "For all ports.",
        port_level_mtls: BTreeMap<u32, MutualTls> => "By the workload's port; only with a selector.",
    }
}

message! {
    /// A selector by labels, as policies write it.
    struct WorkloadSelector {
        match_labels: BTreeMap<String, String> => "All must be equal.",
    }
}

message! {
    /// What a policy is attached to instead of selecting workloads.
    struct PolicyTargetReference {
        group: String => "The group.",
        kind: String => "The kind.",
        name: String => "The name.",
        namespace: String => "The namespace.",
    }
}

message! {
    /// A mode of mutual TLS.
    struct MutualTls {
        mode: MutualTlsMode => "The mode.",
    }
}

enumeration! {
    /// Whether mutual TLS is required.
    enum MutualTlsMode {
        Unset = 0 "UNSET" => "As the next wider policy says.",
        Disable = 1 "DISABLE" => "Not spoken.",
        Permissive = 2 "PERMISSIVE" => "Accepted, as is plaintext.",
        Strict = 3 "STRICT" => "Required.",
    }
}
