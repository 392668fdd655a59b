//! The gRPC server, with a counter of streams that their clients cancelled.
//!
//! Also answers `GET /cancelled` and `GET /health` (HTTP/1.1 or h2), and gRPC's health protocol, on the same port.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::frame::{Broken, Messages, encode};
use super::{COUNT, PAUSE, RECEIVED, SERVICE, STATUS, code};
use crate::net::{listen::listen, serve};
use crate::reply::{self, Body, BodyError};

/// Messages that wait for a slow reader.
const MESSAGES_WAITING: usize = 4;
/// Messages that one server stream sends at most.
const COUNT_MAX: u64 = 1_000_000;
/// Messages that a server stream sends unless told otherwise.
const COUNT_DEFAULT: u64 = 5;
/// Bytes that the texts of a client stream may have together.
const JOINED_MAX: usize = 1024 * 1024;
/// The encoded answer of the health protocol: `status = SERVING`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 0x01];

/// Options of `grpc-echo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = 7070)]
    port: u16,
}

/// What has become of the streams; `GET /cancelled` answers with it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Streams {
    active: AtomicU64,
    completed: AtomicU64,
    /// Streams whose client reset them, or left, before the trailers were sent.
    cancelled: AtomicU64,
}

/// Serves until told to stop.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let streams = Arc::new(Streams::default());
    serve::http(listen(args.port)?, stop, move |request| {
        let streams = streams.clone();
        async move { route(request, &streams) }
    })
    .await;
    Ok(())
}

pub(super) fn route(request: Request<Incoming>, streams: &Arc<Streams>) -> Response<Body> {
    let path = request.uri().path();
    match path {
        "/cancelled" => return reply::json(StatusCode::OK, &**streams),
        "/health" => return reply::text(StatusCode::OK, "ok\n"),
        _ => {}
    }
    let media_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if request.method() != Method::POST || !media_type.starts_with(b"application/grpc") {
        return reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this is a gRPC server; /cancelled counts streams\n");
    }
    let shape = match path.strip_prefix(SERVICE) {
        Some("/Unary") => Shape::Unary,
        Some("/ServerStream") => Shape::ServerStream,
        Some("/ClientStream") => Shape::ClientStream,
        Some("/Bidi") => Shape::Bidi,
        _ if path == "/grpc.health.v1.Health/Check" => Shape::Health,
        _ => return refused(code::UNIMPLEMENTED, "there is no such method"),
    };
    let (sender, body) = Channel::new(MESSAGES_WAITING);
    let what = path.to_owned();
    tokio::spawn(async move {
        let (head, body) = request.into_parts();
        let mut call = Call { requests: Messages::of(body), answers: sender, received: 0 };
        // An error is the client's leaving; `Watched` has seen it too.
        if let Ok(end) = call.run(shape, &head.headers).await {
            let _ = call.answers.send_trailers(end.trailers(call.received)).await;
        }
    });
    let mut response = grpc_response();
    *response.body_mut() = Watched::new(body, what, streams.clone()).boxed_unsync();
    response
}

/// The four streaming shapes, and the health check.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Unary,
    ServerStream,
    ClientStream,
    Bidi,
    Health,
}

/// One call in progress.
struct Call {
    requests: Messages,
    answers: Sender<Bytes, BodyError>,
    received: u64,
}

/// The client has left; nobody is there to tell.
struct Left;

/// How a call ends.
struct End {
    code: u32,
    words: &'static str,
}

