//! What every object has: metadata, where it came from, and what could not be read of it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::read::{Issues, Read, Reader};

message! {
    /// The metadata of an object, trimmed to what the mesh reads.
    trimmed struct ObjectMeta {
        name: String => "The name, unique in kind and namespace.",
        namespace: String => "The namespace; empty for kinds without one.",
        labels: BTreeMap<String, String> => "Labels: what selectors match.",
        annotations: BTreeMap<String, String> => "Annotations.",
        uid: String => "Unique over time; empty when the object comes from a file without one.",
        resource_version: String => "The API server's version of the object.",
        generation: i64 => "The version of the specification; 0 when not given.",
        creation_timestamp: Option<Timestamp> => "When it was made; the older of two in conflict wins.",
        deletion_timestamp: Option<Timestamp> => "When its deletion was asked for.",
        owner_references: Vec<OwnerReference> => "What it belongs to.",
    }
}

message! {
    /// A reference from an object to one that owns it.
    trimmed struct OwnerReference {
        api_version: String => "The owner's group and version.",
        kind: String => "The owner's kind.",
        name: String => "The owner's name.",
        controller: bool => "Whether the owner manages the object.",
    }
}

impl ObjectMeta {
    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }
}

impl Read for Timestamp {
    fn absent() -> Self {
        Timestamp::UNIX_EPOCH
    }
    fn read(value: &serde_json::Value, reader: &mut Reader) -> Self {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.unwrap_or_else(|| {
            let found = crate::read::shape(value);
            reader.invalid(format!("expected a time such as \"2026-01-31T12:00:00Z\", found {found}"));
            Timestamp::UNIX_EPOCH
        })
    }
}

/// Where an object was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The file, or empty for the API server.
    pub file: String,
    /// The line at which its document begins, from 1.
    pub line: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Namespace and name of an object; the kind is known from where the key is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace; empty for kinds without one.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> ObjectKey {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// A kind of object that the mesh reads.
pub trait Kind: Clone + fmt::Debug + Default + PartialEq + 'static {
    /// The API group; empty for Kubernetes' core.
    const GROUP: &'static str;
    /// The kind's name.
    const KIND: &'static str;
    /// The versions that are served, the preferred one first.
    const VERSIONS: &'static [&'static str];
    /// Whether objects of it live in a namespace.
    const NAMESPACED: bool;
}

/// An object of a kind that the mesh reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<T> {
    /// Group and version as written, e.g. `networking.istio.io/v1beta1`.
    pub api_version: String,
    /// Name, namespace, labels and so on.
    pub meta: ObjectMeta,
    /// The content: the message under `spec` for the mesh's kinds, the whole object for Kubernetes' own.
    pub spec: T,
    /// What could not be read.
    pub issues: Issues,
    /// Where it came from.
    pub source: Source,
}

impl<T: Kind> Object<T> {
    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.meta.namespace, &self.meta.name)
    }

    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        T::KIND
    }
}
