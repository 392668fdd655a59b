//! The mesh inside the sandbox: its control plane as a built-in pod, injection, and the trust bundle for all namespaces.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Agent;
use super::world::World;
use crate::images;
use crate::objects::manifest::Object;
use crate::token;

/// The mesh's own namespace.
pub(crate) const NAMESPACE: &str = "mesh-system";
/// The control plane's Deployment, Service and service account.
pub(crate) const CONTROL: &str = "mesh-control";
/// The ConfigMap that holds the trust bundle, and its key.
pub(crate) const ROOT_CERT: (&str, &str) = ("mesh-root-cert", "root-cert.pem");
/// The pod through which published Services are reached.
pub(crate) const GATEWAY: &str = "sandbox-gateway";

/// How often the control plane's trust bundle is looked at: before there is one, and then.
const BUNDLE_SOON: Duration = Duration::from_millis(25);
/// See [`BUNDLE_SOON`].
const BUNDLE_LATER: Duration = Duration::from_secs(1);

/// Whether the programs of the mesh are here.
pub(crate) fn available(agent: &Agent) -> bool {
    ["mesh-control", "mesh-proxy", "mesh-cni"].iter().all(|p| images::find_program(p, &agent.programs).is_some())
}

/// The objects that the sandbox itself brings: namespaces, and the control plane where its program is here.
pub(crate) fn built_in(agent: &Agent, mesh: bool) -> Vec<Object> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let mut out = vec![namespace("default")];
    if mesh {
        out.push(namespace(NAMESPACE));
        out.extend(control(agent));
    }
    out.into_iter().filter_map(object).collect()
}

fn object(value: Value) -> Option<Object> {
    let text = value.to_string();
    crate::objects::manifest::parse("the sandbox itself", &text, "default").0.pop().map(|o| Object { text: None, ..o })
}

fn control(agent: &Agent) -> [Value; 3] {
    let meta = || json!({"name": CONTROL, "namespace": NAMESPACE, "labels": {"app": CONTROL}});
    let args = [
        "--config-dir=/etc/mesh/config",
        "--state-dir=/var/lib/mesh-control",
        "--token-keys=/etc/mesh/keys/jwks.json",
        &format!("--token-issuer={}", token::ISSUER),
    ];
    let host_path = |name: &str, path: std::path::PathBuf| json!({"name": name, "hostPath": {"path": path}});
    let ready = json!({"httpGet": {"path": "/ready", "port": 15014}, "periodSeconds": 2, "timeoutSeconds": 2});
    let container = json!({
        "name": CONTROL,
        "image": "mesh-control",
        "args": args,
        "ports": [
            {"name": "grpc-xds", "containerPort": 15012},
            {"name": "http-monitoring", "containerPort": 15014},
        ],
        "startupProbe": {"httpGet": {"path": "/ready", "port": 15014}, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": ready,
        "livenessProbe": {"tcpSocket": {"port": 15014}, "periodSeconds": 10, "timeoutSeconds": 5},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/mesh/config", "readOnly": true},
            {"name": "keys", "mountPath": "/etc/mesh/keys", "readOnly": true},
            {"name": "state", "mountPath": "/var/lib/mesh-control"},
        ],
    });
    let keys = agent.dir.token_keys().parent().map(std::path::Path::to_owned).unwrap_or_default();
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta()}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta(), "spec": {
            "selector": {"app": CONTROL},
            "ports": [
                {"name": "grpc-xds", "port": 15012},
                {"name": "http-monitoring", "port": 15014},
            ],
        }}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(), "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": CONTROL}},
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": {"app": CONTROL, "sidecar.istio.io/inject": "false"}},
                "spec": {
                    "serviceAccountName": CONTROL,
                    "terminationGracePeriodSeconds": 5,
                    "containers": [container],
                    "volumes": [
                        host_path("config", agent.dir.config()),
                        host_path("keys", keys),
                        host_path("state", agent.dir.control()),
                    ],
                },
            },
        }}),
    ]
}

/// The gateway through which published Services are reached: a meshed pod whose application does nothing.
pub(crate) fn gateway(mesh: bool) -> Vec<Object> {
    let namespace = if mesh { NAMESPACE } else { "default" };
    let meta = || json!({"name": GATEWAY, "namespace": namespace, "labels": {"app": GATEWAY}});
    let labels = json!({"app": GATEWAY, "sidecar.istio.io/inject": if mesh { "true" } else { "false" }});
    let container = json!({"name": "gateway", "image": images::PAUSE, "securityContext": {"runAsUser": 65534, "capabilities": {"drop": ["ALL"]}}});
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta()}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(), "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": GATEWAY}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": GATEWAY, "terminationGracePeriodSeconds": 5, "containers": [container]},
            },
        }}),
    ]
    .into_iter()
    .filter_map(object)
    .collect()
}

/// What a mutating webhook would do: injects the pod where its namespace or its own label asks for it.
///
/// Returns the pod and what its author should know.
pub(crate) fn admit(world: &World, pod: Value) -> Result<(Value, Vec<String>), String> {
    let settings = mesh_inject::Settings::default();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let decision = mesh_inject::decide(&pod, &world.namespace_labels(namespace), &settings);
    if !decision.is_inject() {
        return Ok((pod, decision.warnings));
    }
    if !world.mesh {
        let why =
            "the pod asks for injection, but mesh-control, mesh-proxy and mesh-cni are not in the programs folder";
        return Ok((pod, vec![why.into()]));
    }
    let injected = mesh_inject::inject(&pod, &settings).map_err(|err| format!("injection: {err}"))?;
    let mut warnings = decision.warnings;
    warnings.extend(injected.warnings);
    Ok((injected.pod, warnings))
}

/// Hands the control plane's trust bundle on to all namespaces, as the ConfigMap [`ROOT_CERT`].
pub(crate) async fn distribute_bundle(agent: Arc<Agent>) {
    let path = agent.dir.control().join(ROOT_CERT.1);
    loop {
        let bundle =
            tokio::fs::read_to_string(&path).await.ok().filter(|text| text.contains("-----END CERTIFICATE-----"));
        let wait = if bundle.is_some() { BUNDLE_LATER } else { BUNDLE_SOON };
        let changed = bundle.is_some() && agent.world().bundle != bundle;
        if changed {
            tracing::info!("the control plane's trust bundle is distributed");
            agent.world().bundle = bundle;
            agent.objects_changed();
        }
        tokio::time::sleep(wait).await;
    }
}
