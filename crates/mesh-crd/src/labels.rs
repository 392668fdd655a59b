//! Labels and annotations that the mesh reads or writes: its own, Istio's and Kubernetes'.

/// On a namespace: `enabled` asks for injection.
pub const INJECTION: &str = "mesh-injection";
/// On a namespace or pod: which revision of the control plane injects.
pub const REVISION: &str = "mesh-revision";
/// Istio's namespace label for injection.
pub const ISTIO_INJECTION: &str = "istio-injection";
/// Istio's revision label; also written as an annotation.
pub const ISTIO_REVISION: &str = "istio.io/rev";
/// On a pod (label, or deprecated annotation): `true` or `false`.
pub const SIDECAR_INJECT: &str = "sidecar.istio.io/inject";
/// Annotation that the injector writes.
pub const SIDECAR_STATUS: &str = "sidecar.istio.io/status";
/// On a pod: [`TLS_MODE_ISTIO`] says that a proxy terminates mutual TLS in it.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// The one meaningful value of [`TLS_MODE`].
pub const TLS_MODE_ISTIO: &str = "istio";
/// On a pod: its service for telemetry.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// On a pod: its revision for telemetry.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// On a pod or WorkloadEntry: its workload for telemetry.
pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// On a pod: its locality, `region.zone.subzone`.
pub const LOCALITY: &str = "topology.istio.io/locality";
/// On a pod, Service or namespace: its network.
pub const NETWORK: &str = "topology.istio.io/network";
/// On a node or endpoint: its region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// On a node or endpoint: its zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// On an EndpointSlice: the Service it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// On every namespace: its own name.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Added to pods by a ReplicaSet.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// The usual application label.
pub const APP: &str = "app";
/// Kubernetes' recommended application label.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// The usual version label.
pub const VERSION: &str = "version";
/// Kubernetes' recommended version label.
pub const APP_VERSION: &str = "app.kubernetes.io/version";
/// Annotation of a Service: the namespaces that may see it.
pub const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// Annotation of an AuthorizationPolicy: `true` evaluates without enforcing.
pub const DRY_RUN: &str = "istio.io/dry-run";
/// Annotation of a pod: its proxy's configuration as YAML.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// On a ServiceEntry: `false` opts out of an automatic address.
pub const AUTO_ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";
/// Annotation of any object: analysis codes to keep silent about.
pub const ANALYZE_SUPPRESS: &str = "galley.istio.io/analyze-suppress";
