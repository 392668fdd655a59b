//! WIRE: the protobuf between proxy and control plane, and both conversions to and from mesh-core.
//!
//! - [`proto`] is generated from `proto/` (see `tests/codegen.rs`) and holds the client and server stubs of the two
//!   services: [`proto::discovery`] (delta xDS, Envoy's wire) and [`proto::istio::auth`] (Istio's certificate service).
//! - [`Wire`] converts one configuration type to its message and back. What comes from the wire is checked: counts,
//!   lengths, enums, names; an error says which field and why.
//! - [`Resource`] is a configuration value with its name; [`Encoded`] is the same as bytes with a version, made once
//!   and shared by every stream that sends it.
//! - [`limits`] are the explicit bounds of both sides.
//!
//! The version of a resource is a hash of its bytes, and bytes are a function of the value only (maps are ordered), so
//! every replica and every restart of the control plane gives the same version to the same configuration.

mod convert;
mod invalid;
pub mod limits;
pub mod proto;
mod resource;

pub use convert::Wire;
pub use invalid::Invalid;
pub use resource::{Encoded, Rejected, Resource, VERSION_CHARS, decode, encode, kind_of, rejections, type_url};
