//! What people are shown: the rows of `status` and of `get`.

use jiff::Timestamp;
use serde_json::Value;

use super::world::{PodEntry, World};
use crate::objects::kinds;
use crate::objects::manifest::Object;
use crate::pod::status::Phase;
use crate::protocol::{Network, PodRow, Shown, Status};

/// The state of everything.
pub(crate) fn status(name: &str, network: u32, world: &World) -> Status {
    let mut pods: Vec<PodRow> = world.pods.values().map(pod_row).collect();
    let own = |p: &PodRow| p.namespace == super::mesh::NAMESPACE;
    pods.sort_by(|a, b| (!own(a), &a.namespace, &a.name).cmp(&(!own(b), &b.namespace, &b.name)));
    let settled = world.problems.is_empty() && settled(world);
    let stuck = |p: &PodEntry| p.status.complaints().iter().any(|(_, why)| why.starts_with("CreateContainerError"));
    let waiting =
        world.pods.values().filter(|p| !p.available() && !p.terminating() && p.status.phase != Phase::Succeeded);
    let mut waiting = waiting.peekable();
    let hopeless = !settled && (waiting.peek().is_some() || !world.problems.is_empty()) && waiting.all(stuck);
    let mut ignored: Vec<String> =
        world.ignored.iter().flat_map(|(key, what)| what.iter().map(move |w| format!("{key}: {w}"))).collect();
    for pod in world.pods.values() {
        let of = pod.owner.as_ref().map_or_else(|| format!("pod/{}", pod.name), |(key, _)| key.to_string());
        ignored.extend(pod.ignored.iter().map(|w| format!("{of}: {w}")));
    }
    ignored.sort();
    ignored.dedup();
    Status {
        name: name.to_owned(),
        network: Network { pid: network },
        pods,
        published: world.published.clone(),
        problems: world.problems.iter().map(|(key, why)| format!("{key}: {why}")).collect(),
        ignored,
        findings: Vec::new(),
        settled,
        hopeless,
        mesh: world.mesh,
    }
}

fn settled(world: &World) -> bool {
    let deployments = world.of_kind("apps", "Deployment").all(|deployment| {
        let wanted = deployment.value["spec"]["replicas"].as_u64().unwrap_or(1);
        let own = || world.pods.values().filter(|p| p.owner.as_ref().is_some_and(|(key, _)| *key == deployment.key));
        let current = super::reconcile::template_hash(deployment);
        let fresh = own()
            .filter(|p| p.available() && p.owner.as_ref().is_some_and(|(_, hash)| *hash == current))
            .count() as u64;
        let old = own().filter(|p| !p.terminating()).count() as u64;
        fresh == wanted && old == wanted
    });
    let single = |p: &PodEntry| p.available() || p.status.phase == Phase::Succeeded;
    let pods = world.of_kind("", "Pod").all(|pod| {
        world
            .pods
            .values()
            .any(|p| p.owner.is_none() && p.namespace == pod.key.namespace && p.name == pod.key.name && single(p))
    });
    deployments && pods
}

fn pod_row(pod: &PodEntry) -> PodRow {
    let living = || pod.status.containers.iter().filter(|c| !c.init || c.sidecar);
    PodRow {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        pid: pod.status.pid,
        ready: (living().filter(|c| c.ready).count(), living().count()),
        status: pod.status.summary(pod.terminating()),
        restarts: pod.status.containers.iter().map(|c| c.restarts).sum(),
        address: pod.status.addresses.first().map(ToString::to_string).unwrap_or_default(),
        age_seconds: pod.status.since.map_or(0, |t| Timestamp::now().as_second() - t.as_second()),
        meshed: pod.spec.all_containers().any(|c| c.name == "mesh-proxy"),
        well: pod.available() || pod.status.phase == Phase::Succeeded,
        complaints: pod.status.complaints(),
        events: pod.status.events().to_vec(),
    }
}

