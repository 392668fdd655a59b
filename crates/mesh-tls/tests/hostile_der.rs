//! Bytes of strangers: nothing that reads certificates or signing requests may panic on them.
#![allow(clippy::unwrap_used)] // a test's helpers fail by panicking

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use mesh_core::identity::SpiffeId;
use mesh_tls::authority::{Authority, Issued, WORKLOAD_VALIDITY};
use mesh_tls::key::WorkloadKey;
use mesh_tls::leaf::{Leaf, Side, is_self_issued, peer_identity, subject, validity};
use mesh_tls::pem;
use proptest::prelude::*;
use proptest::sample::Index;

struct World {
    authority: Authority,
    identity: SpiffeId,
    now: SystemTime,
    request: String,
    issued: Issued,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let authority = Authority::self_signed("mesh", now).unwrap();
    let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let request = WorkloadKey::generate().unwrap().signing_request(&identity).unwrap();
    let issued = authority.issue(request.as_bytes(), &identity, WORKLOAD_VALIDITY, now).unwrap();
    World { authority, identity, now, request, issued }
});

type Edit = (Index, u8, u8);

/// Sets, raises, removes or inserts bytes.
fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (at, kind, byte) in edits.iter().filter(|_| !bytes.is_empty()) {
        if out.is_empty() {
            break;
        }
        let at = at.index(out.len());
        match kind % 5 {
            0 => out[at] = *byte,
            1 => out[at] = out[at].wrapping_add(1),
            2 => out[at] = 0,
            3 => drop(out.drain(at..(at + usize::from(*byte % 16)).min(out.len()))),
            _ => out.insert(at, *byte),
        }
    }
    out
}

/// The DER within a PEM text.
fn der(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn edited_requests_and_certificates_are_refused_or_read(
        edits in proptest::collection::vec(any::<Edit>(), 1..4),
    ) {
        let World { authority, identity, now, request, issued } = &*WORLD;
        for text in [edited(&der(request), &edits), edited(request.as_bytes(), &edits)] {
            if let Ok(signed) = authority.issue(&text, identity, WORKLOAD_VALIDITY, *now) {
                prop_assert_eq!(&Leaf::parse(&signed.chain[0]).unwrap().identity, identity);
            }
        }
        let leaf = edited(&issued.chain[0], &edits);
        let _ = (Leaf::parse(&leaf), peer_identity(&leaf, Side::Client), subject(&leaf), validity(&leaf));
        let _ = is_self_issued(&leaf);
        let _ = pem::certificates(&edited(pem::encode_certificates(&issued.chain).as_bytes(), &edits));
    }
}
