//! Injection into manifests: a Pod, or whatever owns a pod template.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::decide::decide;
use crate::error::Error;
use crate::names::{INJECTION, NAMESPACE_NAME};
use crate::owner::Owner;
use crate::pod::{Injected, inject_for};
use crate::settings::Settings;

/// Kinds with a pod template, and where it is.
const TEMPLATES: [(&str, &str); 7] = [
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("ReplicationController", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];
/// How deep a `List` may contain lists.
const LIST_DEPTH_MAX: usize = 4;

/// Injects the sidecar into a manifest. `None` if it has no pods, or its pods are not to be injected (opt-out label,
/// hostNetwork, system namespace). Asking is the consent: namespace labels are not needed.
pub fn inject_document(document: &Value, settings: &Settings) -> Result<Option<Value>, Error> {
    Ok(inject_document_explained(document, settings)?.map(|injected| injected.pod))
}

/// [`inject_document`] with patch and warnings; [`Injected::pod`] is the whole document.
pub fn inject_document_explained(document: &Value, settings: &Settings) -> Result<Option<Injected>, Error> {
    let mut warnings = Vec::new();
    let mut patched = document.clone();
    if !inject_into(&mut patched, settings, &mut warnings, LIST_DEPTH_MAX)? {
        return Ok(None);
    }
    let patch = json_patch::diff(document, &patched);
    Ok(Some(Injected { pod: patched, patch, warnings }))
}

/// Whether anything was injected.
fn inject_into(
    document: &mut Value,
    settings: &Settings,
    warnings: &mut Vec<String>,
    depth: usize,
) -> Result<bool, Error> {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, api_version, name) = (text("/kind"), text("/apiVersion"), text("/metadata/name"));
    let namespace = Some(text("/metadata/namespace")).filter(|name| !name.is_empty());
    if kind == "List" && depth > 0 {
        let mut any = false;
        for item in document.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
            any |= inject_into(item, settings, warnings, depth - 1)?;
        }
        return Ok(any);
    }
    let (pod, owner) = if kind == "Pod" {
        (document, None)
    } else {
        let Some((_, path)) = TEMPLATES.iter().find(|(known, _)| *known == kind) else { return Ok(false) };
        let Some(template) = document.pointer_mut(path) else { return Ok(false) };
        (template, Some(Owner { api_version, kind, name }))
    };
    let mut consent = BTreeMap::from([(INJECTION.to_owned(), "enabled".to_owned())]);
    consent.extend(namespace.clone().map(|name| (NAMESPACE_NAME.to_owned(), name)));
    // Whoever calls this chose the injector; revisions are for webhooks to tell pods apart.
    let any_revision = Settings { revision: "default".into(), ..settings.clone() };
    let decision = decide(pod, &consent, &any_revision);
    warnings.extend(decision.warnings.iter().cloned());
    if !decision.is_inject() {
        return Ok(false);
    }
    let injected = inject_for(pod, owner, namespace.as_deref(), settings)?;
    warnings.extend(injected.warnings);
    *pod = injected.pod;
    Ok(true)
}

#[cfg(test)]
mod tests;
