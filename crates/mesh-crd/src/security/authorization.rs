//! AuthorizationPolicy: who may do what.
//!
//! Lists are optional, because an empty list that somebody wrote is a mistake, while an absent one means "any".

use super::peer::{PolicyTargetReference, WorkloadSelector};

message! {
    /// Who may do what.
    struct AuthorizationPolicy {
        selector: Option<WorkloadSelector> => "Which workloads; absent means the namespace (root namespace: the mesh).",
        target_ref: Option<PolicyTargetReference> => "Deprecated: what it is attached to instead.",
        target_refs: Vec<PolicyTargetReference> => "What it is attached to instead.",
        rules: Option<Vec<Rule>> => "Any of these must match; absent or empty matches nothing.",
        action: Action => "What a match means.",
        provider: Option<ExtensionProvider> => "Who decides, for CUSTOM.",
    }
}

enumeration! {
    /// What a match means.
    enum Action {
        Allow = 0 "ALLOW" => "Let pass.",
        Deny = 1 "DENY" => "Refuse.",
        Audit = 2 "AUDIT" => "Only record.",
        Custom = 3 "CUSTOM" => "Ask the provider.",
    }
}

message! {
    /// A provider, by its name in MeshConfig.
    struct ExtensionProvider {
        name: String => "The name.",
    }
}

message! {
    /// A rule: any `from`, any `to` and all of `when`.
    struct Rule {
        from: Option<Vec<From>> => "Any of these; empty means anyone.",
        to: Option<Vec<To>> => "Any of these; empty means anything.",
        when: Option<Vec<Condition>> => "All of these.",
    }
}

message! {
    /// A source.
    struct From {
        source: Option<Source> => "The source.",
    }
}

message! {
    /// An operation.
    struct To {
        operation: Option<Operation> => "The operation.",
    }
}

message! {
    /// Conditions on the client, all of which must hold; values of a list are alternatives.
    struct Source {
        principals: Option<Vec<String>> => "Identities without `spiffe://`.",
        not_principals: Option<Vec<String>> => "None of these.",
        request_principals: Option<Vec<String>> => "Identities in tokens.",
        not_request_principals: Option<Vec<String>> => "None of these.",
        namespaces: Option<Vec<String>> => "Namespaces.",
        not_namespaces: Option<Vec<String>> => "None of these.",
        service_accounts: Option<Vec<String>> => "`namespace/name`, or `name` in the policy's namespace.",
        not_service_accounts: Option<Vec<String>> => "None of these.",
        trust_domains: Option<Vec<String>> => "Trust domains.",
        not_trust_domains: Option<Vec<String>> => "None of these.",
        ip_blocks: Option<Vec<String>> => "Addresses of the peer.",
        not_ip_blocks: Option<Vec<String>> => "None of these.",
        remote_ip_blocks: Option<Vec<String>> => "Addresses of the first client.",
        not_remote_ip_blocks: Option<Vec<String>> => "None of these.",
    }
}

message! {
    /// Conditions on what is asked for, all of which must hold; values of a list are alternatives.
    struct Operation {
        hosts: Option<Vec<String>> => "Hosts.",
        not_hosts: Option<Vec<String>> => "None of these.",
        ports: Option<Vec<String>> => "Ports of the workload.",
        not_ports: Option<Vec<String>> => "None of these.",
        methods: Option<Vec<String>> => "Methods.",
        not_methods: Option<Vec<String>> => "None of these.",
        paths: Option<Vec<String>> => "Paths.",
        not_paths: Option<Vec<String>> => "None of these.",
    }
}

message! {
    /// A condition on an attribute.
    struct Condition {
        key: String => "The attribute.",
        values: Option<Vec<String>> => "Any of these.",
        not_values: Option<Vec<String>> => "None of these.",
    }
}
