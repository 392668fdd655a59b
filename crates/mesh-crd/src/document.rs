//! Files to objects: several documents, YAML or JSON, each isolated from the mistakes of the others.

use std::fmt;

use serde_json::Value;

use crate::kubernetes::{ConfigMap, EndpointSlice, Namespace, Pod, Service, ServiceAccount};
use crate::meta::{Kind, Object, ObjectKey, ObjectMeta, Source};
use crate::networking::{DestinationRule, Gateway, ServiceEntry, Sidecar, VirtualService, WorkloadEntry};
use crate::position::Positions;
use crate::read::{Read, Reader};
use crate::security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use crate::telemetry::Telemetry;
use crate::yaml;

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// The most documents in one file.
pub const DOCUMENTS_MAX: usize = 20_000;

/// One document that is an object.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The object, typed where the mesh reads its kind.
    pub object: AnyObject,
    /// The document as it was written (for hashing, showing and for kinds that are read elsewhere).
    pub document: Value,
    /// Where each field stands.
    pub positions: Positions,
}

/// Why a document is not an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// An object of a kind, or of a version, that the mesh does not read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Other {
    /// Group and version.
    pub api_version: String,
    /// The kind; `<kind>.<group>` where the mesh reads a kind of the same name (Gateway API's Gateway, Knative's
    /// Service), so that kind and key never stand for two objects.
    pub kind: String,
    /// Name, namespace, labels and so on.
    pub meta: ObjectMeta,
    /// Where it came from.
    pub source: Source,
    /// Set where the kind is known but this version of it is not served: what to write instead.
    pub note: Option<String>,
}

/// A kind's identity, for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// The API group; empty for Kubernetes' core.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// Served versions, the preferred one first.
    pub versions: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

/// The table of kinds: the one place where a new one is added.
macro_rules! kinds {
    ($($kind:ident($group:literal, [$($version:literal),*], namespaced: $namespaced:literal, content: $content:literal)),* $(,)?) => {
        /// An object of any kind.
        #[derive(Clone, Debug)]
        pub enum AnyObject {
            $(#[doc = concat!("A ", stringify!($kind), ".")] $kind(Box<Object<$kind>>),)*
            /// A kind that the mesh does not read.
            Other(Box<Other>),
        }

        $(impl Kind for $kind {
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($kind);
            const VERSIONS: &'static [&'static str] = &[$($version),*];
            const NAMESPACED: bool = $namespaced;
        })*

        /// All kinds that the mesh reads.
        pub const KINDS: &[KindInfo] = &[$(KindInfo {
            group: $group, kind: stringify!($kind), versions: &[$($version),*], namespaced: $namespaced,
        }),*];

        impl AnyObject {
            /// Name, namespace, labels and so on.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => &object.meta,)* Self::Other(object) => &object.meta }
            }
            /// The kind's name.
            pub fn kind(&self) -> &str {
                match self { $(Self::$kind(_) => stringify!($kind),)* Self::Other(object) => &object.kind }
            }
            /// Group and version as written.
            pub fn api_version(&self) -> &str {
                match self { $(Self::$kind(object) => &object.api_version,)* Self::Other(object) => &object.api_version }
            }
            /// Where it came from.
            pub fn source(&self) -> &Source {
                match self { $(Self::$kind(object) => &object.source,)* Self::Other(object) => &object.source }
            }
            /// What could not be read; empty for other kinds.
            pub fn issues(&self) -> &[crate::Issue] {
                match self { $(Self::$kind(object) => object.issues.as_slice(),)* Self::Other(_) => &[] }
            }
        }

        fn typed(group: &str, kind: &str, version: &str, head: &Head, document: &Value) -> Option<AnyObject> {
            $(if group == $group && kind == stringify!($kind) && [$($version),*].contains(&version) {
                return Some(AnyObject::$kind(Box::new(head.object::<$kind>(document, $content))));
            })*
            None
        }
    };
}

kinds! {
    Namespace("", ["v1"], namespaced: false, content: ""),
    Service("", ["v1"], namespaced: true, content: ""),
    EndpointSlice("discovery.k8s.io", ["v1"], namespaced: true, content: ""),
    Pod("", ["v1"], namespaced: true, content: ""),
    ServiceAccount("", ["v1"], namespaced: true, content: ""),
    ConfigMap("", ["v1"], namespaced: true, content: ""),
    VirtualService("networking.istio.io", ["v1", "v1beta1", "v1alpha3"], namespaced: true, content: "spec"),
    DestinationRule("networking.istio.io", ["v1", "v1beta1", "v1alpha3"], namespaced: true, content: "spec"),
    ServiceEntry("networking.istio.io", ["v1", "v1beta1", "v1alpha3"], namespaced: true, content: "spec"),
    WorkloadEntry("networking.istio.io", ["v1", "v1beta1", "v1alpha3"], namespaced: true, content: "spec"),
    Gateway("networking.istio.io", ["v1", "v1beta1", "v1alpha3"], namespaced: true, content: "spec"),
    Sidecar("networking.istio.io", ["v1", "v1beta1", "v1alpha3"], namespaced: true, content: "spec"),
    PeerAuthentication("security.istio.io", ["v1", "v1beta1"], namespaced: true, content: "spec"),
    AuthorizationPolicy("security.istio.io", ["v1", "v1beta1"], namespaced: true, content: "spec"),
    RequestAuthentication("security.istio.io", ["v1", "v1beta1"], namespaced: true, content: "spec"),
    Telemetry("telemetry.istio.io", ["v1", "v1alpha1"], namespaced: true, content: "spec"),
}

impl AnyObject {
    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.meta().namespace, &self.meta().name)
    }
}

/// What was read of a document before its kind is looked at.
struct Head {
    api_version: String,
    meta: ObjectMeta,
    meta_issues: crate::Issues,
    source: Source,
}

