//! The objects that a user wrote: reading manifests, keeping them, naming their kinds.
//!
//! In the order in which a file travels: [`manifest`] cuts it into documents and parses them, [`kinds`] says what a
//! kind is to the sandbox, [`spec`] holds the few fields of a pod that the sandbox obeys (and lists the others).

pub mod kinds;
pub mod manifest;
pub mod spec;
