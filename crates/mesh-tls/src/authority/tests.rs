//! The authority: what it signs, what it refuses, and what it keeps on disk.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair, SanType};

use super::files::{CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT};
use super::*;
use crate::WorkloadCertificate;
use crate::error::CsrFault;
use crate::leaf::Leaf;
use crate::testing::{authority, id};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn request() -> String {
    WorkloadKey::generate().unwrap().signing_request(&id(WEB)).unwrap()
}

#[test]
fn names_come_from_the_caller_and_never_from_the_request() {
    let now = SystemTime::now();
    let other = id("spiffe://cluster.local/ns/shop/sa/admin");
    let request = WorkloadKey::generate().unwrap().signing_request(&other).unwrap();
    let issued = authority().issue(request.as_bytes(), &id(WEB), WORKLOAD_VALIDITY, now).unwrap();
    let leaf = Leaf::parse(&issued.chain[0]).unwrap();
    assert_eq!(leaf.identity, id(WEB));
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical, "an empty subject makes the name critical");
    assert_eq!(names.value.general_names.len(), 1);
    assert_eq!(parsed.subject().iter().count(), 0);
}

#[test]
fn validity_is_as_asked_backdated_and_within_the_authoritys_own() {
    let now = SystemTime::now();
    let authority = authority();
    let issued = authority.issue(request().as_bytes(), &id(WEB), Duration::from_secs(3600), now).unwrap();
    let leaf = Leaf::parse(&issued.chain[0]).unwrap();
    let seconds = |later: SystemTime, earlier: SystemTime| later.duration_since(earlier).unwrap().as_secs();
    assert!(seconds(now, leaf.not_before).abs_diff(BACKDATED.as_secs()) <= 1);
    assert!(seconds(leaf.not_after, now).abs_diff(3600) <= 1);
    let near_the_end = authority.not_after() - Duration::from_secs(60);
    let issued = authority.issue(request().as_bytes(), &id(WEB), WORKLOAD_VALIDITY, near_the_end).unwrap();
    assert_eq!(issued.not_after, authority.not_after());
    let after = authority.issue(request().as_bytes(), &id(WEB), WORKLOAD_VALIDITY, authority.not_after());
    assert!(matches!(after, Err(AuthorityError::Expired)));
}

#[test]
fn serial_numbers_differ_for_one_key() {
    let (authority, request) = (authority(), request());
    let issue = || authority.issue(request.as_bytes(), &id(WEB), WORKLOAD_VALIDITY, SystemTime::now()).unwrap().serial;
    let (first, second) = (issue(), issue());
    assert_ne!(first, second);
    assert_eq!(first.len(), 2 * SERIAL_BYTES);
}

fn fault(request: &[u8]) -> CsrFault {
    match authority().issue(request, &id(WEB), WORKLOAD_VALIDITY, SystemTime::now()) {
        Err(AuthorityError::Request(fault)) => fault,
        other => panic!("expected a refusal, got {:?}", other.map(|issued| issued.serial)),
    }
}

#[test]
fn requests_that_prove_nothing_are_refused() {
    assert_eq!(fault(b""), CsrFault::Malformed);
    assert_eq!(
        fault(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
        CsrFault::Malformed
    );
    assert_eq!(fault(&vec![b'x'; CSR_BYTES_MAX + 1]), CsrFault::TooLarge);
    let (ed25519, tampered) = {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let ed25519 = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(WEB.try_into().unwrap())];
        let mut der = params.serialize_request(&key).unwrap().der().to_vec();
        let at = der.windows(3).position(|three| three == b"web").unwrap();
        der[at] = b'W';
        (ed25519, der)
    };
    assert_eq!(fault(&ed25519), CsrFault::Key);
    assert_eq!(fault(&tampered), CsrFault::Signature);
}

