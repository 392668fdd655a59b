//! The two containers and four volumes that injection adds, built as values.

use serde_json::{Value, json};

use crate::annotations::{Wishes, join};
use crate::names::*;
use crate::owner::Owner;
use crate::parts::{Object, Parts, name_of};
use crate::settings::{Resources, Settings};

/// Names of the pod's own containers, with commas.
pub(crate) const APP_CONTAINERS: &str = "MESH_APP_CONTAINERS";
/// The probes as they were, JSON.
pub(crate) const APP_PROBERS: &str = "MESH_APP_PROBERS";
/// The application's own metrics, JSON.
pub(crate) const PROMETHEUS: &str = "MESH_PROMETHEUS";
/// The user's overrides of the proxy, JSON, kept for the next injection.
pub(crate) const OVERRIDES: &str = "MESH_OVERRIDES";
const CPU_LIMIT: &str = "MESH_CPU_LIMIT";
/// Kubernetes' default for `terminationGracePeriodSeconds`.
const GRACE_PERIOD_SECONDS: u64 = 30;

/// What the proxy's environment says about the pod, gathered before the containers are built.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Parts,
    pub(crate) namespace: &'a str,
    pub(crate) owner: &'a Owner,
    pub(crate) wishes: &'a Wishes,
    pub(crate) probers: &'a Object,
    pub(crate) prometheus: Option<&'a Value>,
    pub(crate) overrides: &'a Object,
    pub(crate) settings: &'a Settings,
}

