//! Hop-by-hop headers (RFC 9110, section 7.6.1): what a peer says to us about this connection ends here.
//!
//! A header named in `Connection` is removed as well, but only if it is not one that a peer must not be able to
//! remove: otherwise `Connection: x-forwarded-client-cert` would strip an identity that a proxy in front had set.

use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What a message said about its own hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hop {
    /// The protocol that the sender wants to change to (never HTTP/2, which would escape policy).
    pub(crate) upgrade: Option<HeaderValue>,
    /// The sender takes trailers (`TE: trailers`), which gRPC requires to be passed on.
    pub(crate) te_trailers: bool,
}

/// Removes everything that is meant for one hop, and says what it was.
pub(crate) fn strip(headers: &mut HeaderMap) -> Hop {
    let mut hop = Hop::default();
    let mut wants_upgrade = false;
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_options(headers).collect();
        wants_upgrade = named.contains(&UPGRADE);
        for name in named {
            if may_be_hop_by_hop(&name) {
                headers.remove(name);
            } else if name == UPGRADE {
                continue;
            }
        }
        headers.remove(CONNECTION);
    }
    hop.te_trailers = headers.get_all(TE).iter().any(|value| lists(value, "trailers"));
    headers.remove(TE);
    if let Some(protocol) = headers.remove(UPGRADE) {
        let h2c = headers.remove(HTTP2_SETTINGS).is_some() || lists(&protocol, "h2c") || lists(&protocol, "h2");
        hop.upgrade = (wants_upgrade && !h2c).then_some(protocol);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    // hyper frames the message anew from the body that we hand it.
    headers.remove(TRANSFER_ENCODING);
    headers.remove(TRAILER);
    hop
}

/// Puts the wish for an upgrade, or for trailers, back for the next hop.
pub(crate) fn restore(headers: &mut HeaderMap, hop: &Hop, http2: bool) {
    if hop.te_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let (Some(protocol), false) = (&hop.upgrade, http2) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
}

/// Headers that have a meaning from end to end and cannot be declared hop-by-hop by a peer.
fn may_be_hop_by_hop(name: &HeaderName) -> bool {
    let text = name.as_str();
    !(*name == HOST
        || *name == UPGRADE
        || *name == TE
        || matches!(
            text,
            "content-length"
                | "content-type"
                | "authorization"
                | "cookie"
                | "cache-control"
                | "x-request-id"
                | "forwarded"
        )
        || text.starts_with("x-forwarded-")
        || text.starts_with("mesh-")
        || text.starts_with("grpc-"))
}

fn lists(value: &HeaderValue, wanted: &str) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|part| {
        part.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn check(before: &[(&str, &str)], after: &[(&str, &str)], hop: &Hop) {
        let mut map = headers(before);
        assert_eq!(&strip(&mut map), hop);
        assert_eq!(map, headers(after));
    }

    #[test]
    fn what_is_named_in_connection_ends_here() {
        check(
            &[("connection", "keep-alive, X-Secret"), ("x-secret", "1"), ("keep-alive", "5"), ("accept", "*/*")],
            &[("accept", "*/*")],
            &Hop::default(),
        );
    }

    #[test]
    fn a_peer_cannot_have_identity_removed() {
        let kept = [("x-forwarded-client-cert", "By=a"), ("host", "h"), ("mesh-peer", "w")];
        let mut before = vec![("connection", "x-forwarded-client-cert, host, mesh-peer")];
        before.extend(kept);
        check(&before, &kept, &Hop::default());
    }

    #[test]
    fn websocket_is_an_upgrade_and_h2c_is_not() {
        let websocket = Hop { upgrade: Some(HeaderValue::from_static("websocket")), te_trailers: false };
        check(&[("connection", "Upgrade"), ("upgrade", "websocket")], &[], &websocket);
        check(
            &[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMA")],
            &[],
            &Hop::default(),
        );
        check(&[("upgrade", "websocket")], &[], &Hop::default());
    }

    #[test]
    fn te_trailers_is_known_and_put_back() {
        let hop = Hop { upgrade: None, te_trailers: true };
        check(&[("te", "gzip;q=1, trailers")], &[], &hop);
        let mut map = HeaderMap::new();
        restore(&mut map, &hop, true);
        assert_eq!(map, headers(&[("te", "trailers")]));
    }
}
