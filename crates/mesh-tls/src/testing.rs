//! What the tests of this crate share: an authority, workloads, and certificates that break one rule each.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::identity::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::CertificateDer;

use crate::authority::{Authority, WORKLOAD_VALIDITY};
use crate::key::WorkloadKey;
use crate::{Credentials, TrustBundle, WorkloadCertificate, pem};

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub(crate) fn authority() -> Authority {
    Authority::self_signed("test", SystemTime::now()).unwrap()
}

pub(crate) fn bundle(authority: &Authority) -> TrustBundle {
    TrustBundle::from_pem(authority.bundle().to_pem().as_bytes()).unwrap()
}

/// Credentials of a workload that trusts the authority which certified it.
pub(crate) fn workload(authority: &Authority, identity: &str) -> Arc<Credentials> {
    let credentials = Credentials::new(bundle(authority));
    credentials.install(certificate(authority, identity, SystemTime::now(), WORKLOAD_VALIDITY));
    credentials
}

pub(crate) fn certificate(
    authority: &Authority,
    identity: &str,
    now: SystemTime,
    validity: Duration,
) -> Arc<WorkloadCertificate> {
    let key = WorkloadKey::generate().unwrap();
    let request = key.signing_request(&id(identity)).unwrap();
    let issued = authority.issue(request.as_bytes(), &id(identity), validity, now).unwrap();
    Arc::new(WorkloadCertificate::new(issued.chain, Arc::new(key)).unwrap())
}

/// A root outside our own code, to sign certificates that our authority would never issue.
pub(crate) struct LaxAuthority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl LaxAuthority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(vec![self.root.clone()]).unwrap()
    }

    /// A certificate for these URIs, changed by `edit`, with its key as PEM.
    pub(crate) fn sign(
        &self,
        uris: &[&str],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), pem::section("PRIVATE KEY", key.serialized_der()))
    }
}
