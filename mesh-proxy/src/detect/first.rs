//! Reads the first bytes of a connection until it is known what they are.
//!
//! Every byte that is read stays in the buffer and is replayed to whoever gets the connection. Waiting is bounded in
//! time and the buffer in size; a client that closes early is told by what it sent so far.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use mesh_core::detect::{First, SILENCE};
use mesh_core::sniff;
use mesh_tls::client_hello::{self, CLIENT_HELLO_BYTES_MAX, ClientHello, Reading};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use super::replayed::Replayed;
use crate::http::limits::{CLIENT_IDLE_TIMEOUT, HEAD_TIMEOUT};

/// Time for the rest of a request line, or of anything else that could still become one, after its first byte.
const REST_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that are read at once.
const READ_BYTES: usize = 4 * 1024;

/// A connection whose first bytes are being read.
#[derive(Debug)]
pub(crate) struct FirstBytes<S> {
    stream: S,
    buffer: BytesMut,
    /// The ClientHello, once it was seen whole.
    pub(crate) hello: Option<ClientHello>,
    patience: Duration,
}

/// Why it will never be known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstFault {
    /// Nothing came, or a ClientHello did not become whole.
    #[error("nothing came in time")]
    Timeout,
    /// The client closed without a byte.
    #[error("the client closed without a byte")]
    Closed,
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It began as TLS and broke the rules.
    #[error("{0}")]
    Tls(client_hello::Fault),
}

impl<S: AsyncRead + Unpin> FirstBytes<S> {
    /// Begins with a connection of which nothing was read.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new(), hello: None, patience: CLIENT_IDLE_TIMEOUT }
    }

    /// Waits at most this long for the first byte, where silence means nothing.
    pub(crate) fn hurry(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Reads until the bytes are known, after `seen` was not enough: first for [`SILENCE`], then for long.
    ///
    /// # Errors
    /// See [`FirstFault`].
    pub(crate) async fn read(&mut self, seen: First) -> Result<First, FirstFault> {
        if self.buffer.is_empty() {
            let wait = if seen == First::Unread { SILENCE } else { self.patience };
            match tokio::time::timeout(wait, self.fill()).await {
                Ok(filled) => filled?,
                Err(_) if seen == First::Unread => return Ok(First::Silent),
                Err(_) => return Err(FirstFault::Timeout),
            }
            if self.buffer.is_empty() {
                return Err(FirstFault::Closed);
            }
        }
        self.classify().await
    }

    /// Waits for the first bytes of a client that may never speak. Cancelling it loses nothing.
    pub(crate) async fn wait(&mut self) -> io::Result<()> {
        self.fill().await
    }

    /// What the bytes are, now that some have come.
    ///
    /// # Errors
    /// See [`FirstFault`].
    pub(crate) async fn classify(&mut self) -> Result<First, FirstFault> {
        let begun = Instant::now();
        loop {
            let sniffed = sniff::sniff(&self.buffer);
            let limit = match sniffed {
                sniff::First::Tls => match client_hello::read(&self.buffer) {
                    Reading::Hello(hello) => {
                        let mesh = hello.is_mesh();
                        self.hello = Some(hello);
                        return Ok(First::Tls { mesh });
                    }
                    Reading::Incomplete { .. } => HEAD_TIMEOUT,
                    Reading::NotTls => return Ok(First::Other),
                    Reading::Broken(fault) => return Err(FirstFault::Tls(fault)),
                },
                other => match First::of(other, false) {
                    Some(first) => return Ok(first),
                    None => REST_TIMEOUT,
                },
            };
            let before = self.buffer.len();
            match timeout_at(begun + limit, self.fill()).await {
                Ok(filled) => filled?,
                Err(_) if sniffed == sniff::First::Tls => return Err(FirstFault::Timeout),
                Err(_) => return Ok(First::Other),
            }
            if self.buffer.len() == before {
                // The end: what could have become something else is what it is.
                return Ok(First::Other);
            }
        }
    }

    /// Whether nothing was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The connection from its first byte.
    pub(crate) fn into_replayed(self) -> Replayed<S> {
        Replayed::new(self.buffer, self.stream)
    }

    async fn fill(&mut self) -> io::Result<()> {
        let room = (CLIENT_HELLO_BYTES_MAX + READ_BYTES).saturating_sub(self.buffer.len());
        if room == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many bytes without a meaning"));
        }
        self.buffer.reserve(room.min(READ_BYTES));
        self.stream.read_buf(&mut self.buffer).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn first(writes: &'static [&'static [u8]], pause: Duration) -> Result<First, FirstFault> {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            for bytes in writes {
                tokio::time::sleep(pause).await;
                client.write_all(bytes).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(7200)).await;
        });
        FirstBytes::new(server).read(First::Unread).await
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_may_come_in_any_pieces() {
        let pause = Duration::from_millis(10);
        assert_eq!(first(&[b"GET / HT", b"TP/1.1\r\n"], pause).await.unwrap(), First::Http1);
        assert_eq!(first(&[b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n"], pause).await.unwrap(), First::Http2);
        assert_eq!(first(&[b"\x00\x01binary"], pause).await.unwrap(), First::Other);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_after_50_ms_and_a_half_line_is_taken_for_what_it_is() {
        let begun = Instant::now();
        assert_eq!(first(&[b"late"], Duration::from_millis(51)).await.unwrap(), First::Silent);
        assert_eq!(begun.elapsed(), SILENCE);
        assert_eq!(first(&[b"GET /without-an-end"], Duration::ZERO).await.unwrap(), First::Other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_hello_that_never_becomes_whole_is_refused() {
        let fault = first(&[b"\x16\x03\x01\x02\x00\x01\x00"], Duration::ZERO).await.unwrap_err();
        assert!(matches!(fault, FirstFault::Timeout), "{fault}");
    }
}
