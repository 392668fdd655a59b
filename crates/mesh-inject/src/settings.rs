//! What the mesh's owner chose about injection.

use serde::{Deserialize, Serialize};

use crate::names::*;

/// Settings of injection for the whole mesh. [`Settings::default`] is what `meshctl install` begins with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Image of the proxy; its entry point is `mesh-proxy`.
    pub proxy_image: String,
    /// Image of the init container; its entry point is `mesh-cni`.
    pub init_image: String,
    /// `imagePullPolicy` of both; Kubernetes' own default when absent.
    pub image_pull_policy: Option<String>,
    /// Namespace of the control plane.
    pub root_namespace: String,
    /// Host and port of the control plane's xDS and CA.
    pub control_address: String,
    /// SPIFFE ID that the control plane must present; derived from trust domain and root namespace when absent.
    pub control_identity: Option<String>,
    /// Trust domain of workload identities.
    pub trust_domain: String,
    /// DNS suffix of Services.
    pub cluster_domain: String,
    /// Name of this cluster.
    pub cluster_id: String,
    /// Name of the mesh; the trust domain when absent.
    pub mesh_id: Option<String>,
    /// The revision that this injector serves.
    pub revision: String,
    /// Whether Istio's labels and annotations count (`compatibility.istioLabels`).
    pub istio_labels: bool,
    /// Whether namespaces without any label are injected.
    pub namespaces_by_default: bool,
    /// Whether the application's metrics are served together with the proxy's.
    pub prometheus_merge: bool,
    /// Whether probes go through the proxy unless a pod says otherwise.
    pub rewrite_probes: bool,
    /// Log level of the proxy unless a pod says otherwise.
    pub log_level: String,
    /// Resources of both containers unless a pod says otherwise.
    pub resources: Resources,
    /// CIDRs whose traffic is never captured, for all pods; a pod's annotation replaces them.
    pub exclude_outbound_ranges: Vec<ipnet::IpNet>,
}

/// Requests and limits of a container, as Kubernetes quantities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// `requests.cpu`.
    pub cpu_request: Option<String>,
    /// `requests.memory`.
    pub memory_request: Option<String>,
    /// `limits.cpu`.
    pub cpu_limit: Option<String>,
    /// `limits.memory`.
    pub memory_limit: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Settings {
            proxy_image: format!("mesh-proxy:{version}"),
            init_image: format!("mesh-cni:{version}"),
            image_pull_policy: None,
            root_namespace: MESH_NAMESPACE.into(),
            control_address: format!("{MESH_CONTROL}.{MESH_NAMESPACE}.svc.{CLUSTER_DOMAIN}:{}", port::CONTROL),
            control_identity: None,
            trust_domain: TRUST_DOMAIN.into(),
            cluster_domain: CLUSTER_DOMAIN.into(),
            cluster_id: CLUSTER_ID.into(),
            mesh_id: None,
            revision: "default".into(),
            istio_labels: true,
            namespaces_by_default: false,
            prometheus_merge: true,
            rewrite_probes: true,
            log_level: "warn".into(),
            resources: Resources {
                cpu_request: Some("100m".into()),
                memory_request: Some("128Mi".into()),
                cpu_limit: Some("2".into()),
                memory_limit: Some("1Gi".into()),
            },
            exclude_outbound_ranges: Vec::new(),
        }
    }
}

impl Settings {
    /// The SPIFFE ID of the control plane.
    pub fn control_identity(&self) -> String {
        self.control_identity
            .clone()
            .unwrap_or_else(|| format!("spiffe://{}/ns/{}/sa/{MESH_CONTROL}", self.trust_domain, self.root_namespace))
    }

    /// The name of the mesh.
    pub fn mesh_id(&self) -> &str {
        self.mesh_id.as_deref().unwrap_or(&self.trust_domain)
    }
}
