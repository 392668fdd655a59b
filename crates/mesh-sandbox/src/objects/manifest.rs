//! Manifests: from a file's text to objects, each with the place where it was written.
//!
//! A document is cut out of the file by its `---` lines, so that the text of a mesh resource can be handed to
//! mesh-control exactly as it was written, and a mistake is reported with the line of the user's own file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kinds;

/// The largest manifest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What makes an object this object and not another: kind, namespace and name (and the group of its `apiVersion`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// API group, empty for the core group.
    pub group: String,
    /// Kind, as written.
    pub kind: String,
    /// Namespace, empty for objects of the whole cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of an object of Kubernetes' own kinds.
    pub fn of(group: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self { group: group.into(), kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// A file name that is unique to the object and safe in every file system.
    pub fn file_name(&self) -> String {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        let namespace = if self.namespace.is_empty() { "_" } else { &self.namespace };
        format!("{}.{}.{namespace}.{}.yaml", self.kind.to_ascii_lowercase(), group, self.name)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.to_ascii_lowercase();
        if self.namespace.is_empty() || self.namespace == "default" {
            write!(f, "{kind}/{}", self.name)
        } else {
            write!(f, "{kind}/{} (namespace {})", self.name, self.namespace)
        }
    }
}

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Its key, with the default namespace filled in.
    pub key: Key,
    /// The object.
    pub value: Value,
    /// The document's text, as written, when the object may be handed on unchanged.
    pub text: Option<String>,
    /// The file in which it was written.
    pub file: String,
    /// The line of that file at which its document begins, from 1.
    pub line: u32,
}

/// Why a document was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// What is wrong, and what to do.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Reads all documents of a file. What cannot be read is a [`Mistake`]; the other documents are still returned.
///
/// Objects without a namespace get `namespace`. `kind: List` is taken apart.
pub fn parse(file: &str, text: &str, namespace: &str) -> (Vec<Object>, Vec<Mistake>) {
    let mut objects = Vec::new();
    let mut mistakes = Vec::new();
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file is larger than {FILE_BYTES_MAX} bytes: split it");
        return (objects, vec![Mistake { file: file.into(), line: 1, message }]);
    }
    for (line, document) in documents(text) {
        let mistake = |line, message| Mistake { file: file.into(), line, message };
        let value: Value = match serde_saphyr::from_str(document) {
            Ok(value) => value,
            Err(err) => {
                let at = err.location().map_or(1, |l| u32::try_from(l.line()).unwrap_or(1)).max(1);
                let first = err.to_string();
                let first = first.lines().next().unwrap_or("not YAML").to_owned();
                mistakes.push(mistake(line + at - 1, format!("this is not valid YAML: {first}")));
                continue;
            }
        };
        if value.is_null() {
            continue;
        }
        let items = match value.get("items").and_then(Value::as_array) {
            Some(items) if value["kind"].as_str().is_some_and(|k| k.ends_with("List")) => items.clone(),
            _ => {
                match object(value, Some(document), namespace, file, line) {
                    Ok(object) => objects.push(object),
                    Err(message) => mistakes.push(mistake(line, message)),
                }
                continue;
            }
        };
        for item in items {
            match object(item, None, namespace, file, line) {
                Ok(object) => objects.push(object),
                Err(message) => mistakes.push(mistake(line, message)),
            }
        }
    }
    (objects, mistakes)
}

fn object(mut value: Value, text: Option<&str>, namespace: &str, file: &str, line: u32) -> Result<Object, String> {
    let word = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind, name) = (word("/apiVersion"), word("/kind"), word("/metadata/name"));
    if api_version.is_empty() || kind.is_empty() {
        return Err("apiVersion or kind is missing: every document needs both".into());
    }
    if name.is_empty() {
        return Err(format!("metadata.name is missing in this {kind}"));
    }
    check_name(&name).map_err(|why| format!("metadata.name {name:?} {why}"))?;
    let group = api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
    check_name(&format!("x{group}")).map_err(|why| format!("apiVersion {api_version:?} {why}"))?;
    if !kind.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(format!("kind {kind:?} is not a kind: it has letters and digits only"));
    }
    let written = word("/metadata/namespace");
    let mut text = text.map(str::to_owned);
    let in_namespace = if !kinds::namespaced(&kind) {
        String::new()
    } else if written.is_empty() {
        value["metadata"]["namespace"] = namespace.into();
        if namespace != "default" {
            text = None; // mesh-control would read it as an object of the namespace `default`
        }
        namespace.to_owned()
    } else {
        check_name(&written).map_err(|why| format!("metadata.namespace {written:?} {why}"))?;
        written
    };
    let key = Key { group, kind, namespace: in_namespace, name };
    Ok(Object { key, value, text, file: file.to_owned(), line })
}

/// Names become file names and host names, so they are held to Kubernetes' rule (RFC 1123 subdomain).
fn check_name(name: &str) -> Result<(), &'static str> {
    let fine = name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    if fine { Ok(()) } else { Err("is not a name: use lower-case letters, digits, dashes and dots, at most 253") }
}

/// Cuts a file into documents; each with the line on which it begins, from 1.
fn documents(text: &str) -> Vec<(u32, &str)> {
    let mut out = Vec::new();
    let (mut begin, mut begin_line) = (0, 1);
    let mut at = 0;
    for (number, line) in (1u32..).zip(text.split_inclusive('\n')) {
        let marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marker {
            out.push((begin_line, &text[begin..at]));
            // What stands behind the marker on its line belongs to the document; `--- ` itself is white space to YAML.
            begin = at + 3;
            begin_line = number;
        }
        at += line.len();
    }
    out.push((begin_line, &text[begin..]));
    out.retain(|(_, document)| document.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_lines() {
        let text = "# head\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n---\nkind: [\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
        let (objects, mistakes) = parse("f.yaml", text, "default");
        assert_eq!(
            objects.iter().map(|o| (o.key.to_string(), o.line)).collect::<Vec<_>>(),
            [("namespace/a".to_owned(), 2), ("pod/p".to_owned(), 9)]
        );
        assert_eq!(mistakes.len(), 1);
        assert!((7..=9).contains(&mistakes[0].line), "{mistakes:?}");
    }

    #[test]
    fn lists_are_taken_apart_and_namespaces_filled_in() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n";
        let (objects, mistakes) = parse("f.yaml", text, "shop");
        assert!(mistakes.is_empty());
        assert_eq!(objects[0].key, Key::of("", "ConfigMap", "shop", "c"));
        assert_eq!(objects[0].value["metadata"]["namespace"], "shop");
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        let (objects, mistakes) = parse("f", "apiVersion: v1\nkind: Pod\nmetadata: {name: ../x}\n", "default");
        assert!(objects.is_empty());
        assert!(mistakes[0].message.contains("is not a name"));
    }
}
