//! From the contents of files to changes of objects: pure, so that every way of going wrong is a plain test.
//!
//! A file is a unit: while any document of it does not parse, the objects of its last good content stay. Where two files
//! have the same object, the first path wins and the other is reported.

use std::collections::{BTreeMap, btree_map::Entry};
use std::sync::Arc;

use mesh_compile::ObjectRef;
use mesh_crd::{AnyObject, ParseError, Parsed, parse_documents, read_object};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Event, FileProblem, Loaded};

/// The content of a directory, by path.
#[derive(Default)]
pub(super) struct Tree {
    files: BTreeMap<String, File>,
    objects: BTreeMap<ObjectRef, Arc<Loaded>>,
    duplicates: Vec<FileProblem>,
}

#[derive(Default)]
struct File {
    hash: [u8; 32],
    objects: Vec<Arc<Loaded>>,
    problems: Vec<FileProblem>,
}

/// What became of a file's new content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the same as before.
    Same,
    /// It parsed and is used.
    Used,
    /// It did not parse.
    Broken,
}

impl Tree {
    /// A file's content. `last_good` is asked for what the file held when it last parsed, if this is the first that is
    /// seen of it.
    pub(super) fn file(&mut self, path: &str, content: &str, last_good: impl FnOnce() -> Option<String>) -> Taken {
        let hash: [u8; 32] = Sha256::digest(content).into();
        let known = self.files.get(path);
        if known.is_some_and(|file| file.hash == hash) {
            return Taken::Same;
        }
        let (parsed, errors) = parse_documents(content, path);
        if errors.is_empty() {
            let objects = load(parsed);
            self.files.insert(path.to_owned(), File { hash, objects, problems: Vec::new() });
            return Taken::Used;
        }
        let objects = match known {
            Some(file) => file.objects.clone(),
            None => last_good().map(|text| load(parse_documents(&text, path).0)).unwrap_or_default(),
        };
        let kept = objects.len();
        let problems = errors.iter().map(|error| broken(error, kept)).collect();
        self.files.insert(path.to_owned(), File { hash, objects, problems });
        Taken::Broken
    }

    /// A file that cannot be read stays as it was.
    pub(super) fn unreadable(&mut self, path: &str, why: &str, last_good: impl FnOnce() -> Option<String>) {
        let objects = match self.files.get(path) {
            Some(file) => file.objects.clone(),
            None => last_good().map(|text| load(parse_documents(&text, path).0)).unwrap_or_default(),
        };
        let problem = FileProblem {
            file: path.to_owned(),
            line: 1,
            message: format!("the file cannot be read: {why}; its {} objects stay as they last were", objects.len()),
            fix: "make the file readable, or remove it",
        };
        self.files.insert(path.to_owned(), File { hash: [0; 32], objects, problems: vec![problem] });
    }

    /// Forgets the files that `is_there` does not confirm; returns their paths.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        let gone: Vec<String> = self.files.keys().filter(|path| !is_there(path)).cloned().collect();
        for path in &gone {
            self.files.remove(path);
        }
        gone
    }

    /// What changed since the last call.
    pub(super) fn changes(&mut self) -> Vec<Event> {
        let mut objects: BTreeMap<ObjectRef, Arc<Loaded>> = BTreeMap::new();
        self.duplicates.clear();
        for loaded in self.files.values().flat_map(|file| &file.objects) {
            match objects.entry(loaded.reference()) {
                Entry::Vacant(place) => {
                    place.insert(loaded.clone());
                }
                Entry::Occupied(first) => self.duplicates.push(duplicate(loaded, first.get())),
            }
        }
        let gone = self.objects.keys().filter(|reference| !objects.contains_key(reference)).cloned();
        let mut events: Vec<Event> = gone.map(Event::Remove).collect();
        for (reference, loaded) in &objects {
            match self.objects.get(reference) {
                Some(before) if Arc::ptr_eq(before, loaded) => {}
                Some(before) if before.digest == loaded.digest => events.push(Event::Moved(loaded.clone())),
                _ => events.push(Event::Apply(loaded.clone())),
            }
        }
        self.objects = objects;
        events
    }

    /// Everything that is wrong with the files now.
    pub(super) fn problems(&self) -> Vec<FileProblem> {
        self.files.values().flat_map(|file| &file.problems).chain(&self.duplicates).cloned().collect()
    }
}

fn broken(error: &ParseError, kept: usize) -> FileProblem {
    let instead = match kept {
        0 => "nothing of this file is used".to_owned(),
        kept => format!("its {kept} objects stay as they last were"),
    };
    let (line, message) = (error.line, format!("{}; {instead}", error.message));
    FileProblem { file: error.file.clone(), line, message, fix: "repair the document, or remove the file" }
}

fn duplicate(loaded: &Loaded, first: &Loaded) -> FileProblem {
    let (source, reference) = (loaded.object.source(), loaded.reference());
    FileProblem {
        file: source.file.clone(),
        line: source.line,
        message: format!("{reference} is already defined in {}, which is used; this one is not", first.object.source()),
        fix: "keep one of the two",
    }
}

/// The objects of the kinds that the mesh reads, or that belong to a mesh's API and are not read; with a generation.
fn load(parsed: Vec<Parsed>) -> Vec<Arc<Loaded>> {
    parsed.into_iter().filter(is_ours).map(|one| Arc::new(with_generation(one))).collect()
}

fn is_ours(parsed: &Parsed) -> bool {
    match &parsed.object {
        AnyObject::Other(other) => other.note.is_some() || other.api_version.contains(".istio.io/"),
        _ => true,
    }
}

/// A file's objects rarely have a generation: then it is a hash of what they specify.
fn with_generation(parsed: Parsed) -> Loaded {
    let Parsed { object, mut document, positions } = parsed;
    let digest = Sha256::digest(document.to_string()).into();
    let given = object.meta().generation != 0 || matches!(object, AnyObject::Other(_));
    let hash = if given { None } else { generation(&document) };
    let metadata = document.get_mut("metadata").and_then(Value::as_object_mut);
    let (Some(hash), Some(metadata)) = (hash, metadata) else { return Loaded { object, positions, digest } };
    metadata.insert("generation".to_owned(), hash.into());
    // It was read before, so it is again; a doubt keeps the first reading.
    let object = read_object(&document, object.source().clone()).unwrap_or(object);
    Loaded { object, positions, digest }
}

/// 31 bits of a hash of everything but metadata and status: short enough to be read, and exact in JSON.
fn generation(document: &Value) -> Option<i64> {
    let mut specified = document.as_object()?.clone();
    specified.remove("metadata");
    specified.remove("status");
    let digest = Sha256::digest(serde_json::to_vec(&specified).ok()?);
    let bits = u32::from_be_bytes(digest[..4].try_into().ok()?) & (u32::MAX >> 1);
    Some(i64::from(bits.max(1)))
}
