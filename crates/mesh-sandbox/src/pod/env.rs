//! A container's environment: values, references and `$(NAME)` expansion, as Kubernetes defines them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::objects::spec::{Container, EnvVar, FieldRef, PodSpec, ResourceFieldRef};

/// The data of a ConfigMap or Secret, by its name.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<BTreeMap<String, Vec<u8>>> + 'a;

/// Where references are looked up. A `None` means that the object or key does not exist (yet).
pub(crate) struct Sources<'a> {
    /// The pod object: metadata and spec.
    pub(crate) pod: &'a Value,
    pub(crate) spec: &'a PodSpec,
    pub(crate) pod_ips: &'a [String],
    pub(crate) host_ip: &'a str,
    /// Data of a ConfigMap.
    pub(crate) config_map: &'a Lookup<'a>,
    /// Data of a Secret, decoded.
    pub(crate) secret: &'a Lookup<'a>,
}

/// The environment of `container`. The error says which reference cannot be resolved.
pub(crate) fn environment(container: &Container, sources: &Sources<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut out = BTreeMap::new();
    for from in &container.env_from {
        let (kind, data, name) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(name), _) => ("ConfigMap", (sources.config_map)(&name.name), name),
            (None, Some(name)) => ("Secret", (sources.secret)(&name.name), name),
            (None, None) => continue,
        };
        match data {
            Some(data) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                out.extend(data.iter().map(|(k, v)| (format!("{}{k}", from.prefix), text(v))));
            }
            None if name.optional => {}
            None => return Err(format!("{kind} {:?} does not exist", name.name)),
        }
    }
    for var in &container.env {
        let value = match &var.value_from {
            None => Some(expand(var.value.as_deref().unwrap_or_default(), &out)),
            Some(_) => reference(var, container, sources)?,
        };
        if let Some(value) = value {
            out.insert(var.name.clone(), value);
        }
    }
    Ok(out)
}

fn reference(var: &EnvVar, container: &Container, sources: &Sources<'_>) -> Result<Option<String>, String> {
    let Some(from) = &var.value_from else { return Ok(None) };
    let at = &var.name;
    if let Some(field_ref) = &from.field_ref {
        return field(field_ref, sources).map(Some).map_err(|why| format!("env {at}: {why}"));
    }
    if let Some(resource) = &from.resource_field_ref {
        return resource_field(resource, container, sources.spec).map(Some).map_err(|why| format!("env {at}: {why}"));
    }
    let (kind, key, data) = match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(key), _) => ("ConfigMap", key, (sources.config_map)(&key.name)),
        (None, Some(key)) => ("Secret", key, (sources.secret)(&key.name)),
        (None, None) => return Err(format!("env {at}: this kind of valueFrom is not supported")),
    };
    match data.and_then(|d| d.get(&key.key).cloned()) {
        Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        None if key.optional => Ok(None),
        None => Err(format!("env {at}: {kind} {:?} has no key {:?} (or does not exist)", key.name, key.key)),
    }
}

/// The value of a `fieldRef`.
pub(crate) fn field(reference: &FieldRef, sources: &Sources<'_>) -> Result<String, String> {
    let metadata = &sources.pod["metadata"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let path = reference.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = map.strip_prefix("metadata.").filter(|m| matches!(*m, "labels" | "annotations"));
        let map = map.ok_or_else(|| format!("fieldPath {path:?} is not supported"))?;
        return Ok(word(&metadata[map][key]));
    }
    Ok(match path {
        "metadata.name" => word(&metadata["name"]),
        "metadata.namespace" => word(&metadata["namespace"]),
        "metadata.uid" => word(&metadata["uid"]),
        "metadata.labels" => map_lines(&metadata["labels"]),
        "metadata.annotations" => map_lines(&metadata["annotations"]),
        "spec.serviceAccountName" => sources.spec.account().to_owned(),
        "spec.nodeName" => sources.spec.node_name.clone().unwrap_or_default(),
        "status.podIP" => sources.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => sources.pod_ips.join(","),
        "status.hostIP" | "status.hostIPs" => sources.host_ip.to_owned(),
        _ => return Err(format!("fieldPath {path:?} is not supported")),
    })
}

