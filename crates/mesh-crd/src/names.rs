//! Names that several programs must agree on: namespaces, ports, paths, containers (`ARCHITECTURE.md`, section 6).

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The mesh's own namespace, and the root namespace for mesh-wide policy unless configured otherwise.
pub const MESH_NAMESPACE: &str = "mesh-system";
/// The Deployment, Service and service account of the control plane.
pub const MESH_CONTROL: &str = "mesh-control";
/// The ConfigMap with the mesh-wide settings, in the root namespace.
pub const MESH_CONFIG_MAP: &str = "mesh";
/// The key in [`MESH_CONFIG_MAP`].
pub const MESH_CONFIG_KEY: &str = "mesh";
/// The ConfigMap with the roots of trust, in every namespace that is not excluded.
pub const ROOT_CERT_CONFIG_MAP: &str = "mesh-root-cert";
/// The key in [`ROOT_CERT_CONFIG_MAP`].
pub const ROOT_CERT_KEY: &str = "root-cert.pem";
/// The trust domain unless configured otherwise.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// The cluster's DNS domain unless configured otherwise.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// The name of the cluster unless configured otherwise.
pub const CLUSTER_ID: &str = "Kubernetes";
/// The audience of the proxies' tokens.
pub const TOKEN_AUDIENCE: &str = "mesh-ca";
/// Where the proxy finds its token.
pub const TOKEN_PATH: &str = "/var/run/secrets/tokens/mesh-token";
/// Where the proxy finds the roots of trust.
pub const ROOT_CERT_PATH: &str = "/var/run/secrets/mesh/root-cert.pem";
/// The proxy's state: socket, saved certificate, last good configuration.
pub const STATE_PATH: &str = "/var/lib/mesh";
/// The init container that redirects traffic.
pub const INIT_CONTAINER: &str = "mesh-init";
/// The proxy's container.
pub const PROXY_CONTAINER: &str = "mesh-proxy";
/// The name under which Istio's users override the proxy's container.
pub const ISTIO_PROXY_CONTAINER: &str = "istio-proxy";
/// User and group of the proxy.
pub const PROXY_UID: u32 = 1337;
/// Who writes, for server-side apply.
pub const FIELD_MANAGER: &str = "meshctl";
/// The gateway name that stands for all sidecars in a VirtualService.
pub const MESH_GATEWAY: &str = "mesh";

/// TCP ports (15053: also UDP).
pub mod port {
    /// Proxy administration, on loopback, read only.
    pub const ADMIN: u16 = 15000;
    /// Captured outbound connections, on loopback.
    pub const OUTBOUND: u16 = 15001;
    /// Captured inbound connections.
    pub const INBOUND: u16 = 15006;
    /// HBONE tunnels.
    pub const HBONE: u16 = 15008;
    /// Configuration and certificates.
    pub const CONTROL: u16 = 15012;
    /// The control plane's metrics and readiness.
    pub const MONITORING: u16 = 15014;
    /// The control API, on loopback.
    pub const CONTROL_API: u16 = 15016;
    /// Webhooks.
    pub const WEBHOOK: u16 = 15017;
    /// Merged metrics and application probes.
    pub const STATUS: u16 = 15020;
    /// Health.
    pub const HEALTH: u16 = 15021;
    /// DNS.
    pub const DNS: u16 = 15053;
    /// The proxy's own metrics.
    pub const METRICS: u16 = 15090;
    /// Every port on which a proxy listens: none of them is ever a destination.
    pub const PROXY: [u16; 8] = [ADMIN, OUTBOUND, INBOUND, HBONE, STATUS, HEALTH, DNS, METRICS];
}
