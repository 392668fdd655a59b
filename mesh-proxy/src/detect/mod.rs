//! What a connection speaks, from its first bytes.
//!
//! The bytes are read, not peeked at, into a bounded buffer that is replayed to whoever gets the connection:
//! [`first`] collects them until the pure sniffer of mesh-core (or the reader of ClientHellos of mesh-tls) has seen
//! enough, [`replayed`] hands them on, and [`memory`] remembers what silence on a port has turned out to mean.

pub(crate) mod first;
pub(crate) mod memory;
pub(crate) mod replayed;
