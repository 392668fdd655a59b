//! What a workload accepts, and from whom.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{AccessLog, AuthzPolicy, Origin, Protocol, ServiceName, Workload};
use crate::identity::SpiffeId;

/// Everything that the proxy of one workload needs for the connections it receives, and who it is itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The workload's uid.
    pub uid: Arc<str>,
    /// Its own identity.
    pub identity: SpiffeId,
    /// Its own addresses. A captured connection to any other is refused.
    pub addresses: Vec<IpAddr>,
    /// Its labels (for `sourceLabels` of routes).
    pub labels: BTreeMap<String, String>,
    /// What it is called in telemetry.
    pub workload: Workload,
    /// Locality, for its outbound balancing.
    pub locality: super::Locality,
    /// What is known of its ports, by the workload's own port (`targetPort`).
    pub ports: BTreeMap<u16, InboundPort>,
    /// Mutual TLS on ports that are not listed in `ports`.
    pub mtls: MtlsMode,
    /// The PeerAuthentication that decided `mtls`, if any.
    pub mtls_origin: Option<Origin>,
    /// All policies that select the workload: root namespace first, then by name. Evaluated CUSTOM, DENY, ALLOW.
    pub policies: Vec<AuthzPolicy>,
    /// The workload's own access log, where a Telemetry object changes the mesh's (`Some(None)` switches it off).
    pub access_log: Option<Option<AccessLog>>,
    /// The pod is ending: announce it to clients, keep serving.
    pub draining: bool,
}

/// A port of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// The declared protocol (of the service that is first by name, where several disagree).
    pub protocol: Protocol,
    /// Mutual TLS on it.
    pub mtls: MtlsMode,
    /// The PeerAuthentication that decided it, if any.
    pub mtls_origin: Option<Origin>,
    /// The service that telemetry names as destination, and its port.
    pub service: Option<(ServiceName, u16)>,
}

/// `PeerAuthentication.mtls.mode`, resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MtlsMode {
    /// Both: mesh TLS is terminated, plaintext is served, foreign TLS passes unread where no HTTP is declared.
    #[default]
    Permissive,
    /// Mesh mutual TLS only.
    Strict,
    /// Plaintext only; TLS passes unread.
    Disable,
}
