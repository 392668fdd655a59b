//! Where a connection goes, whom it must reach, and what is spoken on it: also the key of its pool.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mesh_core::identity::SpiffeId;

/// What is spoken on a connection that we open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Bytes.
    Opaque,
}

/// How a connection is secured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// Mesh mutual TLS with one of exactly these identities.
    Mesh {
        /// Whom the other side must be.
        identities: Arc<[SpiffeId]>,
        /// The name to send, where configuration asks for one.
        sni: Option<Arc<str>>,
    },
}

/// Where a connection goes. Two requests may share a connection only if all of this is equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The address that is dialled.
    pub(crate) address: SocketAddr,
    /// How it is secured: a pool never mixes identities.
    pub(crate) security: Security,
    /// What is spoken.
    pub(crate) speaks: Speaks,
    /// The address that we come from, where it matters (127.0.0.6 towards the pod's own application).
    pub(crate) source: Option<IpAddr>,
}