/// Labels or annotations as the downward API writes them: `key="value"`, one a line, sorted.
fn map_lines(map: &Value) -> String {
    let Some(map) = map.as_object() else { return String::new() };
    let sorted: BTreeMap<_, _> = map.iter().collect();
    let lines: Vec<_> = sorted.iter().map(|(k, v)| format!("{k}={:?}", v.as_str().unwrap_or_default())).collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`, in units of its divisor, rounded up. An absent limit is the machine's.
pub(crate) fn resource_field(reference: &ResourceFieldRef, own: &Container, spec: &PodSpec) -> Result<String, String> {
    let container = match &reference.container_name {
        Some(name) => {
            spec.all_containers().find(|c| &c.name == name).ok_or_else(|| format!("no container {name:?}"))?
        }
        None => own,
    };
    let (list, what) = reference.resource.split_once('.').unwrap_or(("", ""));
    let given = match list {
        "limits" => container.resources.limits.get(what),
        "requests" => container.resources.requests.get(what),
        _ => return Err(format!("resource {:?} is not limits.* or requests.*", reference.resource)),
    };
    let amount = match given {
        Some(value) => quantity(value).ok_or_else(|| format!("{:?} is not a quantity", value.to_string()))?,
        None if list == "requests" => 0.0,
        None if what == "cpu" => std::thread::available_parallelism().map_or(1, usize::from) as f64,
        None => 0.0,
    };
    let divisor = reference.divisor.as_ref().and_then(quantity).filter(|d| *d > 0.0).unwrap_or(1.0);
    Ok(format!("{:.0}", (amount / divisor).ceil()))
}

/// A Kubernetes quantity (`250m`, `1Gi`, `2`) as a number.
fn quantity(value: &Value) -> Option<f64> {
    if let Some(number) = value.as_f64() {
        return Some(number);
    }
    let text = value.as_str()?;
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let factor = match &text[end..] {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    text[..end].parse::<f64>().ok().map(|n| n * factor)
}

/// Replaces `$(NAME)` by the variable's value; unknown names stay as they are, `$$` is a dollar sign.
pub(crate) fn expand(text: &str, vars: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let named = tail.strip_prefix('(').and_then(|t| t.split_once(')'));
        match named {
            Some((name, after)) => {
                match vars.get(name) {
                    Some(value) => out.push_str(value),
                    None => {
                        out.push_str("$(");
                        out.push_str(name);
                        out.push(')');
                    }
                }
                rest = after;
            }
            None => {
                out.push('$');
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_follow_kubernetes() {
        let vars = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("x$(A)y $(B) $$(A) $A $", &vars), "x1y $(B) $(A) $A $");
    }

    #[test]
    fn references_are_resolved() {
        let pod = serde_json::json!({"metadata": {"name": "p", "labels": {"app": "a", "b": "c"}}});
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}},
            "env": [
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "U", "value": "http://$(IP)/$(N)"},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "O", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": true}}},
            ]
        }))
        .unwrap();
        let sources = Sources {
            pod: &pod,
            spec: &PodSpec::default(),
            pod_ips: &["10.244.0.2".to_owned()],
            host_ip: "10.244.0.1",
            config_map: &|name| (name == "cm").then(|| BTreeMap::from([("k".to_owned(), b"v".to_vec())])),
            secret: &|_| None,
        };
        let env = environment(&container, &sources).unwrap();
        let get = |k: &str| env.get(k).map(String::as_str);
        assert_eq!(get("U"), Some("http://10.244.0.2/p"));
        assert_eq!(
            (get("L"), get("CPU"), get("M"), get("K"), get("O")),
            (Some("a"), Some("2"), Some("1024"), Some("v"), None)
        );
        assert_eq!(map_lines(&pod["metadata"]["labels"]), "app=\"a\"\nb=\"c\"");
    }
}
