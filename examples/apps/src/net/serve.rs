//! Serving connections until told to stop, and then ending without losing what has begun.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::drain::{FINISH_MAX, LINGER, QUEUE_MAX, QUEUE_QUIET};
use crate::reply::Body;

/// Connections served at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// A request head must be complete, and an idle connection must speak again, within this time.
const HEAD_MAX: Duration = Duration::from_secs(75);
/// Streams that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 256;
/// Bytes of headers that one HTTP/2 request may have.
const HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Pause between two looks at a connection whose first bytes do not tell the protocol yet.
const SNIFF_PAUSE: Duration = Duration::from_millis(2);
/// HTTP/2's preface begins so, and no HTTP/1 method does.
const H2_BEGINS: &[u8] = b"PRI";

/// Who is at the other end of a request's connection; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Gives every accepted connection to `connection`, until `stop`; then takes what the kernel has queued, closes the
/// listener and returns when all connections have ended, at the latest after [`FINISH_MAX`].
pub(crate) async fn connections<C, F>(listener: TcpListener, stop: CancellationToken, connection: C)
where
    C: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let take = |accepted: std::io::Result<(TcpStream, SocketAddr)>| {
        let (stream, peer) = accepted?;
        let _ = stream.set_nodelay(true); // only latency is at stake
        let serving = connection(stream, peer);
        let places = places.clone();
        tasks.spawn(async move {
            let _place = places.acquire_owned().await; // never closed, so this only waits
            serving.await;
        });
        Ok::<(), std::io::Error>(())
    };

    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept_when_free(&listener, &places) => accepted,
        };
        if take(accepted).is_err() {
            sleep(ACCEPT_PAUSE).await;
        }
    }

    let latest = Instant::now() + QUEUE_MAX;
    while let Ok(Ok(accepted)) = timeout_at(latest, timeout(QUEUE_QUIET, listener.accept())).await {
        if take(accepted).is_err() {
            break;
        }
    }
    drop(listener);
    tasks.close();
    let _ = timeout(FINISH_MAX, tasks.wait()).await; // what is not finished by then ends with the process
}

async fn accept_when_free(listener: &TcpListener, places: &Semaphore) -> std::io::Result<(TcpStream, SocketAddr)> {
    let _free = places.acquire().await; // given back at once; the connection's task takes its own
    listener.accept().await
}

/// Serves HTTP/1.1 and HTTP/2 (prior knowledge) with `handler` until `stop`.
pub(crate) async fn http<H, F>(listener: TcpListener, stop: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let ending = stop.clone();
    connections(listener, stop, move |stream, peer| http_connection(stream, peer, ending.clone(), handler.clone()))
        .await;
}

async fn http_connection<H, F>(stream: TcpStream, peer: SocketAddr, stop: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Some(h2) = speaks_h2(&stream, &stop).await else { return };
    let ending = stop.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let one_more = request.version() < Version::HTTP_2;
        let (answer, ending) = (handler(request), ending.clone());
        async move {
            let mut answer = answer.await;
            if one_more && ending.is_cancelled() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let io = TokioIo::new(stream);

    // The two protocols' connections are different types with the same three steps: run; when told to stop, stay
    // for requests that are on their way; then finish. A broken connection is its client's affair, not ours.
    if h2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEADER_BYTES_MAX);
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => {}
        }
        if timeout(LINGER, connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).half_close(true);
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => {}
        }
        if timeout(LINGER, connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Whether the client opens with HTTP/2's preface; none when it leaves, stays silent, or we are to stop before it
/// has said anything.
async fn speaks_h2(stream: &TcpStream, stop: &CancellationToken) -> Option<bool> {
    let mut begin = [0; H2_BEGINS.len()];
    let silent_until = Instant::now() + HEAD_MAX;
    loop {
        let seen = tokio::select! {
            biased;
            seen = timeout_at(silent_until, stream.peek(&mut begin)) => seen.ok()?.ok()?,
            () = silence_after(stop) => return None,
        };
        if seen == 0 {
            return None;
        }
        if seen == begin.len() || !H2_BEGINS.starts_with(&begin[..seen]) {
            return Some(begin == H2_BEGINS);
        }
        sleep(SNIFF_PAUSE).await;
    }
}

async fn silence_after(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(LINGER).await;
}