impl Head {
    fn object<T: Kind + Read>(&self, document: &Value, content: &str) -> Object<T> {
        let mut reader = Reader::at(content);
        let spec = match (content, document.get(content)) {
            ("", _) => T::read(document, &mut reader),
            (_, None | Some(Value::Null)) => T::absent(),
            (_, Some(value)) => T::read(value, &mut reader),
        };
        let mut issues = self.meta_issues.clone();
        issues.append(reader.into_issues());
        if !content.is_empty() {
            let mut top = Reader::default();
            let known = ["apiVersion", "kind", "metadata", "status", content];
            for key in document.as_object().into_iter().flat_map(|map| map.keys()) {
                if !known.contains(&key.as_str()) {
                    top.unknown(key, &known);
                }
            }
            issues.append(top.into_issues());
        }
        Object {
            api_version: self.api_version.clone(),
            meta: self.meta.clone(),
            spec,
            issues,
            source: self.source.clone(),
        }
    }
}

/// Reads one object from its JSON. The error says why it is none: no kind, no name.
pub fn read_object(document: &Value, source: Source) -> Result<AnyObject, String> {
    let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !document.is_object() {
        return Err("this is not an object (it has no apiVersion and kind)".to_owned());
    }
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version.is_empty() || kind.is_empty() {
        return Err("apiVersion and kind are needed to know what this is".to_owned());
    }
    let mut reader = Reader::at("metadata");
    let mut meta =
        document.get("metadata").map_or_else(ObjectMeta::default, |meta| ObjectMeta::read(meta, &mut reader));
    if meta.name.is_empty() {
        return Err(format!("this {kind} has no metadata.name"));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let known = KINDS.iter().find(|known| known.group == group && known.kind == kind);
    match known {
        Some(known) if !known.namespaced => meta.namespace.clear(),
        Some(_) if meta.namespace.is_empty() => meta.namespace = crate::names::DEFAULT_NAMESPACE.to_owned(),
        _ => {}
    }
    let head = Head { api_version: api_version.clone(), meta, meta_issues: reader.into_issues(), source };
    if let Some(object) = typed(group, &kind, version, &head, document) {
        return Ok(object);
    }
    let note = known.map(|known| format!("{kind} is not served as {api_version}; write {group}/{}", known.versions[0]));
    let kind = match KINDS.iter().any(|known| known.kind == kind) {
        true => format!("{kind}.{group}"),
        false => kind,
    };
    Ok(AnyObject::Other(Box::new(Other { api_version, kind, meta: head.meta, source: head.source, note })))
}

/// Reads all documents of a file (YAML with `---`, or JSON). A document that is not YAML or not an object becomes an
/// error with its place; the others are read. A `List` is taken apart. Empty documents are passed over.
pub fn parse_documents(text: &str, file: &str) -> (Vec<Parsed>, Vec<ParseError>) {
    let mut parsed = Vec::new();
    let mut errors = Vec::new();
    let error = |line, column, message| ParseError { file: file.to_owned(), line, column, message };
    if text.len() > FILE_BYTES_MAX {
        return (parsed, vec![error(1, 1, format!("the file is larger than {FILE_BYTES_MAX} bytes"))]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (count, (first_line, piece)) in documents(text).into_iter().enumerate() {
        if count == DOCUMENTS_MAX {
            errors.push(error(first_line, 1, format!("the file has more than {DOCUMENTS_MAX} documents")));
            break;
        }
        match yaml::read(piece, first_line) {
            Ok((Value::Null, _)) => {}
            Ok((document, positions)) => take(document, positions, first_line, file, &mut parsed, &mut errors),
            Err(problem) => {
                let (line, column) = problem.position.map_or((first_line, 1), |at| (at.line, at.column));
                errors.push(error(line, column, format!("this is not valid YAML: {}", problem.message)));
            }
        }
    }
    (parsed, errors)
}

/// Adds the document, or its items where it is a list.
fn take(
    document: Value,
    positions: Positions,
    first_line: u32,
    file: &str,
    parsed: &mut Vec<Parsed>,
    errors: &mut Vec<ParseError>,
) {
    let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    if let (true, Some(items)) = (is_list, document.get("items").and_then(Value::as_array)) {
        for (index, item) in items.iter().enumerate() {
            let inside = positions.under(&format!("items[{index}]"));
            take(item.clone(), inside, first_line, file, parsed, errors);
        }
        return;
    }
    let begin = positions.find("").or_else(|| positions.find("apiVersion")).or_else(|| positions.find("kind"));
    let line = begin.map_or(first_line, |at| at.line);
    match read_object(&document, Source { file: file.to_owned(), line }) {
        Ok(object) => parsed.push(Parsed { object, document, positions }),
        Err(message) => errors.push(ParseError { file: file.to_owned(), line, column: 1, message }),
    }
}

/// The documents of a text with the line at which each begins. A line that starts with `---` separates documents
/// wherever it stands, by YAML's own definition, so a mistake in one document cannot reach the next.
fn documents(text: &str) -> Vec<(u32, &str)> {
    let mut pieces = Vec::new();
    let (mut start, mut start_line, mut offset, mut line) = (0, 1, 0, 1);
    for content in text.split_inclusive('\n') {
        let bare = content.trim_end();
        let separates = bare == "---" || bare.starts_with("--- ") || bare.starts_with("---\t");
        if separates && offset > start {
            pieces.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, line);
        }
        offset += content.len();
        line += 1;
    }
    pieces.push((start_line, &text[start..]));
    let blank = |piece: &str| piece.lines().all(|line| line.trim().is_empty() || line.starts_with(['#', '%']));
    pieces.retain(|(_, piece)| !blank(piece));
    pieces
}
