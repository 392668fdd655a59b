//! What holds for the whole mesh.

use ipnet::IpNet;

/// Mesh-wide settings, as seen from one namespace. Every proxy holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSettings {
    /// Prefixes in which mesh addresses can lie (Services, pods, ServiceEntries), at most 256. Private ranges always
    /// count as inside, whether listed or not.
    pub mesh_prefixes: Vec<IpNet>,
    /// What happens to traffic for destinations that nobody described.
    pub outbound_policy: OutboundPolicy,
    /// Whether hosts without addresses are visible, so that HTTP and TLS to external addresses must ask by name.
    pub hosts_without_addresses: bool,
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// Further trust domains whose identities are taken as ours.
    pub trust_domain_aliases: Vec<String>,
    /// Domain of cluster names, `cluster.local`.
    pub cluster_domain: String,
    /// Namespace of mesh-wide policy, `mesh-system`.
    pub root_namespace: String,
    /// Path normalization before authorization; the normalized form is forwarded.
    pub path_normalization: PathNormalization,
    /// Where access logs go, if anywhere.
    pub access_log: Option<AccessLog>,
}

/// `meshConfig.outboundTrafficPolicy.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutboundPolicy {
    /// Unknown destinations are passed through.
    #[default]
    AllowAny,
    /// Unknown destinations are refused.
    RegistryOnly,
}

/// `meshConfig.pathNormalization.normalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathNormalization {
    /// As received.
    None,
    /// RFC 3986: dot segments resolved, unreserved characters decoded, `\` to `/`. Istio's default.
    #[default]
    Base,
    /// Base, and runs of `/` become one.
    MergeSlashes,
    /// `%2f` and `%5c` are decoded first, then as `MergeSlashes`.
    DecodeAndMergeSlashes,
}

/// An access log (`meshConfig.accessLogFile` or a Telemetry resource).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Path, or `/dev/stdout`.
    pub file: String,
    /// Text or JSON.
    pub format: AccessLogFormat,
}

/// The form of an access log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AccessLogFormat {
    /// Istio's default text format.
    #[default]
    Text,
    /// Istio's JSON keys, and ours (`reason`, `responsible`, …) beside them.
    Json,
}
