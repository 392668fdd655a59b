//! Probes and lifecycle hooks that the kubelet sends over the network, led through the proxy.
//!
//! The kubelet has no certificate, so under strict mutual TLS its requests to the application would be refused. They
//! are rewritten to the proxy's status port, which is not captured; the proxy asks the application. The originals
//! travel in `MESH_APP_PROBERS`, keyed by path.

use serde_json::{Value, json};

use crate::names::port;
use crate::parts::{Object, name_of};

/// The three probes: field of the container, last segment of the path.
const PROBES: [(&str, &str); 3] =
    [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")];
/// The two hooks: field of `lifecycle`, last segment of the path.
const HOOKS: [(&str, &str); 2] = [("postStart", "poststartz"), ("preStop", "prestopz")];
/// What goes over the network and can be rewritten.
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Rewrites the probes and hooks of one container, adding the originals to `probers`.
pub(crate) fn rewrite(container: &mut Object, probers: &mut Object, warnings: &mut Vec<String>) {
    let name = name_of(container).to_owned();
    let ports = container.get("ports").cloned().unwrap_or_default();
    for (field, path, handler) in handlers(container, &name) {
        match original(handler, &ports) {
            Ok(None) => {}
            Ok(Some(prober)) => {
                for key in HANDLERS {
                    handler.remove(key);
                }
                handler.insert("httpGet".into(), json!({ "path": path, "port": port::STATUS }));
                probers.insert(path, prober);
            }
            Err(problem) => {
                warnings.push(format!("{field} of container {name} is left as it is: {problem}"));
            }
        }
    }
}

/// Puts the originals back, where a probe is one that [`rewrite`] made.
pub(crate) fn restore(container: &mut Object, probers: &Object) {
    let name = name_of(container).to_owned();
    for (_, path, handler) in handlers(container, &name) {
        let rewritten = handler.get("httpGet").is_some_and(|get| {
            get.get("path").and_then(Value::as_str) == Some(&path)
                && get.get("port").and_then(Value::as_u64) == Some(u64::from(port::STATUS))
        });
        let Some(prober) = probers.get(&path).filter(|_| rewritten) else { continue };
        handler.remove("httpGet");
        for key in HANDLERS {
            if let Some(value) = prober.get(key) {
                handler.insert(key.into(), value.clone());
            }
        }
    }
}

/// All probes and hooks of a container with the path that each has on the status port.
fn handlers<'a>(container: &'a mut Object, name: &str) -> Vec<(&'static str, String, &'a mut Object)> {
    let mut found = Vec::new();
    for (field, value) in container.iter_mut() {
        if let Some((field, segment)) = PROBES.iter().find(|(probe, _)| probe == field) {
            if let Value::Object(probe) = value {
                found.push((*field, format!("/app-health/{name}/{segment}"), probe));
            }
        } else if field == "lifecycle"
            && let Value::Object(lifecycle) = value
        {
            for (hook, value) in lifecycle.iter_mut() {
                if let (Some((hook, segment)), Value::Object(handler)) = (HOOKS.iter().find(|(h, _)| h == hook), value)
                {
                    found.push((*hook, format!("/app-lifecycle/{name}/{segment}"), handler));
                }
            }
        }
    }
    found
}

/// The prober for a handler: `None` if it does not use the network of the pod, an error if it cannot be understood.
fn original(handler: &Object, ports: &Value) -> Result<Option<Value>, String> {
    let mut present = HANDLERS.iter().filter_map(|key| Some((*key, handler.get(*key)?.as_object()?)));
    let Some((key, action)) = present.next() else { return Ok(None) };
    if present.next().is_some() {
        return Err("it has two handlers".into());
    }
    if action.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty()) {
        return Err("it names a host, so it does not ask this pod".into());
    }
    let mut action = action.clone();
    let port = resolve(action.get("port"), ports)?;
    action.insert("port".into(), port.into());
    let timeout = handler.get("timeoutSeconds").and_then(Value::as_u64).filter(|seconds| *seconds > 0).unwrap_or(1);
    Ok(Some(json!({ key: action, "timeoutSeconds": timeout })))
}

/// A port by number or by the name that the container gave it.
fn resolve(port: Option<&Value>, ports: &Value) -> Result<u16, String> {
    let number = match port {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(name)) => {
            let named = |port: &&Value| port.get("name").and_then(Value::as_str) == Some(name);
            let found = ports.as_array().into_iter().flatten().find(named);
            found.and_then(|port| port.get("containerPort")?.as_u64()).or_else(|| name.parse().ok())
        }
        _ => None,
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port != 0);
    number.ok_or_else(|| "its port is neither a number nor the name of a port of this container".into())
}
