//! TRUST: rustls configuration, the one SPIFFE verifier, certificate issue and parse. No sockets.
//!
//! Every handshake of the mesh goes through here, on both sides, so that there is one answer to "who is the peer":
//!
//! - [`Credentials`] holds this process's certificate and the trusted roots; both can be replaced while running, and
//!   the next handshake uses the new ones. TLS configurations never need to be rebuilt for that.
//! - [`ClientTls`] makes the configuration for a connection *to* a peer that must be exactly whom config names.
//! - [`ServerTls`] chooses the configuration for a connection *from* a peer, after its ClientHello was read.
//! - [`peer`] tells, after a handshake, who the peer is; [`refusal`] tells why one failed.
//! - [`authority`] is the certificate authority, [`key`] the workload's side of asking it.
//! - [`client_hello`] tells the mesh's TLS from foreign TLS before anything is terminated.
//!
//! Mesh TLS is 1.3 only, prefers the hybrid post-quantum key exchange, and never resumes a session: a resumed session
//! would outlive the certificates and roots it was checked with.

pub mod alpn;
pub mod authority;
pub mod client_hello;
mod credentials;
pub mod error;
mod handshake;
pub mod key;
pub mod leaf;
pub mod pem;
mod verify;

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod testing;

pub use credentials::{Credentials, TrustBundle, WorkloadCertificate};
pub use handshake::{ClientTls, Peer, ServerTls, peer, provider, refusal};
