//! What all clients share: failures that say at which step, and the target of a URL.

use std::fmt;

use http::Uri;
use serde::Serialize;

/// At which step a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The name has no address.
    Resolve,
    /// No address accepted the connection.
    Connect,
    /// The connection broke before an answer came.
    Exchange,
    /// The answer began and did not end well.
    Body,
    /// No whole answer in time.
    Timeout,
}

/// Why a request has no answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    /// The step.
    pub(crate) kind: Kind,
    /// What happened, with the peer's name.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Failure {}

/// Host and port of an `http://` URL; the port is 80 unless named.
///
/// # Errors
/// When it is another scheme or has no host.
pub(crate) fn target(url: &Uri) -> anyhow::Result<(String, u16)> {
    anyhow::ensure!(url.scheme_str() == Some("http"), "{url}: only http:// is spoken here");
    let host = url.host().ok_or_else(|| anyhow::anyhow!("{url}: a URL needs a host"))?;
    Ok((host.to_owned(), url.port_u16().unwrap_or(80)))
}

/// Splits `host:port`, also `[::1]:80`.
///
/// # Errors
/// When the port is missing or no number.
pub(crate) fn host_port(text: &str) -> anyhow::Result<(String, u16)> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| anyhow::anyhow!("{text}: expected HOST:PORT"))?;
    let port = port.parse().map_err(|_| anyhow::anyhow!("{text}: the port is not a number"))?;
    anyhow::ensure!(!host.is_empty(), "{text}: expected HOST:PORT");
    Ok((host.to_owned(), port))
}
