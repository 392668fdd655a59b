//! The names that an injected pod carries: containers, volumes, labels, annotations, ports.
//!
//! They are an interface: proxy, control plane, sandbox and people's tools look for them. Those that others share are
//! `mesh-crd`'s; here are the ones that only injection writes.

pub use mesh_crd::labels::{
    APP, APP_NAME, APP_VERSION, CANONICAL_NAME, CANONICAL_REVISION, INJECTION, ISTIO_INJECTION, ISTIO_REVISION,
    NAMESPACE_NAME, POD_TEMPLATE_HASH, PROXY_CONFIG, REVISION, SIDECAR_INJECT, SIDECAR_STATUS, TLS_MODE,
    TLS_MODE_ISTIO, VERSION,
};
pub use mesh_crd::names::{
    CLUSTER_DOMAIN, CLUSTER_ID, DEFAULT_NAMESPACE, INIT_CONTAINER, ISTIO_PROXY_CONTAINER, MESH_CONTROL, MESH_NAMESPACE,
    PROXY_CONTAINER, PROXY_UID, ROOT_CERT_CONFIG_MAP, STATE_PATH, TOKEN_AUDIENCE, TRUST_DOMAIN, port,
};

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

/// Life of the token, in seconds; the kubelet renews it at 80 %.
pub const TOKEN_EXPIRATION_SECONDS: u32 = 43_200;

/// Inbound ports that are never redirected.
pub const EXCLUDED_INBOUND_PORTS: [u16; 3] = [port::STATUS, port::HEALTH, port::METRICS];

/// Namespaces whose pods never get a sidecar.
pub const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
