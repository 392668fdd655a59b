//! The protocol names that proxies of a mesh offer each other in TLS (ALPN), and what they tell.
//!
//! They are Istio's, so that both kinds of proxies understand each other: by the offer a server knows that a peer is a
//! proxy with a workload certificate and not an application's own TLS. Which protocol the *bytes* are is never taken
//! from here: the server's declared protocol decides (architecture, section 5).

/// HTTP/1.0 from a mesh proxy.
pub const ISTIO_HTTP_10: &[u8] = b"istio-http/1.0";
/// HTTP/1.1 from a mesh proxy.
pub const ISTIO_HTTP_11: &[u8] = b"istio-http/1.1";
/// HTTP/2 from a mesh proxy.
pub const ISTIO_H2: &[u8] = b"istio-h2";
/// Opaque bytes from a mesh proxy; also the last offer for HTTP.
pub const ISTIO: &[u8] = b"istio";
/// Istio's metadata exchange. Seen as a mark of a mesh peer, but never offered nor chosen: whoever negotiates it must
/// speak its framing.
pub const ISTIO_PEER_EXCHANGE: &[u8] = b"istio-peer-exchange";
/// Our own byte streams over few connections (architecture, section 5). Used only when negotiated.
pub const MESH_STREAMS_1: &[u8] = b"mesh-streams/1";
/// HTTP/2 as the control plane speaks it.
pub const H2: &[u8] = b"h2";

/// What we offer for HTTP/1.1 to another proxy.
pub const OFFER_HTTP1: &[&[u8]] = &[ISTIO_HTTP_11, ISTIO];
/// What we offer for HTTP/2 and gRPC to another proxy.
pub const OFFER_HTTP2: &[&[u8]] = &[ISTIO_H2, ISTIO];
/// What we offer for opaque TCP to another proxy.
pub const OFFER_TCP: &[&[u8]] = &[ISTIO];

/// What our inbound side chooses from, best first.
pub const SERVER_PREFERENCE: &[&[u8]] = &[ISTIO_H2, ISTIO_HTTP_11, ISTIO_HTTP_10, ISTIO];

/// Whether the offer of this protocol marks a proxy of a mesh.
pub fn is_mesh(protocol: &[u8]) -> bool {
    [ISTIO_HTTP_10, ISTIO_HTTP_11, ISTIO_H2, ISTIO, ISTIO_PEER_EXCHANGE, MESH_STREAMS_1].contains(&protocol)
}
