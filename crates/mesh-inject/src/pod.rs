//! The injection itself, as a story: undo, read wishes, rewrite, build, describe, diff.

use serde_json::{Value, json};

use crate::annotations;
use crate::containers::{self, Facts};
use crate::error::Error;
use crate::names::*;
use crate::owner::Owner;
use crate::parts::{Object, Parts, name_of};
use crate::settings::Settings;
use crate::{probes, prometheus, undo};

/// Longest value of a label, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// An injected pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The pod as it is to be created.
    pub pod: Value,
    /// The JSON patch (RFC 6902) that leads from the pod given to [`Injected::pod`]; empty if nothing changed.
    pub patch: json_patch::Patch,
    /// What the author should know: one sentence each, without line breaks.
    pub warnings: Vec<String>,
}

/// Injects the sidecar into a pod (`metadata` and `spec` of a `v1` Pod, or a pod template).
///
/// Whether it is to be injected is [`crate::decide()`]'s answer, not asked here. Injecting an injected pod changes
/// nothing. Errors are the author's to fix; the text says how.
pub fn inject(pod: &Value, settings: &Settings) -> Result<Injected, Error> {
    inject_for(pod, None, None, settings)
}

/// [`inject`] for a pod whose owner and namespace are known before the pod says so (a template in its Deployment).
pub(crate) fn inject_for(
    pod: &Value,
    owner: Option<Owner>,
    namespace: Option<&str>,
    settings: &Settings,
) -> Result<Injected, Error> {
    let mut warnings = Vec::new();
    let mut parts = Parts::read(pod)?;
    if parts.spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        return Err(Error::HostNetwork);
    }
    if let Some(container) = foreign_sidecar(&parts) {
        return Err(Error::ForeignSidecar { container });
    }
    let overrides = undo::undo(&mut parts);
    refuse_reserved_names(&parts)?;
    let wishes = annotations::read(&parts, settings, &mut warnings)?;
    report_dangers(&parts, &mut warnings);

    let owner = owner.unwrap_or_else(|| Owner::of(&parts));
    let mut probers = Object::new();
    if wishes.rewrite_probes {
        let own = parts.containers.iter_mut().chain(&mut parts.init_containers);
        own.for_each(|container| probes::rewrite(container, &mut probers, &mut warnings));
    }
    let prometheus = prometheus::merge(&mut parts, settings, &mut warnings)?;

    let facts = Facts {
        pod: &parts,
        namespace: parts.metadata_string("namespace").or(namespace).unwrap_or(DEFAULT_NAMESPACE),
        owner: &owner,
        wishes: &wishes,
        probers: &probers,
        prometheus: prometheus.as_ref(),
        overrides: &overrides,
        settings,
    };
    // The order is the order of starting: rules, then the proxy, then whatever wants to use the network.
    let ours = [containers::init(&facts), containers::proxy(&facts)];
    parts.init_containers.splice(0..0, ours);
    parts.volumes.extend(containers::volumes());
    describe(&mut parts, &owner, settings);

    let injected = parts.write();
    let patch = json_patch::diff(pod, &injected);
    Ok(Injected { pod: injected, patch, warnings })
}

/// The container that shows that Istio was here first.
pub(crate) fn foreign_sidecar(pod: &Parts) -> Option<String> {
    let all = || pod.init_containers.iter().chain(&pod.containers);
    let istio_init = |container: &&Object| ["istio-init", "istio-validation"].contains(&name_of(container));
    // A user's overrides are named the same, but only an injected proxy is told to be one.
    let istio_proxy = |container: &&Object| {
        let first = container.get("args").and_then(|args| args.get(0)?.as_str());
        name_of(container) == ISTIO_PROXY_CONTAINER && first == Some("proxy")
    };
    let found = all().find(istio_init).or_else(|| all().find(istio_proxy))?;
    Some(name_of(found).to_owned())
}

fn refuse_reserved_names(pod: &Parts) -> Result<(), Error> {
    let mut containers = pod.init_containers.iter().chain(&pod.containers);
    if containers.any(|container| name_of(container) == INIT_CONTAINER) {
        return Err(Error::ReservedName { what: "container", name: INIT_CONTAINER });
    }
    match VOLUMES.iter().find(|name| pod.volumes.iter().any(|volume| name_of(volume) == **name)) {
        Some(name) => Err(Error::ReservedName { what: "volume", name }),
        None => Ok(()),
    }
}

/// What works, but not as the author may think.
fn report_dangers(pod: &Parts, warnings: &mut Vec<String>) {
    if pod.spec.get("shareProcessNamespace") == Some(&Value::Bool(true)) {
        warnings.push("shareProcessNamespace: true lets the other containers reach into the proxy's process".into());
    }
    let runs_as = |context: Option<&Value>| {
        ["runAsUser", "runAsGroup"]
            .iter()
            .any(|id| context.and_then(|context| context.get(*id)?.as_u64()) == Some(u64::from(PROXY_UID)))
    };
    let pod_wide = runs_as(pod.spec.get("securityContext"));
    for container in pod.containers.iter().chain(&pod.init_containers) {
        let name = name_of(container);
        if pod_wide || runs_as(container.get("securityContext")) {
            warnings
                .push(format!("container {name} runs as {PROXY_UID}, the proxy's user: its traffic is not captured"));
        }
        let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        for port in ports.filter_map(|port| port.get("containerPort")?.as_u64()) {
            if port::PROXY.iter().any(|reserved| u64::from(*reserved) == port) {
                warnings.push(format!("container {name} has port {port}, on which the proxy listens"));
            }
        }
    }
}

/// Labels and annotations by which others recognise the pod. What the author set stays.
fn describe(pod: &mut Parts, owner: &Owner, settings: &Settings) {
    let first = |names: [&str; 3]| names.iter().find_map(|name| pod.label(name).filter(|text| !text.is_empty()));
    let name = first([CANONICAL_NAME, APP_NAME, APP]).unwrap_or(&owner.name);
    let name = label_value(name).to_owned();
    let version = first([CANONICAL_REVISION, APP_VERSION, VERSION]).unwrap_or("latest");
    let version = label_value(version).to_owned();
    pod.labels.insert(TLS_MODE.into(), TLS_MODE_ISTIO.into());
    for (label, value) in [(CANONICAL_NAME, name), (CANONICAL_REVISION, version)] {
        if !value.is_empty() {
            pod.labels.insert(label.into(), value.into());
        }
    }
    if let Some(main) = pod.containers.first().map(|container| name_of(container).to_owned()) {
        for annotation in ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"] {
            pod.annotations.entry(annotation).or_insert_with(|| main.clone().into());
        }
    }
    let status = json!({
        "initContainers": [INIT_CONTAINER, PROXY_CONTAINER],
        "containers": null,
        "volumes": VOLUMES,
        "imagePullSecrets": null,
        "revision": settings.revision,
    });
    pod.annotations.insert(SIDECAR_STATUS.into(), status.to_string().into());
    pod.annotations.insert(ISTIO_REVISION.into(), settings.revision.as_str().into());
}

/// A name cut to what a label may hold.
fn label_value(text: &str) -> &str {
    let mut end = text.len().min(LABEL_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
