//! INJECTION: pod in, patched pod out.
//!
//! One pure function decides what a meshed pod looks like, and everybody who makes such pods calls it: the webhook,
//! `meshctl inject` and the sandbox. Nothing here reads a clock, a file or a cluster.
//!
//! - [`decide()`] answers whether a pod is to be injected (labels of namespace and pod, system namespaces).
//! - [`inject()`] adds `mesh-init` and `mesh-proxy` in front of the pod's own init containers, rewrites probes and merges
//!   metrics, and returns the pod, the JSON patch that leads to it, and warnings for the author.
//! - [`inject_document`] does the same for a manifest that owns a pod template.
//!
//! Two laws hold. Injecting an injected pod changes nothing. And everything is built as values, never as text: what a
//! pod's author writes into an annotation is parsed into its own field or refused, and cannot add anything else.

mod annotations;
mod containers;
mod decide;
mod document;
mod error;
pub mod names;
mod overrides;
mod owner;
mod parts;
mod pod;
mod probes;
mod prometheus;
mod proxy_config;
mod quantity;
mod settings;
mod undo;

pub use decide::{Decision, Reason, Verdict, decide};
pub use document::{inject_document, inject_document_explained};
pub use error::Error;
pub use pod::{Injected, inject};
pub use settings::{Resources, Settings};
