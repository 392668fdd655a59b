//! Large transfers of known content, over TCP and HTTP, in both directions and with bounded memory.
//!
//! Both sides know the content (see [`pattern`]), so every byte is compared where it arrives and the first wrong one
//! is named; a checksum of what arrived is told to the sender, who compares it with what he sent.
//!
//! TCP: the client says `GET <n>\n` and reads n bytes to the end, or `PUT <n>\n`, sends n bytes, closes its side and
//! reads the server's verdict as a line of JSON. HTTP: `GET /bulk/<n>` (with `?chunked` without a length) and
//! `POST /bulk`, answered with the same verdict.

pub(crate) mod client;
mod pattern;
pub(crate) mod server;

#[cfg(test)]
mod tests;
