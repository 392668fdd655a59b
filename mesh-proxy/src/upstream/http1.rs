//! Drives HTTP/1.1 connections to destinations.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::connection::Connection;
use super::io::Io;
use crate::http::body::Body;
use crate::http::limits;

/// Time to say goodbye on a connection that ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Begins HTTP/1.1 on a new connection. `closed` runs when the connection has ended.
pub(super) async fn begin(
    io: Io,
    connection: Rc<Connection>,
    closed: impl FnOnce() + 'static,
) -> hyper::Result<http1::SendRequest<Body>> {
    let (sender, driver) = limits::http1_client().handshake(TokioIo::new(io)).await?;
    tokio::task::spawn_local(async move {
        drive(driver, &connection).await;
        closed();
    });
    Ok(sender)
}

async fn drive(mut driver: http1::Connection<TokioIo<Io>, Body>, connection: &Connection) {
    let ended = poll_fn(|cx| driver.poll_without_shutdown(cx)).await;
    let parts = driver.into_parts();
    let io = parts.io.into_inner();
    // Before anything else closes the socket: whether a failed request was acknowledged is asked of it.
    connection.note_end(&io);
    let rest = if ended.is_ok() { connection.upgraded((io, parts.read_buf)) } else { Some(io) };
    if let Some(mut io) = rest {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, io.shutdown()).await;
    }
}
