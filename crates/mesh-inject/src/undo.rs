//! Takes an earlier injection back, so that injecting twice is injecting once.
//!
//! Whether a pod was injected is read from its containers; the status annotation is for people and tools, and anybody
//! could have written it.

use serde_json::Value;

use crate::containers::{self, APP_CONTAINERS, APP_PROBERS, OVERRIDES, PROMETHEUS};
use crate::names::{INIT_CONTAINER, PROXY_CONTAINER, VOLUMES};
use crate::parts::{Object, Parts, name_of};
use crate::{overrides, probes, prometheus};

/// Removes what [`crate::inject`] added earlier. Returns the user's overrides of the proxy: those of the earlier
/// injection, or those in the pod now.
pub(crate) fn undo(pod: &mut Parts) -> Object {
    let injected =
        |container: &Object| name_of(container) == PROXY_CONTAINER && env(container, APP_CONTAINERS).is_some();
    let Some(proxy) = pod.init_containers.iter().find(|container| injected(container)).cloned() else {
        return overrides::take(pod);
    };
    pod.init_containers.retain(|container| ![INIT_CONTAINER, PROXY_CONTAINER].contains(&name_of(container)));
    pod.volumes.retain(|volume| !VOLUMES.contains(&name_of(volume)));
    let probers = env_object(&proxy, APP_PROBERS).unwrap_or_default();
    for container in pod.containers.iter_mut().chain(&mut pod.init_containers) {
        probes::restore(container, &probers);
    }
    let target = env_object(&proxy, PROMETHEUS).map(Value::Object);
    prometheus::restore(pod, target.as_ref());
    // What a user added to the pod since then comes on top.
    let mut saved = env_object(&proxy, OVERRIDES).unwrap_or_default();
    overrides::merge(&mut saved, overrides::take(pod));
    saved
}

fn env<'a>(container: &'a Object, name: &str) -> Option<&'a str> {
    let list = container.get("env")?.as_array()?;
    list.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))?.get("value")?.as_str()
}

fn env_object(container: &Object, name: &str) -> Option<Object> {
    serde_json::from_str(&containers::unescape(env(container, name)?)).ok()
}
