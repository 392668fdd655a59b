//! The table of declared protocol, mutual TLS mode and first bytes.

use super::*;
use Protocol::{Grpc, Http as HttpPort, Http2, Tcp, Tls, Unspecified};

const FOREIGN: First = First::Tls { mesh: false };
const MESH: First = First::Tls { mesh: true };
const H1: Inbound = Inbound::Http(Http::One);
const H2: Inbound = Inbound::Http(Http::Two);

fn port(protocol: Protocol, mtls: MtlsMode, http_rules: bool) -> Port {
    Port { protocol, mtls, http_rules, memory: Memory::Nothing }
}

#[test]
fn strict_takes_the_meshs_tls_and_nothing_else() {
    for protocol in [Unspecified, HttpPort, Http2, Grpc, Tcp, Tls] {
        for http_rules in [false, true] {
            let port = port(protocol, MtlsMode::Strict, http_rules);
            assert_eq!(inbound(&port, First::Unread), Inbound::Read);
            assert_eq!(inbound(&port, First::Silent), Inbound::Read, "a mesh client speaks first");
            assert_eq!(inbound(&port, MESH), Inbound::TerminateMeshTls);
            assert_eq!(inbound(&port, FOREIGN), Inbound::Refused(Reason::ForeignTlsRefused));
            for first in [First::Http1, First::Http2, First::Other] {
                assert_eq!(inbound(&port, first), Inbound::Refused(Reason::PlaintextRefused), "{first:?}");
            }
        }
    }
}

#[test]
fn permissive_and_disable_follow_the_declared_protocol() {
    let tls_refused = Inbound::Refused(Reason::TlsOnHttpPort);
    let not_http = Inbound::Refused(Reason::NotHttp);
    use Inbound::{ConnectAndHold as Hold, Opaque, Read};
    // Protocol, HTTP rules: silence, HTTP/1, HTTP/2, foreign TLS, other.
    for (protocol, rules, expected) in [
        (HttpPort, false, [Read, H1, H2, tls_refused, H1]),
        (HttpPort, true, [Read, H1, H2, tls_refused, H1]),
        (Grpc, false, [Read, H1, H2, tls_refused, H1]),
        (Unspecified, false, [Hold, H1, H2, Opaque, Opaque]),
        (Unspecified, true, [Read, H1, H2, tls_refused, not_http]),
        (Tcp, false, [Hold, Opaque, Opaque, Opaque, Opaque]),
        (Tcp, true, [Hold, Opaque, Opaque, tls_refused, Opaque]),
        (Tls, false, [Hold, Opaque, Opaque, Opaque, Opaque]),
    ] {
        let firsts = [First::Silent, First::Http1, First::Http2, FOREIGN, First::Other];
        for (first, expected) in firsts.into_iter().zip(expected) {
            let permissive = port(protocol, MtlsMode::Permissive, rules);
            assert_eq!(inbound(&permissive, first), expected, "PERMISSIVE {protocol:?} {rules} {first:?}");
            // With DISABLE there is no mesh TLS to wait for, so nothing is held.
            let expected = if expected == Hold { Opaque } else { expected };
            let disable = port(protocol, MtlsMode::Disable, rules);
            assert_eq!(inbound(&disable, first), expected, "DISABLE {protocol:?} {rules} {first:?}");
        }
        assert_eq!(inbound(&port(protocol, MtlsMode::Permissive, rules), MESH), Inbound::TerminateMeshTls);
        let as_foreign = inbound(&port(protocol, MtlsMode::Disable, rules), FOREIGN);
        assert_eq!(inbound(&port(protocol, MtlsMode::Disable, rules), MESH), as_foreign);
    }
}

#[test]
fn behind_mutual_tls_opaque_ports_do_not_wait() {
    use Inbound::{ConnectAndHold as Now, Opaque, Read};
    let inner = |protocol, rules, first| inbound_inner(&port(protocol, MtlsMode::Strict, rules), first);
    assert_eq!(inner(Tcp, true, First::Unread), Opaque);
    assert_eq!(inner(Tls, false, First::Unread), Opaque);
    assert_eq!(inner(Unspecified, false, First::Unread), Now, "who speaks first decides");
    assert_eq!(inner(Unspecified, true, First::Unread), Read);
    assert_eq!(inner(HttpPort, false, First::Unread), Read);
    assert_eq!(inner(Unspecified, false, First::Http1), H1);
    assert_eq!(inner(Unspecified, false, FOREIGN), Opaque);
    assert_eq!(inner(Unspecified, false, First::Silent), Opaque);
    assert_eq!(inner(Unspecified, true, First::Silent), Read);
    assert_eq!(inner(Unspecified, true, First::Other), Inbound::Refused(Reason::NotHttp));
    assert_eq!(inner(HttpPort, false, FOREIGN), Inbound::Refused(Reason::TlsOnHttpPort));
    assert_eq!(inner(HttpPort, false, MESH), Inbound::Refused(Reason::TlsOnHttpPort), "no tunnel in the tunnel");
    assert_eq!(inner(Http2, false, First::Http2), H2);
}

#[test]
fn memory_only_says_what_silence_means() {
    let http = Port { memory: Memory::Http, ..port(Unspecified, MtlsMode::Permissive, false) };
    assert_eq!(inbound(&http, First::Silent), Inbound::Read);
    assert_eq!(inbound(&http, First::Other), Inbound::Opaque, "bytes are what they are");
    assert_eq!(inbound_inner(&http, First::Unread), Inbound::Read);
    assert_eq!(outbound(Unspecified, Memory::Http, First::Silent), Outbound::Read);
    assert_eq!(outbound(Unspecified, Memory::Http, First::Other), Outbound::Opaque);
    assert_eq!(outbound(Unspecified, Memory::ServerFirst, First::Unread), Outbound::Opaque);
    assert_eq!(outbound(Tls, Memory::ServerFirst, First::Unread), Outbound::Read);
}

#[test]
fn outbound_follows_the_declared_protocol() {
    use Outbound::{Opaque, Read, TlsBySni};
    let (h1, h2) = (Outbound::Http(Http::One), Outbound::Http(Http::Two));
    let refused = Outbound::Refused(Reason::TlsOnHttpPort);
    // Unread, silence, HTTP/1, HTTP/2, TLS, other.
    for (protocol, expected) in [
        (HttpPort, [Read, Read, h1, h2, refused, h1]),
        (Http2, [Read, Read, h1, h2, refused, h1]),
        (Grpc, [Read, Read, h1, h2, refused, h1]),
        (Tcp, [Opaque; 6]),
        (Tls, [Read, Opaque, Opaque, Opaque, TlsBySni, Opaque]),
        (Unspecified, [Read, Opaque, h1, h2, TlsBySni, Opaque]),
    ] {
        let firsts = [First::Unread, First::Silent, First::Http1, First::Http2, FOREIGN, First::Other];
        for (first, expected) in firsts.into_iter().zip(expected) {
            assert_eq!(outbound(protocol, Memory::Nothing, first), expected, "{protocol:?} {first:?}");
        }
    }
}

#[test]
fn sniffing_feeds_the_table() {
    assert_eq!(First::of(sniff::sniff(b"GET / HTTP/1.1\r\n"), false), Some(First::Http1));
    assert_eq!(First::of(sniff::sniff(&[22, 3, 1, 1, 0, 1]), true), Some(MESH));
    assert_eq!(First::of(sniff::sniff(b"GE"), false), None);
}
