//! Answers: the body type that all servers use, and the few shapes an answer takes.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;

/// Why a body of ours breaks off: only ever because we cancel it.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every request and answer that we send.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of the given media type.
pub(crate) fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(value).expect("values of this program have string keys and no failing parts");
    answer(status, "application/json", text)
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", words)
}

/// The answer to a path that does not exist.
pub(crate) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "there is nothing at this path\n")
}

/// The answer to a method that a path does not take.
pub(crate) fn method_not_allowed() -> Response<Body> {
    text(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method\n")
}

/// The pod's name (`POD_NAME`), else the machine's.
pub(crate) fn hostname() -> String {
    if let Ok(name) = std::env::var("POD_NAME") {
        return name;
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}
