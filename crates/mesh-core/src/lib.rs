//! PURE: every decision the mesh makes about traffic. No IO, no clock, no Kubernetes, no protobuf.
//!
//! Decisions are functions over values; `now` and randomness are arguments. What the control plane validates, the proxy
//! runs and `meshctl` explains is this same code.

pub mod config;
pub mod identity;
