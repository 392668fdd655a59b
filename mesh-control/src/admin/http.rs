//! A small HTTP/1.1 server: few connections, short heads, no request bodies.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Answer, Port, State};

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Time for a request's head.
const HEAD_WAIT: Duration = Duration::from_secs(5);
/// Longest life of a connection.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// Most headers, and bytes of a request that are kept.
const HEADERS_MAX: usize = 64;
const BUFFER_BYTES: usize = 16 * 1024;
/// Pause after `accept` failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, port: Port, state: Arc<State>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = stop.cancelled() => break,
        };
        let Ok(slot) = slot else { break };
        let socket = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, ?port, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (state, stop) = (state.clone(), stop.clone());
        tasks.spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(respond(state, port, &request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WAIT)
                .max_headers(HEADERS_MAX)
                .max_buf_size(BUFFER_BYTES)
                .serve_connection(TokioIo::new(socket), answer);
            tokio::select! {
                // Whatever ends it, it is over.
                _ = timeout(CONNECTION_LIFE, connection) => {}
                () = stop.cancelled() => {}
            }
            drop(slot);
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn respond(state: Arc<State>, port: Port, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if port == Port::Control && request.method() == hyper::Method::GET && request.uri().path() == "/v1/sync" {
        return written(state.synchronise().await);
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // A report on a large mesh takes its time; the threads that serve proxies have none.
    let answer = tokio::task::spawn_blocking(move || state.answer(port, &method, &path)).await;
    let answer = answer.unwrap_or_else(|_| Answer {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        content_type: "text/plain",
        body: "answering failed; the log says why\n".to_owned(),
    });
    written(answer)
}

fn written(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}
