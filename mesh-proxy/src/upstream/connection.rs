//! What is known about one connection to a destination, as long as it lives.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use mesh_tls::Peer;
use tokio::sync::oneshot;

use super::dial::Dialled;
use super::io::{Counter, Io};
use super::target::Target;
use super::tcp_info::bytes_acked;

/// The bytes of a connection whose protocol was changed, and what was read of them already.
pub(crate) type Upgraded = (Io, Bytes);

/// One connection. The worker that opened it is its only user.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where it goes.
    pub(crate) target: Target,
    /// Our end.
    pub(crate) local: Option<SocketAddr>,
    /// Who is there, where mutual TLS proved it.
    pub(crate) peer: Option<Peer>,
    /// When it was opened.
    pub(crate) opened: Instant,
    /// Requests that it has carried or carries.
    pub(crate) requests: Cell<u32>,
    /// The client's description was sent.
    pub(crate) described: Cell<bool>,
    wire_written: Option<Counter>,
    acked_at_open: Option<u64>,
    acked_at_end: Cell<Option<u64>>,
    upgrade: RefCell<Option<oneshot::Sender<Upgraded>>>,
}

impl Connection {
    /// Notes what is known of a new connection.
    pub(crate) fn new(target: Target, dialled: &Dialled) -> Rc<Self> {
        Rc::new(Self {
            target,
            local: dialled.io.local_address(),
            peer: dialled.peer.clone(),
            opened: Instant::now(),
            requests: Cell::new(0),
            described: Cell::new(false),
            wire_written: dialled.io.wire_written(),
            // The handshake's bytes count on both sides, so they are taken together.
            acked_at_open: bytes_acked(dialled.io.socket())
                .zip(dialled.io.wire_written())
                .map(|(acked, written)| acked.saturating_sub(written.get())),
            acked_at_end: Cell::new(None),
            upgrade: RefCell::new(None),
        })
    }

    /// Bytes handed to the kernel so far.
    pub(crate) fn written(&self) -> u64 {
        self.wire_written.as_ref().map_or(0, Counter::get)
    }

    /// Asks the kernel, once, when the connection has ended and its socket is still open.
    pub(crate) fn note_end(&self, io: &Io) {
        self.acked_at_end.set(bytes_acked(io.socket()));
    }

    /// Whether no byte after the first `written` ones was acknowledged by the other side before the connection ended.
    /// `false` where that is not known.
    pub(crate) fn nothing_acked_after(&self, written: u64) -> bool {
        let (Some(at_open), Some(at_end)) = (self.acked_at_open, self.acked_at_end.get()) else { return false };
        at_end <= at_open + written
    }

    /// The connection's bytes, once its protocol has changed.
    pub(crate) fn expect_upgrade(&self) -> oneshot::Receiver<Upgraded> {
        let (sender, receiver) = oneshot::channel();
        *self.upgrade.borrow_mut() = Some(sender);
        receiver
    }

    /// Hands the bytes to whoever expects them; gives them back where nobody does.
    pub(crate) fn upgraded(&self, parts: Upgraded) -> Option<Io> {
        match self.upgrade.borrow_mut().take() {
            Some(sender) => sender.send(parts).err().map(|(io, _)| io),
            None => Some(parts.0),
        }
    }
}
