//! Problems: what is wrong with an object, for the person who wrote it.
//!
//! A problem names the object and the field, says what happens because of it, and what to write instead. The same
//! values go to status, to `meshctl analyze` and to the validating webhook.

use std::fmt;

use mesh_crd::{Kind, Object, ObjectKey};

/// An object by kind and key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The kind, e.g. `VirtualService`.
    pub kind: String,
    /// Namespace and name.
    pub key: ObjectKey,
}

impl ObjectRef {
    /// The reference to `object`.
    pub fn of<T: Kind>(object: &Object<T>) -> ObjectRef {
        ObjectRef { kind: T::KIND.to_owned(), key: object.key() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object, or a part of it, does not do what was asked for.
    Error,
    /// It acts, but probably not as meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The word in status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// The kinds of problem; stable names that scripts may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// A field that the kind does not have.
    UnknownField,
    /// A value that the field cannot have.
    InvalidValue,
    /// Something that is not built.
    Unsupported,
    /// A regular expression that does not compile.
    InvalidRegex,
    /// Another object is for the same thing, and one of the two wins.
    Conflict,
    /// A destination's host is no service that is visible.
    MissingDestination,
    /// A destination's subset is defined by no DestinationRule.
    MissingSubset,
    /// A destination's port is none of the service's.
    MissingPort,
    /// A selector selects no workload.
    SelectsNothing,
    /// A host for which nothing exists.
    MissingHost,
    /// A rule that can never be reached.
    Unreachable,
    /// It is read, but does not act (by its own wish, or because something else is missing).
    NotActing,
}

impl Code {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::UnknownField => "UnknownField",
            Code::InvalidValue => "InvalidValue",
            Code::Unsupported => "Unsupported",
            Code::InvalidRegex => "InvalidRegex",
            Code::Conflict => "Conflict",
            Code::MissingDestination => "MissingDestination",
            Code::MissingSubset => "MissingSubset",
            Code::MissingPort => "MissingPort",
            Code::SelectsNothing => "SelectsNothing",
            Code::MissingHost => "MissingHost",
            Code::Unreachable => "Unreachable",
            Code::NotActing => "NotActing",
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Which kind of problem.
    pub code: Code,
    /// Whose.
    pub object: ObjectRef,
    /// Where in the object, e.g. `spec.http[0].route[1].destination.subset`.
    pub field: String,
    /// What is wrong and what happens because of it.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, severity) = (self.code.as_str(), self.severity.as_str());
        write!(f, "{severity} {code} {} {}: {} ({})", self.object, self.field, self.message, self.fix)
    }
}

/// Collects the problems of one object.
#[derive(Debug)]
pub(crate) struct Problems {
    object: ObjectRef,
    found: Vec<Problem>,
}

impl Problems {
    pub(crate) fn of<T: Kind>(object: &Object<T>) -> Problems {
        Problems { object: ObjectRef::of(object), found: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        code: Code,
        field: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (object, field) = (self.object.clone(), field.to_owned());
        self.found.push(Problem { severity, code, object, field, message: message.into(), fix: fix.into() });
    }

    pub(crate) fn error(&mut self, code: Code, field: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Error, code, field, message, fix);
    }

    pub(crate) fn warning(&mut self, code: Code, field: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Warning, code, field, message, fix);
    }

    pub(crate) fn info(&mut self, code: Code, field: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Info, code, field, message, fix);
    }

    /// Something that is not built; `effect` says what happens instead.
    pub(crate) fn unsupported(&mut self, field: &str, effect: &str) {
        let message = format!("this is not built yet: {effect}");
        self.warning(Code::Unsupported, field, message, "remove the field, or rely on the effect that is described");
    }

    pub(crate) fn into_vec(mut self) -> Vec<Problem> {
        self.found.sort();
        self.found.dedup();
        self.found
    }
}
