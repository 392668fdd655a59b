//! Workloads that serve.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::identity::SpiffeId;

/// One workload behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Pod uid, or `<namespace>/<name>` of a WorkloadEntry; unique in the mesh and never reused. No `/*`.
    pub uid: Arc<str>,
    /// Its addresses; the first of the family that is dialled is used. A ServiceEntry's DNS endpoint has none.
    pub addresses: Vec<IpAddr>,
    /// The name to resolve where there are no addresses (ServiceEntry with resolution DNS).
    pub hostname: Option<String>,
    /// Network of the workload; empty is the default network.
    pub network: String,
    /// Where it runs.
    pub locality: Locality,
    /// The identity that its certificate must have, if it is meshed.
    pub identity: Option<SpiffeId>,
    /// Labels, for subsets.
    pub labels: BTreeMap<String, String>,
    /// Service port → the workload's own port.
    pub ports: BTreeMap<u16, u16>,
    /// Whether it should be used.
    pub health: Health,
    /// Relative capacity, at least 1.
    pub weight: u32,
    /// Which proxy, if any, stands before it.
    pub proxy: ProxyKind,
    /// Whether it accepts mesh mutual TLS: `security.istio.io/tlsMode: istio`. To such an endpoint there is never a
    /// fall-back to plaintext, unless a DestinationRule says DISABLE or the port's PeerAuthentication is DISABLE.
    pub mesh_tls: bool,
    /// Ports of the workload (not of the service) whose PeerAuthentication is DISABLE: plaintext is right there.
    pub plaintext_ports: Vec<u16>,
    /// What it is, for telemetry.
    pub workload: Workload,
}

/// Whether an endpoint takes new traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// Ready.
    #[default]
    Healthy,
    /// Ends, still serves: no new traffic while anything healthy is left.
    Draining,
    /// Not ready.
    Unhealthy,
}

/// Which proxy stands before a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProxyKind {
    /// None that we know of.
    #[default]
    None,
    /// Ours: the pod has a `mesh-proxy` container. Its `mesh-reason: unsent` is believed.
    Mesh,
    /// Somebody else's that speaks Istio's mutual TLS.
    Istio,
}

/// Region, zone and subzone; empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: String,
    /// `topology.kubernetes.io/zone`.
    pub zone: String,
    /// `topology.istio.io/subzone`.
    pub subzone: String,
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.region, self.zone, self.subzone)
    }
}

/// What a workload is called in metrics and logs. Never used for policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// Name of the owner (Deployment, …), or of the pod.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `service.istio.io/canonical-name`.
    pub canonical_service: String,
    /// `service.istio.io/canonical-revision`.
    pub canonical_revision: String,
    /// Label `app`.
    pub app: String,
    /// Label `version`.
    pub version: String,
    /// Cluster id.
    pub cluster: String,
    /// Name of the pod.
    pub pod: String,
}
