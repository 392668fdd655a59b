//! Connections to the pod: who is there, may they, and on to the application.
//!
//! [`connection`] refuses what was not meant for this pod, reads the first bytes, terminates mutual TLS and chooses;
//! [`http`] serves requests, [`tcp`] passes bytes; [`peer`] is who the client is, for policy and telemetry; [`port`] is
//! what is known of the port, and [`labels`] are its series.

mod connection;
mod http;
mod labels;
mod peer;
mod port;
mod tcp;
#[cfg(test)]
mod tests;

pub(crate) use connection::serve;
#[cfg(test)]
pub(crate) use connection::serve_meant_for;