#[test]
fn unknown_extensions_in_a_request_do_not_matter() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![4, 1, 0])];
    let request = params.serialize_request(&key).unwrap();
    let issued = authority().issue(request.der(), &id(WEB), WORKLOAD_VALIDITY, SystemTime::now()).unwrap();
    assert_eq!(Leaf::parse(&issued.chain[0]).unwrap().identity, id(WEB));
}

#[test]
fn a_root_is_made_once_and_then_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let made = Authority::load_or_create(dir.path(), "test", now).unwrap();
    let loaded = Authority::load_or_create(dir.path(), "test", now).unwrap();
    assert_eq!(made.bundle().to_pem(), loaded.bundle().to_pem());
    let mode = std::fs::metadata(dir.path().join(CA_KEY)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = WorkloadKey::generate().unwrap();
    let issued =
        loaded.issue(key.signing_request(&id(WEB)).unwrap().as_bytes(), &id(WEB), WORKLOAD_VALIDITY, now).unwrap();
    let text = issued.chain_pem();
    let saved = WorkloadCertificate::from_pem(text.as_bytes(), key.to_pem().as_bytes()).unwrap();
    assert_eq!((saved.identity(), saved.chain().len()), (&id(WEB), 1));
    let stranger = WorkloadKey::generate().unwrap();
    let mixed = WorkloadCertificate::from_pem(text.as_bytes(), stranger.to_pem().as_bytes());
    assert_eq!(mixed.err(), Some(crate::error::CertificateError::OtherKey));
}

/// Istio's plugged-in set: an offline root, an intermediate that signs, the chain repeated in `cert-chain.pem`.
fn plugged_in(dir: &std::path::Path) -> (String, String) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Example Root");
    let root_key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let root = ca.self_signed(&root_key).unwrap();
    let mut mid = CertificateParams::default();
    mid.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    mid.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    mid.distinguished_name.push(DnType::CommonName, "Intermediate CA");
    mid.distinguished_name.push(DnType::LocalityName, "cluster1");
    let mid_key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mid_certificate = mid.signed_by(&mid_key, &Issuer::new(ca, root_key)).unwrap();
    let write = |file: &str, text: &str| std::fs::write(dir.join(file), text).unwrap();
    write(ROOT_CERT, &root.pem());
    write(CA_CERT, &mid_certificate.pem());
    write(CA_KEY, &mid_key.serialize_pem());
    write(CERT_CHAIN, &format!("{}{}", mid_certificate.pem(), root.pem()));
    (root.pem(), mid_key.serialize_pem())
}

#[test]
fn istios_plugged_in_set_signs_with_its_intermediate() {
    let dir = tempfile::tempdir().unwrap();
    let (root, _) = plugged_in(dir.path());
    let now = SystemTime::now();
    let authority = Authority::load(dir.path(), now).unwrap();
    let issued = authority.issue(request().as_bytes(), &id(WEB), WORKLOAD_VALIDITY, now).unwrap();
    assert_eq!(issued.chain.len(), 2, "leaf and intermediate, no root");
    assert_eq!(
        crate::pem::certificates(root.as_bytes()).unwrap(),
        authority.bundle().certificates(),
        "workloads trust the root"
    );
}

#[test]
fn a_set_that_does_not_belong_together_is_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    plugged_in(dir.path());
    let now = SystemTime::now();
    let foreign = Authority::self_signed("x", now).unwrap().bundle().to_pem();
    std::fs::write(dir.path().join(ROOT_CERT), foreign).unwrap();
    std::fs::remove_file(dir.path().join(CERT_CHAIN)).unwrap();
    let error = Authority::load(dir.path(), now).err().unwrap().to_string();
    assert!(error.contains("do not verify against its root"), "{error}");
    plugged_in(dir.path());
    std::fs::write(dir.path().join(CA_KEY), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = Authority::load(dir.path(), now).err().unwrap().to_string();
    assert!(error.contains("do not verify against its root"), "{error}");
    std::fs::write(dir.path().join(CA_KEY), "nothing").unwrap();
    let error = Authority::load(dir.path(), now).err().unwrap().to_string();
    assert!(error.contains(CA_KEY), "{error}");
}