impl Call {
    async fn run(&mut self, shape: Shape, headers: &HeaderMap) -> Result<End, Left> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let result = match shape {
            Shape::Unary => self.unary().await,
            Shape::ServerStream => {
                let pause = Duration::from_millis(number(PAUSE).unwrap_or(0));
                self.server_stream(number(COUNT).unwrap_or(COUNT_DEFAULT).min(COUNT_MAX), pause).await
            }
            Shape::ClientStream => self.client_stream().await,
            Shape::Bidi => self.bidi().await,
            Shape::Health => self.answer_bytes(Bytes::from_static(SERVING)).await,
        };
        match result {
            Ok(()) => {
                let code = number(STATUS).and_then(|code| u32::try_from(code).ok()).unwrap_or(code::OK);
                Ok(End { code, words: if code == code::OK { "" } else { "as the request asked" } })
            }
            Err(Broken::Stream(_)) => Err(Left),
            Err(Broken::Message(words)) => Ok(End { code: code::INVALID_ARGUMENT, words }),
        }
    }

    async fn unary(&mut self) -> Result<(), Broken> {
        let text = self.one().await?;
        self.answer(&text).await
    }

    async fn server_stream(&mut self, count: u64, pause: Duration) -> Result<(), Broken> {
        let text = self.one().await?;
        for number in 0..count {
            self.answer(&format!("{text}-{number}")).await?;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        Ok(())
    }

    async fn client_stream(&mut self) -> Result<(), Broken> {
        let mut joined = String::new();
        while let Some(text) = self.next().await? {
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(&text);
            if joined.len() > JOINED_MAX {
                return Err(Broken::Message("the texts are too long together"));
            }
        }
        self.answer(&joined).await
    }

    async fn bidi(&mut self) -> Result<(), Broken> {
        while let Some(text) = self.next().await? {
            self.answer(&text).await?;
        }
        Ok(())
    }

    async fn one(&mut self) -> Result<String, Broken> {
        self.next().await?.ok_or(Broken::Message("no message came"))
    }

    async fn next(&mut self) -> Result<Option<String>, Broken> {
        let message = self.requests.next().await?;
        self.received += u64::from(message.is_some());
        Ok(message)
    }

    async fn answer(&mut self, text: &str) -> Result<(), Broken> {
        self.answer_bytes(encode(text)).await
    }

    /// Sends; when nobody reads any more, waits for the request's side to say why (it does, or it ends).
    async fn answer_bytes(&mut self, message: Bytes) -> Result<(), Broken> {
        if self.answers.send_data(message).await.is_ok() {
            return Ok(());
        }
        loop {
            if self.requests.next().await?.is_none() {
                return Err(Broken::Message("nobody reads the answers"));
            }
        }
    }
}

impl End {
    fn trailers(&self, received: u64) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code));
        if !self.words.is_empty() {
            trailers.insert("grpc-message", HeaderValue::from_static(self.words));
        }
        trailers.insert(RECEIVED, HeaderValue::from(received));
        trailers
    }
}

fn grpc_response() -> Response<Body> {
    let mut response = reply::answer(StatusCode::OK, "application/grpc", "");
    if let Ok(name) = HeaderValue::from_str(&reply::hostname()) {
        response.headers_mut().insert("x-hostname", name);
    }
    response
}

/// An answer without a body: the status stands in the headers.
fn refused(code: u32, words: &'static str) -> Response<Body> {
    let mut response = grpc_response();
    response.headers_mut().insert("grpc-status", HeaderValue::from(code));
    response.headers_mut().insert("grpc-message", HeaderValue::from_static(words));
    response
}

/// An answer's body that notices when it is dropped before its end: that is how a cancelled stream shows.
struct Watched {
    inner: Channel<Bytes, BodyError>,
    what: String,
    streams: Arc<Streams>,
    ended: bool,
}

impl Watched {
    fn new(inner: Channel<Bytes, BodyError>, what: String, streams: Arc<Streams>) -> Watched {
        streams.active.fetch_add(1, Ordering::Relaxed);
        Watched { inner, what, streams, ended: false }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.ended |= frame.is_trailers(),
            Poll::Ready(None) => self.ended = true,
            _ => {}
        }
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.streams.active.fetch_sub(1, Ordering::Relaxed);
        if self.ended {
            self.streams.completed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.streams.cancelled.fetch_add(1, Ordering::Relaxed);
            eprintln!("grpc-echo: {} was cancelled by its client", self.what);
        }
    }
}
