//! A user's container named like the proxy: its fields win over ours.
//!
//! This is how Istio lets an author give the sidecar another image, resources or environment. The originals are kept in
//! an environment variable of the proxy's container, so that a second injection finds them. Not in an annotation: whoever
//! can only write annotations must not be able to change a container.

use serde_json::Value;

use crate::names::{ISTIO_PROXY_CONTAINER, PROXY_CONTAINER};
use crate::parts::{Object, Parts, name_of};

/// Fields that are taken whole: two handlers in one probe would be invalid.
const WHOLE: [&str; 5] = ["readinessProbe", "startupProbe", "livenessProbe", "postStart", "preStop"];
/// Lists whose entries have a key; an entry with the same key is replaced, others are added.
const KEYED: [(&str, &str); 3] = [("env", "name"), ("volumeMounts", "mountPath"), ("ports", "containerPort")];

/// Takes the user's proxy containers out of the pod, merged into one; empty when there are none.
pub(crate) fn take(pod: &mut Parts) -> Object {
    let mut overrides = Object::new();
    for list in [&mut pod.init_containers, &mut pod.containers] {
        for name in [ISTIO_PROXY_CONTAINER, PROXY_CONTAINER] {
            for container in list.extract_if(.., |container| name_of(container) == name) {
                merge(&mut overrides, container);
            }
        }
    }
    for fixed in ["name", "restartPolicy"] {
        overrides.remove(fixed);
    }
    // `auto` is how a user says "whatever you would inject".
    if overrides.get("image").and_then(Value::as_str) == Some("auto") {
        overrides.remove("image");
    }
    overrides
}

/// Lays `over` on top of `base`. Doing it twice is doing it once.
pub(crate) fn merge(base: &mut Object, over: Object) {
    for (field, value) in over {
        let Some(present) = base.get_mut(&field) else {
            base.insert(field, value);
            continue;
        };
        let key = KEYED.iter().find(|(list, _)| *list == field).map(|(_, key)| *key);
        match (present, value) {
            (Value::Object(present), Value::Object(value)) if !WHOLE.contains(&field.as_str()) => merge(present, value),
            (Value::Array(present), Value::Array(value)) if key.is_some() => {
                merge_list(present, value, key.unwrap_or_default());
            }
            (present, value) => *present = value,
        }
    }
}

fn merge_list(base: &mut Vec<Value>, over: Vec<Value>, key: &str) {
    for entry in over {
        match base.iter_mut().find(|present| present.get(key).is_some() && present.get(key) == entry.get(key)) {
            Some(present) => *present = entry,
            None => base.push(entry),
        }
    }
}
