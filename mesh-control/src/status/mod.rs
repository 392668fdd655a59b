//! What became of each object: the answer of `GET /v1/status`.
//!
//! The problems are the compiler's and the files' source's own; nothing is judged here. What is added is the place: file
//! and line of the field that a problem names.

use mesh_compile::{Code, ObjectRef, Objects, Problem, Severity};
use mesh_crd::{Issue, IssueKind};
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

/// The state of every object, files that are not used as they stand first.
pub(crate) fn report(index: &Index) -> Vec<ObjectStatus> {
    index.read(|objects, loaded, files| {
        let files = files.iter().map(of_file);
        let objects = loaded.iter().map(|(reference, one)| of_object(one, validate(objects, reference, one)));
        files.chain(objects).collect()
    })
}

/// What could not be read of an object.
fn validate(_objects: &Objects, reference: &ObjectRef, loaded: &Loaded) -> Vec<Problem> {
    let problem = |issue: &Issue| Problem {
        severity: Severity::Error,
        code: match issue.kind {
            IssueKind::Unknown => Code::UnknownField,
            IssueKind::Invalid => Code::InvalidValue,
        },
        object: reference.clone(),
        field: issue.path.clone(),
        message: issue.message.clone(),
        fix: "write it as the kind's reference says".to_owned(),
    };
    loaded.object.issues().iter().map(problem).collect()
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
