//! What each kind of object is to the sandbox: run by it, stored for others, or handed to mesh-control as written.

/// Who acts on objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The sandbox plays Kubernetes' part: Deployment, Pod, Service, ConfigMap, Secret, ServiceAccount, Namespace.
    Sandbox,
    /// mesh-control reads it: Istio's kinds, the Gateway API's kinds, and whatever else it may know.
    Mesh,
    /// Kubernetes' own kinds that nothing here acts on; they are kept, shown and reported as ignored.
    Ignored,
}

/// Kinds that the sandbox itself obeys: kind, plural, short names, whether it lives in a namespace.
const SANDBOX: &[(&str, &str, &[&str], bool)] = &[
    ("Namespace", "namespaces", &["ns"], false),
    ("ServiceAccount", "serviceaccounts", &["sa"], true),
    ("ConfigMap", "configmaps", &["cm"], true),
    ("Secret", "secrets", &[], true),
    ("Deployment", "deployments", &["deploy"], true),
    ("Pod", "pods", &["po"], true),
    ("Service", "services", &["svc"], true),
    ("EndpointSlice", "endpointslices", &["endpoints", "eps"], true),
];

/// Short names of mesh kinds, as Istio's CRDs define them.
const MESH_SHORT: &[(&str, &[&str])] = &[
    ("VirtualService", &["vs"]),
    ("DestinationRule", &["dr"]),
    ("ServiceEntry", &["se"]),
    ("WorkloadEntry", &["we"]),
    ("WorkloadGroup", &["wg"]),
    ("Gateway", &["gw", "gtw"]),
    ("PeerAuthentication", &["pa"]),
    ("AuthorizationPolicy", &["ap"]),
    ("RequestAuthentication", &["ra"]),
    ("Telemetry", &["telemetry"]),
];

/// API groups whose objects only Kubernetes' own controllers would act on.
const KUBERNETES_GROUPS: &[&str] =
    &["", "apps", "batch", "autoscaling", "policy", "rbac.authorization.k8s.io", "networking.k8s.io", "storage.k8s.io"];

/// Who acts on an object with this `apiVersion` and `kind`.
pub fn role(api_version: &str, kind: &str) -> Role {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let ours = match kind {
        "Deployment" => group == "apps",
        "EndpointSlice" => group == "discovery.k8s.io",
        _ => group.is_empty(),
    };
    if ours && SANDBOX.iter().any(|(k, ..)| *k == kind) {
        return Role::Sandbox;
    }
    if KUBERNETES_GROUPS.contains(&group) { Role::Ignored } else { Role::Mesh }
}

/// Whether objects of this kind live in a namespace. Unknown kinds do.
pub fn namespaced(kind: &str) -> bool {
    const CLUSTER: &[&str] = &[
        "Namespace",
        "GatewayClass",
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "Node",
        "PersistentVolume",
    ];
    !CLUSTER.contains(&kind)
}

/// Whether what a user typed (`po`, `pods`, `VirtualService`, `virtualservices.networking.istio.io`) names `kind`.
pub fn matches(typed: &str, kind: &str) -> bool {
    let typed = typed.split('.').next().unwrap_or(typed).to_ascii_lowercase();
    let lower = kind.to_ascii_lowercase();
    if typed == lower || typed == format!("{lower}s") || typed == format!("{lower}es") {
        return true;
    }
    if lower.strip_suffix('y').is_some_and(|stem| typed == format!("{stem}ies")) {
        return true;
    }
    let short = |names: &[&str]| names.contains(&typed.as_str());
    SANDBOX.iter().any(|(k, plural, names, _)| *k == kind && (*plural == typed || short(names)))
        || MESH_SHORT.iter().any(|(k, names)| *k == kind && short(names))
}

/// All kinds that can be asked for without an object of theirs being there.
pub fn known() -> impl Iterator<Item = &'static str> {
    SANDBOX.iter().map(|(kind, ..)| *kind).chain(MESH_SHORT.iter().map(|(kind, _)| *kind)).chain(["Sidecar"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_follow_group_and_kind() {
        assert_eq!(role("v1", "Pod"), Role::Sandbox);
        assert_eq!(role("apps/v1", "Deployment"), Role::Sandbox);
        assert_eq!(role("apps/v1", "StatefulSet"), Role::Ignored);
        assert_eq!(role("networking.istio.io/v1", "Gateway"), Role::Mesh);
        assert_eq!(role("networking.istio.io/v1", "ServiceEntry"), Role::Mesh);
    }

    #[test]
    fn typed_names_find_their_kind() {
        for typed in ["po", "pod", "pods", "Pod"] {
            assert!(matches(typed, "Pod"), "{typed}");
        }
        assert!(matches("peerauthentications.security.istio.io", "PeerAuthentication"));
        assert!(matches("authorizationpolicies", "AuthorizationPolicy"));
        assert!(matches("vs", "VirtualService"));
        assert!(matches("endpoints", "EndpointSlice"));
        assert!(!matches("svc", "ServiceEntry"));
    }
}
