//! KINDS: custom resources, labels, annotations, well-known names, YAML with positions. Types only.
//!
//! What people write and what the mesh reads meet here, once. The types follow Istio's API by its proto3-JSON rules
//! (durations as `"5s"`, `lowerCamel` or `snake_case` fields, enum names or numbers) and Kubernetes' own objects,
//! trimmed to what the mesh reads. Reading never fails an object as a whole: a field that is unknown or has the wrong
//! shape becomes an [`Issue`] with its path, and the compiler decides what that means (a rule with an issue inside
//! must never match wider than its author wrote it). Oneofs are enums. Nothing here decides about traffic.
//!
//! The way of a file: [`parse_documents`] → [`Parsed`] (typed [`AnyObject`], its JSON, the [`Positions`] of its
//! fields), so that a problem found much later can still name file and line.

#[macro_use]
mod read;

pub mod document;
pub mod duration;
pub mod kubernetes;
pub mod labels;
pub mod mesh_config;
pub mod meta;
pub mod names;
pub mod networking;
pub mod path;
pub mod position;
pub mod security;
pub mod telemetry;
pub mod yaml;

pub use document::{AnyObject, KINDS, KindInfo, Other, ParseError, Parsed, parse_documents, read_object};
pub use mesh_config::{MeshConfig, parse_mesh_config};
pub use meta::{Kind, Object, ObjectKey, ObjectMeta, Source};
pub use position::Positions;
pub use read::{Issue, IssueKind, Issues};

#[cfg(test)]
mod tests;
