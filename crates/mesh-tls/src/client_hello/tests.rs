//! ClientHellos of real clients, cut anywhere, and of nobody's making.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;

use super::*;
use crate::alpn::{OFFER_HTTP1, OFFER_TCP};
use crate::testing::{authority, id, workload};
use crate::{ClientTls, provider};

/// The first flight of rustls with these protocols and this name.
fn real_hello(alpn: &[&[u8]], name: Option<&str>) -> Vec<u8> {
    let credentials = workload(&authority(), "spiffe://cluster.local/ns/a/sa/b");
    let tls = ClientTls::new(credentials);
    let expected: Arc<[_]> = Arc::from([id("spiffe://cluster.local/ns/a/sa/c")]);
    let config = if name.is_some() { tls.config_with_sni(expected, alpn) } else { tls.config(expected, alpn) };
    let name = name.map_or_else(ClientTls::no_name, |name| ServerName::try_from(name.to_owned()).unwrap());
    let mut bytes = Vec::new();
    rustls::ClientConnection::new(config, name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in records of at most `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    hello[RECORD_HEADER_BYTES..]
        .chunks(size)
        .flat_map(|piece| {
            let length = (piece.len() as u16).to_be_bytes();
            [&[HANDSHAKE_RECORD, 3, 1, length[0], length[1]], piece].concat()
        })
        .collect()
}

/// Feeds the bytes as they would arrive, honouring `bytes_wanted`. Gives the verdict and how often it was asked.
fn feed(bytes: &[u8]) -> (Reading, usize) {
    let mut have = 1;
    for asked in 1.. {
        match read(&bytes[..have.min(bytes.len())]) {
            Reading::Incomplete { bytes_wanted } if have < bytes.len() => {
                assert!(bytes_wanted > have, "asks for more than it has");
                have = bytes_wanted;
            }
            verdict => return (verdict, asked),
        }
    }
    unreachable!("the loop ends with a verdict");
}

fn hello(reading: Reading) -> ClientHello {
    match reading {
        Reading::Hello(hello) => hello,
        other => panic!("expected a hello, got {other:?}"),
    }
}

#[test]
fn a_mesh_hello_tells_its_protocols() {
    let bytes = real_hello(OFFER_HTTP1, None);
    assert!(bytes.len() > 1400, "the hybrid key share needs two segments: {}", bytes.len());
    let hello = hello(read(&bytes));
    assert!(hello.is_mesh() && hello.tls13);
    assert_eq!(hello.sni, None);
    assert_eq!(hello.alpn, [b"istio-http/1.1".to_vec(), b"istio".to_vec()]);
}

#[test]
fn a_browsers_hello_is_not_the_meshs() {
    let hello = hello(read(&real_hello(&[b"h2", b"http/1.1"], Some("Shop.Example.Com"))));
    assert!(!hello.is_mesh());
    assert_eq!(hello.sni.as_deref(), Some("shop.example.com"));
    assert!(hello.offers(b"h2"));
}

#[test]
fn it_may_come_in_any_number_of_records_and_segments() {
    let bytes = real_hello(OFFER_TCP, Some("a.example"));
    let whole = hello(read(&bytes));
    for size in [1, 2, 3, 5, 100, 1000] {
        let cut = in_records(&bytes, size);
        if cut.len() <= CLIENT_HELLO_BYTES_MAX {
            assert_eq!(hello(feed(&cut).0), whole, "records of {size}");
        }
    }
    for end in 0..bytes.len() {
        assert!(matches!(read(&bytes[..end]), Reading::Incomplete { .. }), "{end} bytes");
    }
    let (verdict, asked) = feed(&bytes);
    assert_eq!(hello(verdict), whole);
    assert!(asked <= 4, "one record needs few looks, took {asked}");
}

#[test]
fn bytes_after_the_hello_do_not_matter() {
    let mut bytes = real_hello(OFFER_TCP, None);
    let whole = read(&bytes);
    bytes.extend_from_slice(b"early data of some kind");
    assert_eq!(read(&bytes), whole);
}

#[test]
fn other_protocols_are_told_from_their_first_bytes() {
    for plain in
        [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0", b"SSH-2.0", &[0x16, 0x02], &[0x17, 3, 3], &[22, 3, 1, 0, 5, 2]]
    {
        assert_eq!(read(plain), Reading::NotTls, "{plain:?}");
    }
}

#[test]
fn what_is_too_large_or_broken_is_refused_at_once() {
    // A hello of 64 KiB is refused by its announced length, before it is collected.
    assert_eq!(read(&[22, 3, 1, 0x40, 0, 1, 1, 0, 0]), Reading::Broken(Fault::TooLarge));
    // An empty record, or another kind of record in the midst.
    assert_eq!(read(&[22, 3, 1, 0, 2, 1, 0, 22, 3, 1, 0, 0]), Reading::Broken(Fault::Record));
    assert_eq!(read(&[22, 3, 1, 0, 2, 1, 0, 23, 3, 1, 0, 1]), Reading::Broken(Fault::Record));
    // Endless single-byte records stop at the limit.
    let bytes = in_records(&real_hello(OFFER_TCP, None).repeat(3), 1);
    assert!(matches!(feed(&bytes).0, Reading::Hello(_) | Reading::Broken(_)));
}

#[test]
fn a_repeated_extension_is_refused() {
    let extension = [0u8, 0x2b, 0, 3, 2, 3, 4];
    let mut body = vec![3u8, 3];
    body.extend([0; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((2 * extension.len() as u16).to_be_bytes());
    body.extend(extension);
    body.extend(extension);
    assert_eq!(message::parse(&body), Err(Fault::DuplicateExtension));
}

#[test]
fn a_name_that_could_not_be_logged_is_no_name() {
    for (name, expected) in [(&b"a.example."[..], Some("a.example")), (b"a\nb", None), (b"", None), (b"\xff", None)] {
        let length = name.len() as u16;
        let mut list = vec![0u8];
        list.extend(length.to_be_bytes());
        list.extend(name);
        let mut data = (list.len() as u16).to_be_bytes().to_vec();
        data.extend(list);
        let mut extensions = vec![0u8, 0];
        extensions.extend((data.len() as u16).to_be_bytes());
        extensions.extend(data);
        let mut body = vec![3u8, 3];
        body.extend([0; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        assert_eq!(message::parse(&body).unwrap().sni.as_deref(), expected, "{name:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_get_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_plausible_head_get_a_verdict(
        length in any::<u16>(),
        message in 0usize..20_000,
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let head = [22, 3, 1, (length >> 8) as u8, length as u8, 1, (message >> 16) as u8, (message >> 8) as u8, message as u8];
        match read(&[&head[..], &bytes].concat()) {
            Reading::Incomplete { bytes_wanted } => prop_assert!(bytes_wanted <= CLIENT_HELLO_BYTES_MAX),
            Reading::NotTls | Reading::Broken(_) | Reading::Hello(_) => {}
        }
    }

    #[test]
    fn a_spoiled_hello_never_panics(at in 0usize..1500, value in any::<u8>(), cut in 0usize..1600) {
        let mut bytes = SAMPLE.with(Clone::clone);
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(cut.max(1));
        let _ = feed(&bytes);
    }
}

thread_local! {
    static SAMPLE: Vec<u8> = real_hello(OFFER_HTTP1, Some("a.example"));
}

#[test]
fn rustls_agrees_about_its_own_hello() {
    let bytes = real_hello(&[b"one", b"two"], Some("a.example"));
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut &bytes[..]).unwrap();
    let accepted = acceptor.accept().unwrap().unwrap();
    let ours = hello(read(&bytes));
    assert_eq!(ours.sni.as_deref(), accepted.client_hello().server_name());
    let theirs: Vec<Vec<u8>> = accepted.client_hello().alpn().unwrap().map(<[u8]>::to_vec).collect();
    assert_eq!(ours.alpn, theirs);
    assert_eq!(provider().cipher_suites.len(), 3);
}