/// `mesh-init`: sets the redirect rules and ends. Root, because the kernel wants it for rules, and with nothing else.
pub(crate) fn init(facts: &Facts<'_>) -> Object {
    let Facts { wishes, settings, .. } = facts;
    let excluded = EXCLUDED_INBOUND_PORTS.iter().chain(&wishes.exclude_inbound_ports);
    let args = [
        "init".to_owned(),
        "--proxy-uid".into(),
        PROXY_UID.to_string(),
        "--proxy-gid".into(),
        PROXY_UID.to_string(),
        "--outbound-port".into(),
        port::OUTBOUND.to_string(),
        "--inbound-port".into(),
        port::INBOUND.to_string(),
        "--include-inbound-ports".into(),
        wishes.include_inbound_ports.argument(),
        "--exclude-inbound-ports".into(),
        join(excluded),
        "--include-outbound-ranges".into(),
        wishes.include_outbound_ranges.argument(),
        "--exclude-outbound-ranges".into(),
        join(&wishes.exclude_outbound_ranges),
        "--include-outbound-ports".into(),
        join(&wishes.include_outbound_ports),
        "--exclude-outbound-ports".into(),
        join(&wishes.exclude_outbound_ports),
        "--exclude-interfaces".into(),
        join(&wishes.exclude_interfaces),
    ];
    let container = json!({
        "name": INIT_CONTAINER,
        "image": settings.init_image,
        "args": args,
        "resources": resources(&wishes.resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    });
    finish(container, settings)
}

/// `mesh-proxy`: the native sidecar.
pub(crate) fn proxy(facts: &Facts<'_>) -> Object {
    let Facts { wishes, settings, .. } = facts;
    let container = json!({
        "name": PROXY_CONTAINER,
        "image": settings.proxy_image,
        "args": ["sidecar"],
        "restartPolicy": "Always",
        "env": env(facts),
        "ports": [{ "containerPort": port::METRICS, "name": "http-envoy-prom", "protocol": "TCP" }],
        "resources": resources(&wishes.resources),
        // Its output goes into the pod's events while the pod does not start.
        "startupProbe": {
            "exec": { "command": ["mesh-proxy", "ready", "--explain"] },
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": 600,
        },
        "readinessProbe": {
            "httpGet": { "path": "/healthz/ready", "port": port::HEALTH },
            "initialDelaySeconds": wishes.readiness.initial_delay,
            "periodSeconds": wishes.readiness.period,
            "timeoutSeconds": 3,
            "failureThreshold": wishes.readiness.failures,
        },
        "lifecycle": { "preStop": { "exec": { "command": ["mesh-proxy", "drain"] } } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": true,
            "runAsUser": PROXY_UID,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [
            { "name": DATA_VOLUME, "mountPath": STATE_PATH },
            { "name": TOKEN_VOLUME, "mountPath": "/var/run/secrets/tokens", "readOnly": true },
            { "name": ROOT_CERT_VOLUME, "mountPath": "/var/run/secrets/mesh", "readOnly": true },
            { "name": PODINFO_VOLUME, "mountPath": "/etc/mesh/pod", "readOnly": true },
        ],
    });
    let mut container = finish(container, settings);
    crate::overrides::merge(&mut container, facts.overrides.clone());
    add_cpu_limit(&mut container);
    container
}

/// The volumes, in the order of [`VOLUMES`].
pub(crate) fn volumes() -> Vec<Object> {
    let downward = |path: &str| json!({ "path": path, "fieldRef": { "fieldPath": format!("metadata.{path}") } });
    let list = [
        json!({ "name": DATA_VOLUME, "emptyDir": { "medium": "Memory" } }),
        json!({ "name": TOKEN_VOLUME, "projected": { "sources": [{ "serviceAccountToken": {
            "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_EXPIRATION_SECONDS, "path": "mesh-token",
        } }] } }),
        json!({ "name": ROOT_CERT_VOLUME, "configMap": { "name": ROOT_CERT_CONFIG_MAP } }),
        json!({ "name": PODINFO_VOLUME, "downwardAPI": { "items": [downward("labels"), downward("annotations")] } }),
    ];
    list.into_iter().map(into_object).collect()
}

fn env(facts: &Facts<'_>) -> Vec<Value> {
    let Facts { pod, owner, wishes, settings, .. } = facts;
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let value = |name: &str, value: &str| json!({ "name": name, "value": escape(value) });
    let grace = pod.spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(GRACE_PERIOD_SECONDS);
    let mut list = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("INSTANCE_IP", "status.podIP"),
        field("INSTANCE_IPS", "status.podIPs"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        field("NODE_NAME", "spec.nodeName"),
        value("MESH_CONTROL_ADDRESS", &settings.control_address),
        value("MESH_CONTROL_IDENTITY", &settings.control_identity()),
        value("MESH_TRUST_DOMAIN", &settings.trust_domain),
        value("MESH_CLUSTER_DOMAIN", &settings.cluster_domain),
        value("MESH_CLUSTER_ID", &settings.cluster_id),
        value("MESH_ID", settings.mesh_id()),
        value("MESH_WORKLOAD_NAME", &owner.name),
        value("MESH_OWNER", &owner.path(facts.namespace)),
        value(APP_CONTAINERS, &join(pod.containers.iter().map(name_of))),
        value("MESH_GRACE_PERIOD_SECONDS", &grace.to_string()),
        value("MESH_LOG_LEVEL", &wishes.log_level),
    ];
    if let Some(workers) = wishes.concurrency {
        list.push(value("MESH_CONCURRENCY", &workers.to_string()));
    }
    if !facts.probers.is_empty() {
        list.push(value(APP_PROBERS, &Value::Object(facts.probers.clone()).to_string()));
    }
    if let Some(target) = facts.prometheus {
        list.push(value(PROMETHEUS, &target.to_string()));
    }
    if !facts.overrides.is_empty() {
        list.push(value(OVERRIDES, &Value::Object(facts.overrides.clone()).to_string()));
    }
    list
}

/// The proxy makes a worker per CPU that it may use, so it is told the limit that holds after the overrides.
fn add_cpu_limit(container: &mut Object) {
    let limit = container.get("resources").and_then(|resources| resources.get("limits")?.get("cpu"));
    let cpus = match limit {
        Some(Value::String(text)) => crate::quantity::whole_cpus(text),
        Some(Value::Number(number)) => crate::quantity::whole_cpus(&number.to_string()),
        _ => None,
    };
    let (Some(cpus), Some(Value::Array(env))) = (cpus, container.get_mut("env")) else { return };
    if !env.iter().any(|entry| entry.get("name").and_then(Value::as_str) == Some(CPU_LIMIT)) {
        env.push(json!({ "name": CPU_LIMIT, "value": cpus.to_string() }));
    }
}

fn resources(wanted: &Resources) -> Value {
    let map = |cpu: &Option<String>, memory: &Option<String>| {
        let entries = [("cpu", cpu), ("memory", memory)];
        entries
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())))
            .collect::<Object>()
    };
    let requests = map(&wanted.cpu_request, &wanted.memory_request);
    let limits = map(&wanted.cpu_limit, &wanted.memory_limit);
    let lists = [("limits", limits), ("requests", requests)];
    Value::Object(lists.into_iter().filter(|(_, map)| !map.is_empty()).map(|(n, map)| (n.into(), map.into())).collect())
}

fn finish(container: Value, settings: &Settings) -> Object {
    let mut container = into_object(container);
    if let Some(policy) = &settings.image_pull_policy {
        container.insert("imagePullPolicy".into(), policy.as_str().into());
    }
    container
}

fn into_object(value: Value) -> Object {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("built above as an object"),
    }
}

/// Kubernetes expands `$(NAME)` in the values of environment variables; these are to arrive as they are.
pub(crate) fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

/// The inverse of [`escape`].
pub(crate) fn unescape(text: &str) -> String {
    text.replace("$$", "$")
}
