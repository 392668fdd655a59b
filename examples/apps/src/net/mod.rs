//! Sockets: names to addresses, listening on both address families, serving until told to stop.

pub(crate) mod drain;
pub(crate) mod listen;
pub(crate) mod resolve;
pub(crate) mod serve;
