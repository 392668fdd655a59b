//! What became of each object: the answer of `GET /v1/status`.
//!
//! The problems are the compiler's and the files' source's own; nothing is judged here. What is added is the place: file
//! and line of the field that a problem names.

#[cfg(test)]
mod tests;

use mesh_compile::{Code, Problem, Severity};
use mesh_crd::AnyObject;
use serde::Serialize;

use crate::index::Index;
use crate::watch::{FileProblem, Loaded};

/// One object's (or broken file's) state.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectStatus {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    generation: i64,
    source: String,
    accepted: bool,
    problems: Vec<ProblemStatus>,
}

/// One problem.
#[derive(Debug, Serialize)]
struct ProblemStatus {
    code: &'static str,
    severity: &'static str,
    field: String,
    message: String,
    fix: String,
    source: String,
}

/// The state of every object, files that are not used as they stand first. Takes long in a large mesh: not for a thread
/// that serves.
pub(crate) fn report(index: &Index) -> Vec<ObjectStatus> {
    let (loaded, files) = index.loaded();
    let files = files.iter().map(of_file);
    // One lock per object, so that nobody waits for the whole report.
    let objects = loaded.iter().map(|one| of_object(one, problems(index, one)));
    files.chain(objects).collect()
}

fn problems(index: &Index, loaded: &Loaded) -> Vec<Problem> {
    let reference = loaded.reference();
    let AnyObject::Other(other) = &loaded.object else { return index.validate(&reference) };
    let message = other.note.clone().unwrap_or_else(|| {
        format!("{} of {} is a kind that the mesh does not read: it has no effect", other.kind, other.api_version)
    });
    vec![Problem {
        severity: Severity::Error,
        code: Code::Unsupported,
        object: reference,
        field: String::new(),
        message,
        fix: "express it in a kind that is read, or remove it".to_owned(),
    }]
}

fn of_file(problem: &FileProblem) -> ObjectStatus {
    let source = format!("{}:{}", problem.file, problem.line);
    ObjectStatus {
        api_version: String::new(),
        kind: "File".to_owned(),
        namespace: String::new(),
        name: problem.file.clone(),
        generation: 0,
        source: source.clone(),
        accepted: false,
        problems: vec![ProblemStatus {
            code: "FileNotUsed",
            severity: Severity::Error.as_str(),
            field: String::new(),
            message: problem.message.clone(),
            fix: problem.fix.to_owned(),
            source,
        }],
    }
}

fn of_object(loaded: &Loaded, problems: Vec<Problem>) -> ObjectStatus {
    let (object, meta) = (&loaded.object, loaded.object.meta());
    let file = &object.source().file;
    let place = |field: &str| match loaded.positions.find(field) {
        Some(position) => format!("{file}:{}", position.line),
        None => object.source().to_string(),
    };
    ObjectStatus {
        api_version: object.api_version().to_owned(),
        kind: object.kind().to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        generation: meta.generation,
        source: object.source().to_string(),
        accepted: problems.iter().all(|problem| problem.severity != Severity::Error),
        problems: problems
            .into_iter()
            .map(|problem| ProblemStatus {
                code: problem.code.as_str(),
                severity: problem.severity.as_str(),
                source: place(&problem.field),
                field: problem.field,
                message: problem.message,
                fix: problem.fix,
            })
            .collect(),
    }
}
