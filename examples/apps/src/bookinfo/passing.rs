//! The headers that a service hands on from the request it got to the requests it makes.
//!
//! A mesh can join the hops of a trace, and route by user, only if the applications pass these on.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

/// Headers that belong to the request as a whole.
const PASSED_ON: [&str; 17] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "user-agent",
    "cookie",
    "authorization",
    END_USER,
];

/// The header that names the person who is logged in; routing rules match on it.
const END_USER: &str = "end-user";

/// What of `incoming` goes along with the requests made for it.
pub(super) fn passed_on(incoming: &HeaderMap) -> HeaderMap {
    let mut outgoing = HeaderMap::new();
    for name in PASSED_ON.map(HeaderName::from_static) {
        for value in incoming.get_all(&name) {
            outgoing.append(name.clone(), value.clone());
        }
    }
    outgoing
}

/// Names `user` as the person for whom the requests are made.
pub(super) fn set_end_user(outgoing: &mut HeaderMap, user: &str) {
    if let Ok(value) = HeaderValue::from_str(user) {
        outgoing.insert(END_USER, value);
    }
}

/// The person named by an incoming request.
pub(super) fn end_user(incoming: &HeaderMap) -> Option<&str> {
    incoming.get(END_USER)?.to_str().ok()
}
