//! When a certificate is renewed, and what is kept of it. (Against a control plane: the tests of `app`.)

use std::os::unix::fs::PermissionsExt as _;
use std::time::UNIX_EPOCH;

use mesh_tls::authority::Authority;
use mesh_tls::key::WorkloadKey;

use super::*;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn certificate(identity: &str, validity: Duration, now: SystemTime) -> WorkloadCertificate {
    let authority = Authority::self_signed("test", now).unwrap();
    let identity = identity.parse().unwrap();
    let key = WorkloadKey::generate().unwrap();
    let issued = authority.issue(key.signing_request(&identity).unwrap().as_bytes(), &identity, validity, now).unwrap();
    WorkloadCertificate::new(issued.chain, Arc::new(key)).unwrap()
}

#[test]
fn renewal_comes_at_half_life_give_or_take_a_twentieth() {
    let facts = mesh_tls::leaf::Leaf {
        identity: WEB.parse().unwrap(),
        not_before: UNIX_EPOCH,
        not_after: UNIX_EPOCH + Duration::from_secs(1000),
        serial: String::new(),
    };
    let pause = |now: u64, random: f64| until_renewal(&facts, UNIX_EPOCH + Duration::from_secs(now), random).as_secs();
    assert_eq!((pause(0, 0.5), pause(0, 0.0), pause(0, 1.0)), (500, 450, 550));
    assert_eq!(pause(100, 0.5), 400);
    assert_eq!(pause(900, 0.5), 0, "overdue is now");
}

#[test]
fn certificate_and_key_are_kept_together_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let identity = WEB.parse().unwrap();
    assert!(saved::read(dir.path(), &identity).unwrap().is_none());
    let kept = certificate(WEB, VALIDITY, SystemTime::now());
    saved::write(dir.path(), &kept).unwrap();
    let mode = std::fs::metadata(dir.path().join("workload.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let read = saved::read(dir.path(), &identity).unwrap().unwrap();
    assert_eq!(read.facts(), kept.facts());
    assert!(is_worth_using(&read, SystemTime::now()));
    let other = "spiffe://cluster.local/ns/shop/sa/other".parse().unwrap();
    assert!(saved::read(dir.path(), &other).err().unwrap().contains("not spiffe://cluster.local/ns/shop/sa/other"));
}

#[test]
fn an_expired_certificate_is_not_worth_starting_with() {
    let day = Duration::from_secs(24 * 3600);
    let old = certificate(WEB, Duration::from_secs(3600), SystemTime::now() - day);
    assert!(!is_worth_using(&old, SystemTime::now()));
}
