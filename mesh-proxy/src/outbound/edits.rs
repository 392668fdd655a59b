//! What the author of a route changes in heads, and the answers that a route gives itself.

use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use mesh_core::config::{Abort, DirectResponse, HeaderEdits};
use mesh_core::reason::Reason;

use crate::http::body::Body;
use crate::http::local;

/// Changes a request's head.
pub(super) fn request(headers: &mut HeaderMap, edits: &HeaderEdits) {
    apply(headers, &edits.request_set, &edits.request_add, &edits.request_remove);
}

/// Changes a response's head.
pub(super) fn response(headers: &mut HeaderMap, edits: &HeaderEdits) {
    apply(headers, &edits.response_set, &edits.response_add, &edits.response_remove);
}

fn apply(headers: &mut HeaderMap, set: &[(String, String)], add: &[(String, String)], remove: &[String]) {
    // What is no header was refused when it was compiled; here it would only be left out.
    let parsed = |(name, value): &(String, String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    for (name, value) in set.iter().filter_map(parsed) {
        headers.insert(name, value);
    }
    for (name, value) in add.iter().filter_map(parsed) {
        headers.append(name, value);
    }
    for name in remove {
        headers.remove(name.as_str());
    }
}

/// A redirect's answer.
pub(super) fn redirect(status: u16, location: &str) -> Response<Body> {
    let mut answer = Response::new(Body::Empty);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

/// A direct response's answer.
pub(super) fn direct(direct: &DirectResponse) -> Response<Body> {
    let mut answer = Response::new(Body::text(direct.body.clone()));
    *answer.status_mut() = StatusCode::from_u16(direct.status).unwrap_or(StatusCode::OK);
    answer
}

/// An injected abort's answer: as Envoy's, so that people recognise it.
pub(super) fn abort(abort: &Abort, grpc: bool) -> Response<Body> {
    const TEXT: &str = "fault filter abort";
    let mut answer = match (abort.grpc, grpc) {
        (Some(status), _) => local::grpc_answer(status, TEXT),
        (None, true) => local::grpc_answer(Reason::FaultInjected.grpc_status(), TEXT),
        (None, false) => {
            let mut answer = Response::new(Body::text(TEXT));
            *answer.status_mut() = StatusCode::from_u16(abort.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            answer
        }
    };
    let code = HeaderValue::from_static(Reason::FaultInjected.code());
    answer.headers_mut().insert(crate::http::hygiene::MESH_REASON, code);
    answer
}
