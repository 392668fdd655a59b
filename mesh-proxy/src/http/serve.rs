//! Serves HTTP to a client over one connection, through hyper: HTTP/1.1 with upgrades, or HTTP/2.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_core::reason::Reason;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tracing::debug;

use super::body::Observed;
use super::exec::HeadClock;
use super::limits;
use crate::detect::replayed::Replayed;
use crate::upstream::connection::Upgraded;
use crate::upstream::copy::both_ways;
use crate::upstream::io::Io;

/// Time to take back what the client still sends, and to say goodbye, on a connection that ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The answer to a request; boxed, since hyper wants to move it.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Observed>>>>;

/// Where a request that changed the connection's protocol leaves the other side's bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpgradeSlot(Rc<RefCell<Option<oneshot::Receiver<Upgraded>>>>);

impl UpgradeSlot {
    /// The answer is `101`: afterwards the connection's bytes go to and from there.
    pub(crate) fn set(&self, upstream: oneshot::Receiver<Upgraded>) {
        *self.0.borrow_mut() = Some(upstream);
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Served {
    /// As it should.
    Ended,
    /// Its protocol was changed, and its bytes passed to their end.
    Upgraded,
    /// The client broke HTTP's rules or our limits; hyper has answered it.
    Refused(Reason),
    /// The client went away.
    Gone,
}

/// Serves HTTP/1.1. When `goodbye` comes, the request in flight is the last one.
pub(crate) async fn http1(
    io: Io,
    goodbye: impl Future<Output = ()>,
    upgrade: UpgradeSlot,
    answer: impl Fn(Request<Incoming>) -> Answering,
) -> Served {
    let clock = HeadClock::new(io.read_mark());
    let service = service_fn(|request| {
        let answering = answer(request);
        Box::pin(async move { Ok::<_, Infallible>(answering.await) }) as Pin<Box<dyn Future<Output = _>>>
    });
    let mut connection = limits::http1_server(clock).serve_connection(TokioIo::new(io), service);
    let mut goodbye = pin!(goodbye);
    let mut said_goodbye = false;
    let ended = poll_fn(|cx| {
        if !said_goodbye && goodbye.as_mut().poll(cx).is_ready() {
            said_goodbye = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(cx)
    })
    .await;
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    match ended {
        Ok(()) => {
            let waiting = upgrade.0.borrow_mut().take();
            if let Some(upstream) = waiting {
                return upgraded(io, BytesMut::from(&parts.read_buf[..]), upstream).await;
            }
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, io.shutdown()).await;
            Served::Ended
        }
        Err(error) => {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, io.shutdown()).await;
            fault(&error)
        }
    }
}

async fn upgraded(client: Io, read: BytesMut, upstream: oneshot::Receiver<Upgraded>) -> Served {
    let Ok((server, server_read)) = upstream.await else { return Served::Gone };
    let mut client = Replayed::new(read, client);
    let mut server = Replayed::new(BytesMut::from(&server_read[..]), server);
    let copied = both_ways(&mut client, &mut server, Some(limits::CLIENT_IDLE_TIMEOUT)).await;
    debug!(sent = copied.sent, received = copied.received, ended = ?copied.ended, "an upgraded connection ended");
    Served::Upgraded
}

/// Serves HTTP/2. When `goodbye` comes, the client is told to go elsewhere, and streams in flight end.
pub(crate) async fn http2(
    io: Io,
    goodbye: impl Future<Output = ()>,
    answer: impl Fn(Request<Incoming>) -> Answering,
) -> Served {
    let service = service_fn(|request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let mut connection = pin!(limits::http2_server().serve_connection(TokioIo::new(io), service));
    let mut goodbye = pin!(goodbye);
    let mut said_goodbye = false;
    let ended = poll_fn(|cx| {
        if !said_goodbye && goodbye.as_mut().poll(cx).is_ready() {
            said_goodbye = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    match ended {
        Ok(()) => Served::Ended,
        Err(error) => fault(&error),
    }
}

fn fault(error: &hyper::Error) -> Served {
    if error.is_parse_too_large() {
        Served::Refused(Reason::HeaderTooLarge)
    } else if error.is_parse() {
        Served::Refused(Reason::BadRequest)
    } else if error.is_timeout() {
        Served::Refused(Reason::ClientTimeout)
    } else {
        Served::Gone
    }
}
