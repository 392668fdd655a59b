//! COMPILER: Kubernetes objects to mesh resources and problems, pure.
//!
//! The one place where Kubernetes' words and the mesh's words meet. [`Objects`] holds what exists;
//! [`Objects::compile`] makes one resource, by name, as one client namespace sees it; [`Objects::apply`] says what a
//! change touches; [`Objects::validate`] says what is wrong with an object. No IO, no clock, no wire types: a result
//! is a function of the present objects only, whatever order they came in.
//!
//! Translation never fails as a whole, and a mistake never widens anything: a broken match never matches, a broken
//! rule answers with an error, a broken policy denies, and each is reported on the object that holds it.

mod address;
mod authz;
mod change;
mod endpoint;
mod hosts;
mod inbound;
mod objects;
mod peer;
mod policy;
mod problem;
mod protocol;
mod route;
mod service;
mod settings;
mod telemetry;
mod validate;
mod view;
mod workload;

pub use change::{Affected, Scope};
pub use objects::{Objects, Options, Store};
pub use problem::{Code, ObjectRef, Problem, Severity};
pub use view::Resource;

#[cfg(test)]
mod tests;
