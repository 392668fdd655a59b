//! gRPC by hand over hyper's HTTP/2: length-prefixed messages, status in trailers, four streaming shapes.
//!
//! The service is `mesh.example.v1.Echo` of `echo.proto`, small enough that its one message is encoded here.

pub(crate) mod client;
mod frame;
pub(crate) mod server;

#[cfg(test)]
mod tests;

/// The service's name; methods follow behind a slash.
const SERVICE: &str = "/mesh.example.v1.Echo";
/// How many messages a server stream sends.
const COUNT: &str = "x-count";
/// Milliseconds between two messages of a server stream.
const PAUSE: &str = "x-pause-ms";
/// The status to end a call with.
const STATUS: &str = "x-status";
/// How many messages the server got; a trailer of every call that it answers.
const RECEIVED: &str = "x-received";

/// gRPC status codes that are used here.
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const UNIMPLEMENTED: u32 = 12;
}
