//! The names that an injected pod carries: containers, volumes, labels, annotations, ports.
//!
//! They are an interface: proxy, control plane, sandbox and people's tools look for them. Istio's names are kept where
//! Istio's tools read them.

/// The init container that sets the redirect rules.
pub const INIT_CONTAINER: &str = "mesh-init";
/// The native sidecar: an init container with `restartPolicy: Always`.
pub const PROXY_CONTAINER: &str = "mesh-proxy";
/// A user's container of this name is read as overrides of the proxy, as in Istio.
pub const ISTIO_PROXY_CONTAINER: &str = "istio-proxy";

/// Proxy state (socket, certificate, last good configuration), memory-backed.
pub const DATA_VOLUME: &str = "mesh-data";
/// The projected service account token for the control plane.
pub const TOKEN_VOLUME: &str = "mesh-token";
/// The trust bundle, from the ConfigMap [`ROOT_CERT_CONFIG_MAP`].
pub const ROOT_CERT_VOLUME: &str = "mesh-root-cert";
/// The pod's labels and annotations as files.
pub const PODINFO_VOLUME: &str = "mesh-podinfo";
/// All volumes that injection adds.
pub const VOLUMES: [&str; 4] = [DATA_VOLUME, TOKEN_VOLUME, ROOT_CERT_VOLUME, PODINFO_VOLUME];

/// ConfigMap with the key `root-cert.pem` in every namespace.
pub const ROOT_CERT_CONFIG_MAP: &str = "mesh-root-cert";
/// Audience of the token.
pub const TOKEN_AUDIENCE: &str = "mesh-ca";
/// Life of the token, in seconds; the kubelet renews it at 80 %.
pub const TOKEN_EXPIRATION_SECONDS: u32 = 43_200;

/// User and group of the proxy; what they send is not captured.
pub const PROXY_UID: u32 = 1337;
/// Outbound capture.
pub const OUTBOUND_PORT: u16 = 15001;
/// Inbound capture.
pub const INBOUND_PORT: u16 = 15006;
/// Merged metrics and application probes.
pub const STATUS_PORT: u16 = 15020;
/// The proxy's own readiness.
pub const HEALTH_PORT: u16 = 15021;
/// The proxy's own metrics.
pub const METRICS_PORT: u16 = 15090;
/// Ports on which the proxy listens in the pod: an application cannot have them.
pub const RESERVED_PORTS: [u16; 8] =
    [15000, OUTBOUND_PORT, INBOUND_PORT, 15008, STATUS_PORT, HEALTH_PORT, 15053, METRICS_PORT];
/// Inbound ports that are never redirected.
pub const EXCLUDED_INBOUND_PORTS: [u16; 3] = [STATUS_PORT, HEALTH_PORT, METRICS_PORT];

/// Namespace label of the mesh: `enabled` or `disabled`.
pub const INJECTION_LABEL: &str = "mesh-injection";
/// Revision label of the mesh, on namespaces and pods.
pub const REVISION_LABEL: &str = "mesh-revision";
/// Pod label (and older annotation): `true` or `false`.
pub const POD_INJECT: &str = "sidecar.istio.io/inject";
/// Istio's namespace label.
pub const ISTIO_INJECTION_LABEL: &str = "istio-injection";
/// Istio's revision label, on namespaces and pods; on injected pods an annotation.
pub const ISTIO_REVISION: &str = "istio.io/rev";
/// Says that the pod speaks mutual TLS.
pub const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
/// The service that a pod counts as in telemetry.
pub const CANONICAL_NAME_LABEL: &str = "service.istio.io/canonical-name";
/// Its version.
pub const CANONICAL_REVISION_LABEL: &str = "service.istio.io/canonical-revision";
/// JSON of what was injected; written for tools, never believed.
pub const STATUS_ANNOTATION: &str = "sidecar.istio.io/status";
/// Label that Kubernetes puts on every namespace.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Namespaces whose pods never get a sidecar.
pub const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
