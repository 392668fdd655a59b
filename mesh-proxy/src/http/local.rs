//! Answers that the proxy gives itself: one line that names the reason and what to do, the same words as in log, metric
//! and command line.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use mesh_core::reason::Reason;

use super::body::Body;
use super::hygiene::MESH_REASON;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Envoy's mark of a circuit limit.
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// What follows the reason's code where the request provably did not reach the application.
const UNSENT_MARK: &str = "; unsent";

/// Whether a request is gRPC, so that its failure must be told as gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web")
    })
}

/// An answer for a reason. `detail` says more than the catalogue (which policy, which peer, …).
pub(crate) fn answer(reason: Reason, detail: Option<&str>, grpc: bool, unsent: bool) -> Response<Body> {
    let entry = reason.entry();
    let text = match detail {
        Some(detail) => format!("{}: {} ({detail}); {}\n", entry.code, entry.cause, entry.next),
        None => format!("{}: {}; {}\n", entry.code, entry.cause, entry.next),
    };
    let mut response = if grpc {
        grpc_answer(entry.grpc_status, text.trim_end())
    } else {
        // The statuses of the catalogue are tested to be in range; 499 has no name but is one.
        let status = StatusCode::from_u16(entry.http_status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut response = Response::new(Body::text(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    let mark = if unsent { format!("{}{UNSENT_MARK}", entry.code) } else { entry.code.to_owned() };
    if let Ok(mark) = HeaderValue::from_str(&mark) {
        response.headers_mut().insert(MESH_REASON, mark);
    }
    if reason == Reason::Overflow {
        response.headers_mut().insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    response
}

/// A trailers-only answer of gRPC.
pub(crate) fn grpc_answer(status: u8, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.version_mut() = Version::HTTP_2;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::from_str(&percent_encode(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// gRPC's message is percent-encoded outside printable ASCII, and `%` itself.
fn percent_encode(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// The gRPC status of a head or of trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// What a verified proxy of ours says about an answer that it gave itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Why.
    pub(crate) reason: Reason,
    /// The request provably did not reach the application.
    pub(crate) unsent: bool,
}

/// Reads another proxy's mark. Believe it only from a verified one.
pub(crate) fn told(headers: &HeaderMap) -> Option<Told> {
    let mark = headers.get(MESH_REASON)?.to_str().ok()?;
    let (code, unsent) = match mark.strip_suffix(UNSENT_MARK) {
        Some(code) => (code, true),
        None => (mark, false),
    };
    Reason::from_code(code).map(|reason| Told { reason, unsent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_reason_and_is_read_back() {
        let response = answer(Reason::ConnectFailed, Some("10.0.0.1:80"), false, true);
        assert_eq!(response.status(), 503);
        assert_eq!(told(response.headers()), Some(Told { reason: Reason::ConnectFailed, unsent: true }));
        let denied = answer(Reason::PolicyDenied, None, false, false);
        assert_eq!(told(denied.headers()), Some(Told { reason: Reason::PolicyDenied, unsent: false }));
    }

    #[test]
    fn a_grpc_request_is_answered_in_grpcs_way() {
        let response = answer(Reason::NoRoute, Some("50%"), true, false);
        assert_eq!((response.status(), grpc_status(response.headers())), (StatusCode::OK, Some(12)));
        assert!(response.headers().get(GRPC_MESSAGE).unwrap().to_str().unwrap().contains("50%25"));
    }
}