/// Objects of a kind, as rows.
pub(crate) fn get(world: &World, kind: &str, namespace: Option<&str>, name: Option<&str>) -> Vec<Shown> {
    let wanted = |ns: &str, n: &str| namespace.is_none_or(|w| ns.is_empty() || w == ns) && name.is_none_or(|w| w == n);
    let mut out = Vec::new();
    if kinds::matches(kind, "Pod") {
        for pod in world.pods.values().filter(|p| wanted(&p.namespace, &p.name)) {
            out.push(Shown { object: pod.to_json(), cells: pod_cells(&pod_row(pod)), mesh: None });
        }
    }
    if kinds::matches(kind, "EndpointSlice") {
        for slice in super::endpoints::slices(world) {
            let word = |key: &str| slice["metadata"][key].as_str().unwrap_or_default().to_owned();
            if wanted(&word("namespace"), &word("name")) {
                out.push(Shown { cells: slice_cells(&slice), object: slice, mesh: None });
            }
        }
    }
    for object in world.objects.values().filter(|o| kinds::matches(kind, &o.key.kind) && o.key.kind != "Pod") {
        if wanted(&object.key.namespace, &object.key.name) {
            out.push(Shown { object: shown(object), cells: cells(world, object), mesh: None });
        }
    }
    out.sort_by_cached_key(|s| {
        (s.object["metadata"]["namespace"].to_string(), s.object["metadata"]["name"].to_string())
    });
    out
}

/// A Secret's values are not shown; whoever needs them has the manifest.
fn shown(object: &Object) -> Value {
    let mut value = object.value.clone();
    if object.key.kind == "Secret" {
        for field in ["data", "stringData"] {
            for secret in value[field].as_object_mut().into_iter().flat_map(|m| m.values_mut()) {
                *secret = "(not shown)".into();
            }
        }
    }
    value
}

fn cell(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn pod_cells(row: &PodRow) -> Vec<(String, String)> {
    vec![
        cell("NAME", &row.name),
        cell("READY", format!("{}/{}", row.ready.0, row.ready.1)),
        cell("STATUS", &row.status),
        cell("RESTARTS", row.restarts),
        cell("AGE", age(row.age_seconds)),
        cell("ADDRESS", &row.address),
    ]
}

fn slice_cells(slice: &Value) -> Vec<(String, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let ports: Vec<String> = list(&slice["ports"]).iter().map(|p| p["port"].to_string()).collect();
    let endpoints: Vec<String> = list(&slice["endpoints"])
        .iter()
        .map(|e| {
            let ready = if e["conditions"]["ready"] == true { "" } else { " (not ready)" };
            format!("{}{ready}", e["addresses"][0].as_str().unwrap_or_default())
        })
        .collect();
    vec![
        cell("NAME", slice["metadata"]["name"].as_str().unwrap_or_default()),
        cell("PORTS", ports.join(",")),
        cell("ENDPOINTS", endpoints.join(", ")),
    ]
}

fn cells(world: &World, object: &Object) -> Vec<(String, String)> {
    let value = &object.value;
    let mut out = vec![cell("NAME", &object.key.name)];
    let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    match object.key.kind.as_str() {
        "Service" => {
            let ports: Vec<String> = value["spec"]["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|p| format!("{}/{}", p["port"], p["protocol"].as_str().unwrap_or("TCP")))
                .collect();
            out.push(cell("TYPE", value["spec"]["type"].as_str().unwrap_or("ClusterIP")));
            out.push(cell("CLUSTER-IP", word(&value["spec"]["clusterIP"])));
            out.push(cell("PORTS", ports.join(",")));
        }
        "Deployment" => {
            let own = || world.pods.values().filter(|p| p.owner.as_ref().is_some_and(|(key, _)| *key == object.key));
            let wanted = value["spec"]["replicas"].as_u64().unwrap_or(1);
            out.push(cell("READY", format!("{}/{wanted}", own().filter(|p| p.available()).count())));
        }
        "Namespace" => {
            let labels = world.namespace_labels(&object.key.name);
            let injected = ["mesh-injection", "istio-injection"].iter().find_map(|l| labels.get(*l));
            out.push(cell("INJECTION", injected.map_or("-", String::as_str)));
        }
        "ConfigMap" | "Secret" => {
            let count = ["data", "binaryData", "stringData"]
                .iter()
                .filter_map(|f| value[f].as_object())
                .map(serde_json::Map::len);
            out.push(cell("DATA", count.sum::<usize>()));
        }
        _ => {}
    }
    let made = value["metadata"]["creationTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    if let Some(made) = made {
        out.push(cell("AGE", age(Timestamp::now().as_second() - made.as_second())));
    }
    out
}

/// A duration as kubectl shows it: the two largest units at most.
pub(crate) fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7199 => format!("{}m", s / 60),
        s @ 7200..=172_799 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86400),
    }
}
