//! What first bytes are, however they are cut.

use proptest::prelude::*;

use super::*;

#[test]
fn a_request_line_is_told_from_other_text() {
    for (bytes, expected) in [
        (&b""[..], First::NeedMore),
        (b"G", First::NeedMore),
        (b"GET /", First::NeedMore),
        (b"GET / HTTP/1.1\r\n", First::Http1),
        (b"GET / HTTP/1.0\n", First::Http1),
        (b"POST http://a/b HTTP/1.1\r\nHost: a\r\n", First::Http1),
        (b"OPTIONS * HTTP/1.1\r\n", First::Http1),
        (b"CONNECT a:443 HTTP/1.1\r\n", First::Http1),
        (b"M-SEARCH / HTTP/1.1\r\n", First::Http1),
        (b"GET  HTTP/1.1\r\n", First::Other),
        (b"GET key\r\n", First::Other),
        (b"SET key value\r\n", First::Other),
        (b"CONNECT {\"verbose\":false}\r\n", First::Other),
        (b"OPTIONS rtsp://a RTSP/1.0\r\n", First::Other),
        (b"EHLO example.com\r\n", First::Other),
        (b"get / HTTP/1.1\r\n", First::Other),
        (b"HTTP/1.1 200 OK\r\n", First::Other),
        (b"SSH-2.0-OpenSSH\r\n", First::Other),
        (b"*1\r\n$4\r\nPING\r\n", First::Other),
        (b"\x00\x00\x00\x08", First::Other),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", First::Other),
    ] {
        assert_eq!(sniff(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn http2_is_its_whole_preface() {
    for cut in 1..HTTP2_PREFACE.len() {
        assert_eq!(sniff(&HTTP2_PREFACE[..cut]), First::NeedMore, "{cut}");
    }
    assert_eq!(sniff(HTTP2_PREFACE), First::Http2);
    assert_eq!(sniff(b"PRI * HTTP/2.0\r\n\r\nXX"), First::Other);
}

#[test]
fn tls_is_the_record_of_a_client_hello() {
    assert_eq!(sniff(&[0x16, 3, 1, 2, 0]), First::NeedMore);
    assert_eq!(sniff(&[0x16, 3, 1, 2, 0, 1]), First::Tls);
    assert_eq!(sniff(&[0x16, 3, 1, 2, 0, 2]), First::Other);
    assert_eq!(sniff(&[0x16, 2]), First::Other);
    assert_eq!(sniff(&[0x15, 3, 1, 0, 2, 1]), First::Other);
}

#[test]
fn a_long_line_is_decided_at_the_bound() {
    let mut long = b"GET /".to_vec();
    long.resize(SNIFF_BYTES_MAX - 1, b'a');
    assert_eq!(sniff(&long), First::NeedMore);
    long.push(b'a');
    assert_eq!(sniff(&long), First::Http1);
}

proptest! {
    #[test]
    fn sniffing_does_not_depend_on_how_bytes_are_cut(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "[A-Z]{0,26} ?[/a-z*]{0,9} ?HTTP/[12].[01]\r?\n?.{0,5}".prop_map(String::into_bytes),
            (0..=24_usize, "[A-Z\r\n]{0,4}").prop_map(|(cut, rest)| [&HTTP2_PREFACE[..cut], rest.as_bytes()].concat()),
            proptest::collection::vec(prop_oneof![Just(0x16), Just(3), Just(1), any::<u8>()], 0..9),
        ]
    ) {
        let whole = sniff(&bytes);
        for cut in 0..bytes.len() {
            let part = sniff(&bytes[..cut]);
            prop_assert!(part == First::NeedMore || part == whole, "{} of {:?}: {:?}, {:?}", cut, bytes, part, whole);
        }
    }
}
