//! What a failed attempt proves (architecture, rule 11).

use std::error::Error;

use mesh_core::retry::Unsent;

/// Why a request that was handed to a connection has no answer.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct SendFault {
    /// What hyper says.
    pub(crate) error: hyper::Error,
    /// What it proves.
    pub(crate) proof: Proof,
}

/// Whether the other side can have seen anything of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing was written to the connection.
    NothingWritten,
    /// HTTP/2: the server says that it did not begin with it.
    RefusedStream,
    /// HTTP/2: the server went away before this stream.
    GoAway,
    /// A reused connection ended by FIN, and the kernel says that no byte of the request was acknowledged.
    Unacknowledged,
    /// None: it may have been served.
    None,
}

impl Proof {
    /// Reads an HTTP/2 error. A connection that breaks fails its streams with an IO error; these two come only from a
    /// server that says so.
    pub(crate) fn of_http2(error: &hyper::Error) -> Self {
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(h2) = inner.downcast_ref::<h2::Error>() {
                if h2.is_go_away() && h2.is_remote() {
                    return Self::GoAway;
                }
                if h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM) {
                    return Self::RefusedStream;
                }
            }
            source = inner.source();
        }
        Self::None
    }
}

/// Whether the connection ended by a FIN before the answer, with or without TLS' own farewell.
pub(crate) fn is_fin(error: &hyper::Error) -> bool {
    let unexpected_eof = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof);
    error.is_incomplete_message() || unexpected_eof
}

/// What a failed attempt proves, in the words of the retry decision.
pub(crate) fn unsent(proof: Proof) -> Option<Unsent> {
    match proof {
        Proof::NothingWritten => Some(Unsent::NothingWritten),
        Proof::RefusedStream => Some(Unsent::RefusedStream),
        Proof::GoAway => Some(Unsent::GoAwayBelow),
        Proof::Unacknowledged => Some(Unsent::ReusedFinUnacknowledged),
        Proof::None => None,
    }
}
