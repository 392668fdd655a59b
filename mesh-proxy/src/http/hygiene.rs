//! Which headers a peer may speak in, and what we say about it.
//!
//! Identity headers (`x-forwarded-client-cert` and relatives) and the mesh's own (`mesh-*`) are statements of proxies.
//! From a plaintext peer, which includes the pod's own application, they are removed. From a peer that proved who it
//! is, the certificate header is extended as Istio does (`APPEND_FORWARD`), so that applications can read the chain.

use std::fmt::Write;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use mesh_core::identity::SpiffeId;
use mesh_tls::Peer;

/// The certificate header of Envoy and Istio.
pub(crate) const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The client's description, once per connection. For telemetry only.
pub(crate) const MESH_PEER: HeaderName = HeaderName::from_static("mesh-peer");
/// The client spoke HTTP/1 and its proxy was told to speak HTTP/2 instead (`h2UpgradePolicy`): the server's proxy speaks
/// HTTP/1 with its application again.
pub(crate) const MESH_UPGRADED: HeaderName = HeaderName::from_static("mesh-upgraded");
/// Why a proxy answered itself.
pub(crate) const MESH_REASON: HeaderName = HeaderName::from_static("mesh-reason");
/// Request id, made where absent.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of a certificate header that are taken from a peer; a longer one is dropped.
const XFCC_BYTES_MAX: usize = 8 * 1024;

/// Headers by which a proxy vouches for an identity.
const IDENTITY_HEADERS: [&str; 6] = [
    "x-forwarded-client-cert",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-envoy-external-address",
    "x-envoy-decorator-operation",
    "x-envoy-internal",
];

/// Headers that say how a message is framed, where it goes or who sends it: in trailers they have no meaning
/// (RFC 9110, section 6.5.1), but an application that merges trailers into its headers would believe them.
const NEVER_IN_TRAILERS: [HeaderName; 12] = [
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CONNECTION,
    UPGRADE,
    TE,
    TRAILER,
    HOST,
    AUTHORIZATION,
    COOKIE,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    REQUEST_ID,
];

/// Removes what a plaintext peer has no right to say.
pub(crate) fn from_plaintext_peer(headers: &mut HeaderMap) {
    remove_where(headers, |name| is_mesh(name) || IDENTITY_HEADERS.iter().any(|identity| is_alias(name, identity)));
}

/// Removes the mesh's own headers, and other spellings of the identity headers: no proxy writes those, but applications
/// that turn headers into variables (CGI, WSGI) take `x_forwarded_client_cert` for the real one.
pub(crate) fn remove_mesh(headers: &mut HeaderMap) {
    let is_other_spelling =
        |name: &str| name.contains('_') && IDENTITY_HEADERS.iter().any(|identity| is_alias(name, identity));
    remove_where(headers, |name| is_mesh(name) || is_other_spelling(name));
}

/// Removes from a request's trailers what only a head may say.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    from_plaintext_peer(trailers);
    for name in &NEVER_IN_TRAILERS {
        trailers.remove(name);
    }
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    // Nearly every message has none, so nothing is allocated then.
    if !headers.keys().any(|name| unwanted(name.as_str())) {
        return;
    }
    let found: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

fn is_mesh(name: &str) -> bool {
    name.starts_with("mesh-") || name.starts_with("mesh_")
}

/// Whether a name is this one, `_` and `-` being the same.
fn is_alias(name: &str, of: &str) -> bool {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == of.len() && name.bytes().map(folded).eq(of.bytes())
}

/// Appends our statement about the peer to `x-forwarded-client-cert`: `By=<us>;Hash=<certificate>;Subject="";URI=<peer>`.
pub(crate) fn append_xfcc(headers: &mut HeaderMap, ours: &SpiffeId, peer: &Peer) {
    let mut text = String::with_capacity(256);
    let earlier = headers.get_all(&XFCC).iter().filter_map(|value| value.to_str().ok());
    for element in earlier {
        if text.len() + element.len() <= XFCC_BYTES_MAX {
            text.push_str(element);
            text.push(',');
        }
    }
    let _ = write!(text, "By={ours};Hash=");
    for byte in peer.certificate_sha256 {
        let _ = write!(text, "{byte:02x}");
    }
    let _ = write!(text, ";Subject=\"\";URI={}", peer.identity);
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(XFCC, value);
    }
}

