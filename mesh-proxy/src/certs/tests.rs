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

/// Against a fake control plane.
mod issued {
    use std::path::Path;

    use mesh_core::identity::SpiffeId;
    use mesh_tls::ClientTls;

    use super::*;
    use crate::fake_control::{CONTROL, FakeControl};

    async fn control(identity: &str) -> FakeControl {
        let authority = Authority::self_signed("test", SystemTime::now()).unwrap();
        FakeControl::start(Arc::new(authority), identity, "127.0.0.1:0").await
    }

    /// Asks once.
    async fn ask(control: &FakeControl, dir: &Path, token: &str) -> Result<SpiffeId, String> {
        let bootstrap = control.bootstrap(dir);
        std::fs::write(&bootstrap.paths.token, token).unwrap();
        let credentials = Credentials::new(TrustBundle::nobody());
        let plane = ControlPlane::new(
            bootstrap.control.clone(),
            ClientTls::new(Arc::clone(&credentials)),
            bootstrap.control_identity.clone(),
        );
        let asked = request::certificate(&bootstrap, &credentials, &plane, VALIDITY).await;
        asked.map(|certificate| certificate.identity().clone()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_certificate_is_issued_kept_and_used_by_the_next_run() {
        let (control, dir) = (control(CONTROL).await, tempfile::tempdir().unwrap());
        let bootstrap = Arc::new(control.bootstrap(dir.path()));
        let ready = Ready::new();
        let certificates = Certificates::new(Arc::clone(&bootstrap), ready.clone());
        let (credentials, mut issued) = (certificates.credentials(), certificates.issued());
        assert!(credentials.certificate().is_none());
        let plane = ControlPlane::new(
            bootstrap.control.clone(),
            ClientTls::new(Arc::clone(&credentials)),
            bootstrap.control_identity.clone(),
        );
        let renewing = tokio::spawn(certificates.run(plane));
        tokio::time::timeout(Duration::from_secs(5), issued.wait_for(|issued| *issued)).await.unwrap().unwrap();
        let serial = credentials.certificate().unwrap().facts().serial.clone();
        assert_eq!(credentials.certificate().unwrap().chain().len(), 1, "the root is not sent to peers");
        renewing.abort();
        control.kill();
        let restarted = Certificates::new(bootstrap, Ready::new());
        assert_eq!(restarted.credentials().certificate().unwrap().facts().serial, serial);
        assert!(*restarted.issued().borrow());
    }

    #[tokio::test]
    async fn what_goes_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = control(CONTROL).await;
        assert_eq!(ask(&good, dir.path(), "good-token").await.unwrap().as_str(), WEB);
        let refused = ask(&good, dir.path(), "bad-token").await.unwrap_err();
        assert!(refused.contains("the token is not good"), "{refused}");
        let empty = ask(&good, dir.path(), " \n").await.unwrap_err();
        assert!(empty.contains("empty"), "{empty}");
        let other = ask(&good, dir.path(), "other-token").await.unwrap_err();
        assert!(other.contains("sa/other, but this workload is"), "{other}");
        let impostor = control("spiffe://cluster.local/ns/shop/sa/impostor").await;
        let met = ask(&impostor, dir.path(), "good-token").await.unwrap_err();
        assert!(met.contains("peer is spiffe://cluster.local/ns/shop/sa/impostor, expected"), "{met}");
        let bootstrap = good.bootstrap(dir.path());
        good.kill();
        tokio::task::yield_now().await;
        let gone = FakeControl::start(
            Arc::new(Authority::self_signed("test", SystemTime::now()).unwrap()),
            CONTROL,
            "127.0.0.1:0",
        )
        .await;
        std::fs::write(&bootstrap.paths.roots, "none").unwrap();
        let credentials = Credentials::new(TrustBundle::nobody());
        let missing = roots::refresh(&bootstrap.paths.roots, &credentials).unwrap_err();
        assert!(missing.contains("no certificate found"), "{missing}");
        gone.kill();
    }
}
