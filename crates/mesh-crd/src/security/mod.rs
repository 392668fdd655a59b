//! `security.istio.io`: who may talk to whom, and how they prove it.

mod authorization;
mod peer;
mod request;

pub use authorization::*;
pub use peer::*;
pub use request::*;
