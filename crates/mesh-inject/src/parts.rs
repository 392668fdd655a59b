//! A pod taken apart: the lists and maps that injection edits, checked for shape once.

use serde_json::{Map, Value};

use crate::error::Error;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// A pod in pieces. [`Parts::read`] and [`Parts::write`] are inverse, except that empty pieces are not written.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    top: Object,
    metadata: Object,
    pub(crate) labels: Object,
    pub(crate) annotations: Object,
    pub(crate) spec: Object,
    pub(crate) containers: Vec<Object>,
    pub(crate) init_containers: Vec<Object>,
    pub(crate) volumes: Vec<Object>,
}

impl Parts {
    /// Takes a pod (or a pod template: `metadata` and `spec`) apart.
    pub(crate) fn read(pod: &Value) -> Result<Parts, Error> {
        let Value::Object(top) = pod else { return Err(malformed("the document", "an object")) };
        let mut top = top.clone();
        let mut metadata = object(&mut top, "metadata", "metadata")?;
        let labels = strings(&mut metadata, "labels")?;
        let annotations = strings(&mut metadata, "annotations")?;
        if !matches!(top.get("spec"), Some(Value::Object(_))) {
            return Err(malformed("spec", "an object"));
        }
        let mut spec = object(&mut top, "spec", "spec")?;
        let containers = objects(&mut spec, "containers")?;
        let init_containers = objects(&mut spec, "initContainers")?;
        let volumes = objects(&mut spec, "volumes")?;
        Ok(Parts { top, metadata, labels, annotations, spec, containers, init_containers, volumes })
    }

    /// Puts the pod together again.
    pub(crate) fn write(self) -> Value {
        let Parts { mut top, mut metadata, labels, annotations, mut spec, containers, init_containers, volumes } = self;
        for (field, map) in [("labels", labels), ("annotations", annotations)] {
            if !map.is_empty() {
                metadata.insert(field.into(), Value::Object(map));
            }
        }
        for (field, list) in [("initContainers", init_containers), ("containers", containers), ("volumes", volumes)] {
            if !list.is_empty() || field == "containers" {
                spec.insert(field.into(), Value::Array(list.into_iter().map(Value::Object).collect()));
            }
        }
        top.insert("metadata".into(), Value::Object(metadata));
        top.insert("spec".into(), Value::Object(spec));
        Value::Object(top)
    }

    /// The value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).and_then(Value::as_str)
    }

    /// The value of an annotation.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).and_then(Value::as_str)
    }

    /// A string of the metadata that is neither absent nor empty.
    pub(crate) fn metadata_string(&self, field: &str) -> Option<&str> {
        self.metadata.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The owner references.
    pub(crate) fn owner_references(&self) -> &[Value] {
        self.metadata.get("ownerReferences").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// The name of a container or volume; empty when it has none.
pub(crate) fn name_of(object: &Object) -> &str {
    object.get("name").and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn malformed(field: &str, expected: &'static str) -> Error {
    Error::Malformed { field: field.to_owned(), expected }
}

fn object(parent: &mut Object, field: &str, path: &str) -> Result<Object, Error> {
    match parent.remove(field) {
        None | Some(Value::Null) => Ok(Object::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(malformed(path, "an object")),
    }
}

fn strings(metadata: &mut Object, field: &str) -> Result<Object, Error> {
    let map = object(metadata, field, &format!("metadata.{field}"))?;
    match map.values().all(Value::is_string) {
        true => Ok(map),
        false => Err(malformed(&format!("metadata.{field}"), "a map of strings to strings")),
    }
}

fn objects(spec: &mut Object, field: &str) -> Result<Vec<Object>, Error> {
    let list = match spec.remove(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(malformed(&format!("spec.{field}"), "a list")),
    };
    list.into_iter()
        .enumerate()
        .map(|(index, item)| match item {
            Value::Object(map) if map.get("name").is_some_and(Value::is_string) => Ok(map),
            Value::Object(_) => Err(malformed(&format!("spec.{field}[{index}].name"), "a string")),
            _ => Err(malformed(&format!("spec.{field}[{index}]"), "an object")),
        })
        .collect()
}
