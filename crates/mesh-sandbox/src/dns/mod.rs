//! The cluster DNS: what names exist ([`zone`], pure) and a small server for them ([`server`]).

pub mod server;
pub mod zone;
