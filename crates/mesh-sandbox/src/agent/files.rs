//! The folder that mesh-control reads: one file per object, each replaced by rename.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::world::World;
use crate::objects::kinds::{self, Role};
use crate::objects::manifest::{Key, Object};

/// A document further down in its file than this is written without its line number.
const LINES_MAX: u32 = 20_000;

/// Kubernetes' kinds that mesh-control reads. Pods and EndpointSlices come from what runs.
const READ: &[&str] = &["Namespace", "Service", "ServiceAccount", "EndpointSlice"];

/// What the folder should hold: file names and contents.
pub(crate) fn contents(world: &World, slices: &[Value]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for object in world.objects.values() {
        if let Some(content) = content(object) {
            out.insert(object.key.file_name(), content);
        }
    }
    let name =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut put = |group: &str, kind: &str, value: &Value| {
        let key = Key::of(group, kind, &name(value, "/metadata/namespace"), &name(value, "/metadata/name"));
        out.insert(key.file_name(), json(value));
    };
    for slice in slices {
        put("discovery.k8s.io", "EndpointSlice", slice);
    }
    for pod in world.pods.values().filter(|p| p.status.pid.is_some() || !p.terminating()) {
        let mut value = pod.to_json();
        value["apiVersion"] = "v1".into();
        value["kind"] = "Pod".into();
        put("", "Pod", &value);
    }
    out
}

fn content(object: &Object) -> Option<String> {
    match kinds::role(object.value["apiVersion"].as_str().unwrap_or_default(), &object.key.kind) {
        Role::Ignored => None,
        Role::Mesh => Some(match &object.text {
            // As written, on the same lines as in the user's file, so that what mesh-control says about a line is true.
            Some(text) if object.line <= LINES_MAX => {
                let above = usize::try_from(object.line.saturating_sub(1)).unwrap_or(0);
                format!("{}{text}", "\n".repeat(above))
            }
            _ => json(&object.value),
        }),
        Role::Sandbox if READ.contains(&object.key.kind.as_str()) => Some(json(&object.value)),
        Role::Sandbox if object.key.kind == "ConfigMap" && object.key.name == "mesh" => Some(json(&object.value)),
        Role::Sandbox => None,
    }
}

fn json(value: &Value) -> String {
    // A document of JSON is one of YAML too. Values hold no maps with other keys than strings: this cannot fail.
    serde_json::to_string_pretty(value).expect("a JSON value can be written")
}

/// Writes what changed.
pub(crate) struct Writer {
    folder: PathBuf,
    written: BTreeMap<String, String>,
}

impl Writer {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), written: BTreeMap::new() }
    }

    /// Makes the folder hold `wanted`.
    pub(crate) fn write(&mut self, wanted: BTreeMap<String, String>) -> anyhow::Result<()> {
        for (name, content) in &wanted {
            if self.written.get(name) == Some(content) {
                continue;
            }
            let fresh = self.folder.join(format!(".{name}.new"));
            std::fs::write(&fresh, content).with_context(|| format!("cannot write {}", fresh.display()))?;
            std::fs::rename(&fresh, self.folder.join(name))?;
        }
        for name in self.written.keys().filter(|n| !wanted.contains_key(*n)) {
            match std::fs::remove_file(self.folder.join(name)) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err.into()),
                _ => {}
            }
        }
        self.written = wanted;
        Ok(())
    }
}
