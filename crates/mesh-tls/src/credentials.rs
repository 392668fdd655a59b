//! What a process proves itself with and whom it trusts, replaceable while handshakes go on.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::identity::SpiffeId;
use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::error::{CertificateError, TrustError};
use crate::handshake::provider;
use crate::key::WorkloadKey;
use crate::leaf::{self, Leaf};
use crate::pem;

/// The roots that peers' certificates must lead to.
pub struct TrustBundle {
    pub(crate) roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// Makes a bundle from PEM: one root, or several while roots are rotated.
    ///
    /// # Errors
    /// Where the text holds no certificate, or one that cannot be a root.
    pub fn from_pem(text: &[u8]) -> Result<Self, TrustError> {
        Self::new(pem::certificates(text)?)
    }

    /// Makes a bundle from certificates.
    ///
    /// # Errors
    /// Where one of them cannot be a root.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            roots
                .add(certificate.clone())
                .map_err(|error| TrustError::Root { position: index + 1, reason: error.to_string() })?;
        }
        Ok(Self { roots, certificates })
    }

    /// Trusts nobody: what a process begins with until its roots were read.
    pub fn nobody() -> Self {
        Self { roots: RootCertStore::empty(), certificates: Vec::new() }
    }

    /// The roots.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The roots as PEM.
    pub fn to_pem(&self) -> String {
        pem::encode_certificates(&self.certificates)
    }
}

/// A certificate with its chain and its key, checked to belong together and to keep the rules for workloads.
pub struct WorkloadCertificate {
    facts: Leaf,
    certified: Arc<CertifiedKey>,
    key: Arc<WorkloadKey>,
}

impl WorkloadCertificate {
    /// Puts a chain (leaf first; roots at its end are dropped, since nobody believes a root sent by a peer) and its
    /// key together.
    ///
    /// # Errors
    /// Where the leaf breaks the rules, or was not issued for this key.
    pub fn new(mut chain: Vec<CertificateDer<'static>>, key: Arc<WorkloadKey>) -> Result<Self, CertificateError> {
        let leaf = chain.first().ok_or(crate::error::PemError::NoCertificate)?;
        let facts = Leaf::parse(leaf)?;
        while chain.len() > 1 && chain.last().is_some_and(|last| leaf::is_self_issued(last)) {
            chain.pop();
        }
        let certified = CertifiedKey::new(chain, key.signing_key().map_err(CertificateError::Key)?);
        certified.keys_match().map_err(|_| CertificateError::OtherKey)?;
        Ok(Self { facts, certified: Arc::new(certified), key })
    }

    /// Puts a chain and key together from PEM, as saved by [`chain_pem`](Self::chain_pem) and
    /// [`WorkloadKey::to_pem`].
    ///
    /// # Errors
    /// As [`new`](Self::new), or malformed PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        Self::new(pem::certificates(chain)?, Arc::new(WorkloadKey::from_pem(key)?))
    }

    /// Whom it speaks for.
    pub fn identity(&self) -> &SpiffeId {
        &self.facts.identity
    }

    /// Identity, validity and serial number.
    pub fn facts(&self) -> &Leaf {
        &self.facts
    }

    /// Whether it is valid at this time.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.facts.not_before <= now && now < self.facts.not_after
    }

    /// The chain as it is sent to peers, leaf first, without roots.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        pem::encode_certificates(self.chain())
    }

    /// The key, to be saved beside the chain.
    pub fn key(&self) -> &WorkloadKey {
        &self.key
    }
}

/// This process's certificate and the roots it trusts. Handshakes read both without locks; whoever renews them
/// replaces them whole.
pub struct Credentials {
    own: ArcSwapOption<WorkloadCertificate>,
    trust: ArcSwap<TrustBundle>,
}

impl Credentials {
    /// Begins without a certificate: handshakes that need one fail until [`install`](Self::install).
    pub fn new(trust: TrustBundle) -> Arc<Self> {
        Arc::new(Self { own: ArcSwapOption::empty(), trust: ArcSwap::from_pointee(trust) })
    }

    /// Uses this certificate from the next handshake on.
    pub fn install(&self, certificate: Arc<WorkloadCertificate>) {
        self.own.store(Some(certificate));
    }

    /// Trusts these roots, and no others, from the next handshake on.
    pub fn trust(&self, bundle: TrustBundle) {
        self.trust.store(Arc::new(bundle));
    }

    /// The certificate in use, if there is one yet.
    pub fn certificate(&self) -> Option<Arc<WorkloadCertificate>> {
        self.own.load_full()
    }

    /// The roots in use.
    pub fn bundle(&self) -> Arc<TrustBundle> {
        self.trust.load_full()
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.own.load().as_ref().map(|own| Arc::clone(&own.certified))
    }
}

// rustls asks resolvers and verifiers to be Debug; nothing of a secret is worth printing.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.own.load().is_some()
    }
}

impl WorkloadKey {
    fn signing_key(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, String> {
        provider().key_provider.load_private_key(self.der()).map_err(|error| error.to_string())
    }
}
