//! One type for every byte stream that the proxy holds: plain or TLS, ours or a peer's, with counts of what passed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::detect::replayed::Replayed;
use crate::http::exec::ReadMark;

/// A client's socket, with the bytes that were read to find out what it speaks.
pub(crate) type ClientSocket = Replayed<TcpStream>;

/// A byte stream.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Plain TCP that we opened.
    Plain(Wire),
    /// Mutual TLS that we opened.
    Tls(Box<client::TlsStream<Wire>>),
    /// Plain TCP that a client opened.
    Accepted(ClientSocket),
    /// Mutual TLS that a peer opened, with what was read of its inside.
    AcceptedTls(Box<Replayed<server::TlsStream<ClientSocket>>>),
}

/// A counter that one task writes; the atomic only lets hyper have the stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Bytes so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.store(self.get() + bytes as u64, Ordering::Relaxed);
    }
}

/// A socket that we opened, with the bytes that were handed to the kernel (below TLS).
#[derive(Debug)]
pub(crate) struct Wire {
    socket: TcpStream,
    written: Counter,
}

impl Wire {
    /// Counts what is written to `socket`.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, written: Counter::default() }
    }
}

/// A byte stream that counts, above TLS.
#[derive(Debug)]
pub(crate) struct Io {
    transport: Transport,
    read: Counter,
    written: Counter,
    mark: ReadMark,
}

impl Io {
    /// Counts what passes over `transport`.
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, read: Counter::default(), written: Counter::default(), mark: ReadMark::default() }
    }

    /// Bytes read and bytes written, above TLS.
    pub(crate) fn counters(&self) -> (Counter, Counter) {
        (self.read.clone(), self.written.clone())
    }

    /// Bytes handed to the kernel, where we opened the connection.
    pub(crate) fn wire_written(&self) -> Option<Counter> {
        match &self.transport {
            Transport::Plain(wire) => Some(wire.written.clone()),
            Transport::Tls(stream) => Some(stream.get_ref().0.written.clone()),
            Transport::Accepted(_) | Transport::AcceptedTls(_) => None,
        }
    }

    /// Tells the connection's clock that bytes came.
    pub(crate) fn read_mark(&self) -> ReadMark {
        self.mark.clone()
    }

    /// The socket under it.
    pub(crate) fn socket(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(wire) => &wire.socket,
            Transport::Tls(stream) => &stream.get_ref().0.socket,
            Transport::Accepted(stream) => stream.get_ref(),
            Transport::AcceptedTls(stream) => stream.get_ref().get_ref().0.get_ref(),
        }
    }

    /// Our end's address.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.socket().local_addr().ok()
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.transport {
            Transport::Plain($stream) => $call,
            Transport::Tls($stream) => $call,
            Transport::Accepted($stream) => $call,
            Transport::AcceptedTls($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = each!(self, stream => Pin::new(stream).poll_read(cx, buf));
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            self.read.add(bytes);
            self.mark.add(bytes);
        }
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = each!(self, stream => Pin::new(stream).poll_write(cx, buf));
        counted(&self.written, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs));
        counted(&self.written, polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Accepted(stream) => stream.is_write_vectored(),
            Transport::AcceptedTls(stream) => stream.is_write_vectored(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        counted(&self.written, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        counted(&self.written, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

fn counted(counter: &Counter, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(bytes)) = &polled {
        counter.add(*bytes);
    }
    polled
}
