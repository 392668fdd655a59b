//! Answers: small, whole, never kept by a cache.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// An answer.
pub(super) type Reply = Response<Full<Bytes>>;

/// The type of Prometheus' text format.
pub(super) const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Bytes of this type.
pub(super) fn bytes(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// Text for people; ends with a line end.
pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Reply {
    let mut body = body.into();
    if !body.ends_with('\n') {
        body.push('\n');
    }
    bytes(status, TEXT, body)
}

/// JSON, indented: people read it too.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            bytes(status, JSON, body)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer cannot be written as JSON: {error}")),
    }
}

/// 404.
pub(super) fn not_found(known: &str) -> Reply {
    text(StatusCode::NOT_FOUND, format!("nothing is here; known paths: {known}"))
}

/// 405: these ports only tell.
pub(super) fn only_get() -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "only GET: this port tells, it changes nothing");
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    reply
}
