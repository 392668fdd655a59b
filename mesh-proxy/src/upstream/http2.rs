//! Drives HTTP/2 connections to destinations, each with a count of its streams.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use super::connection::Connection;
use super::io::Io;
use crate::http::body::Body;
use crate::http::limits;

/// An HTTP/2 connection of a pool.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<Body>,
    pub(super) connection: Rc<Connection>,
    streams: Rc<Cell<usize>>,
    /// Streams at once that the server takes; it may say so late, and change its mind.
    streams_max: Rc<Cell<usize>>,
}

/// Counts one stream as long as it lives.
#[derive(Debug)]
pub(super) struct Stream(Rc<Cell<usize>>);

impl Http2 {
    /// Whether one more stream may be opened. The server says how many at once it takes.
    pub(super) fn has_room(&self, requests_max: u32) -> bool {
        let streams_max = self.streams_max.get().min(limits::STREAMS_MAX as usize);
        let used_up = requests_max > 0 && self.connection.requests.get() >= requests_max;
        !self.sender.is_closed() && !used_up && self.streams.get() < streams_max
    }

    /// Whether nothing uses it.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Takes one stream.
    pub(super) fn stream(&self) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream(Rc::clone(&self.streams))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Begins HTTP/2 on a new connection. `closed` runs when the connection has ended.
pub(super) async fn begin(io: Io, connection: Rc<Connection>, closed: impl FnOnce() + 'static) -> hyper::Result<Http2> {
    let (sender, driver) = limits::http2_client().handshake(TokioIo::new(io)).await?;
    let streams_max = Rc::new(Cell::new(driver.current_max_send_streams()));
    let told = Rc::clone(&streams_max);
    tokio::task::spawn_local(async move {
        let mut driver = pin!(driver);
        let drive = poll_fn(|cx| {
            let polled = driver.as_mut().poll(cx);
            told.set(driver.current_max_send_streams());
            polled
        });
        // Its error was told to every stream already.
        let _ = drive.await;
        closed();
    });
    Ok(Http2 { sender, connection, streams: Rc::default(), streams_max })
}