/// Makes `x-request-id` where it is absent (a random UUID, version 4).
pub(crate) fn ensure_request_id(headers: &mut HeaderMap, rng: &mut fastrand::Rng) {
    if headers.contains_key(&REQUEST_ID) {
        return;
    }
    let bits = rng.u128(..) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let text = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        bits >> 80 & 0xffff,
        bits >> 64 & 0xffff,
        bits >> 48 & 0xffff,
        bits & 0xffff_ffff_ffff
    );
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(REQUEST_ID, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plaintext_peer_cannot_claim_an_identity() {
        let mut headers = HeaderMap::new();
        headers.insert(XFCC, HeaderValue::from_static("By=spiffe://td/ns/a/sa/admin"));
        headers.insert(MESH_PEER, HeaderValue::from_static("w=admin"));
        headers.insert("mesh-anything", HeaderValue::from_static("1"));
        headers.insert("x_forwarded_client_cert", HeaderValue::from_static("By=spiffe://td/ns/a/sa/admin"));
        headers.insert("x-forwarded_client-cert", HeaderValue::from_static("By=spiffe://td/ns/a/sa/admin"));
        headers.insert("mesh_peer", HeaderValue::from_static("w=admin"));
        headers.insert("x-user", HeaderValue::from_static("jason"));
        from_plaintext_peer(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-user"));
    }

    #[test]
    fn trailers_claim_no_identity_and_no_framing() {
        let mut trailers = HeaderMap::new();
        for name in
            ["x-forwarded-client-cert", "mesh-upgraded", "content-length", "host", "authorization", "grpc-status"]
        {
            trailers.insert(name, HeaderValue::from_static("0"));
        }
        clean_trailers(&mut trailers);
        assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
    }

    #[test]
    fn only_the_true_spelling_of_a_verified_peers_statement_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(XFCC, HeaderValue::from_static("By=a"));
        headers.insert("x_forwarded_client_cert", HeaderValue::from_static("By=b"));
        remove_mesh(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-forwarded-client-cert"]);
    }

    #[test]
    fn our_statement_is_appended_to_a_verified_peers() {
        let mut headers = HeaderMap::new();
        headers.insert(XFCC, HeaderValue::from_static("By=spiffe://td/ns/a/sa/gw;URI=spiffe://td/ns/a/sa/user"));
        let ours: SpiffeId = "spiffe://td/ns/b/sa/me".parse().unwrap();
        let peer = Peer { identity: "spiffe://td/ns/a/sa/gw".parse().unwrap(), certificate_sha256: [0xab; 32] };
        append_xfcc(&mut headers, &ours, &peer);
        let expected = format!(
            "By=spiffe://td/ns/a/sa/gw;URI=spiffe://td/ns/a/sa/user,By=spiffe://td/ns/b/sa/me;Hash={};Subject=\"\";URI=spiffe://td/ns/a/sa/gw",
            "ab".repeat(32)
        );
        assert_eq!(headers.get(XFCC).unwrap(), expected.as_str());
        assert_eq!(headers.get_all(XFCC).iter().count(), 1);
    }

    #[test]
    fn a_request_id_is_a_uuid_and_is_kept_where_present() {
        let mut headers = HeaderMap::new();
        let mut rng = fastrand::Rng::with_seed(7);
        ensure_request_id(&mut headers, &mut rng);
        let made = headers.get(REQUEST_ID).unwrap().to_str().unwrap().to_owned();
        assert_eq!((made.len(), &made[14..15]), (36, "4"));
        assert!(matches!(made.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        ensure_request_id(&mut headers, &mut rng);
        assert_eq!(headers.get(REQUEST_ID).unwrap(), made.as_str());
    }
}
