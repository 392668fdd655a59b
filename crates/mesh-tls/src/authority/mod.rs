//! The certificate authority: roots made or loaded, workload certificates issued.
//!
//! What a certificate says comes from the caller that was *authenticated*, never from the signing request: of the
//! request only the public key is taken, after it proved that it has the private one. Nothing here has a clock; `now`
//! is an argument.

pub mod files;
mod request;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::identity::SpiffeId;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use zeroize::Zeroizing;

use crate::TrustBundle;
use crate::error::AuthorityError;
use crate::handshake::provider;
use crate::key::WorkloadKey;
use crate::{leaf, pem};

/// The largest signing request read, in bytes. One with an RSA key of 4096 bits takes less than 2 KiB.
pub const CSR_BYTES_MAX: usize = 16 * 1024;
/// How long before `now` a certificate begins, for clocks that go a little slow.
pub const BACKDATED: Duration = Duration::from_secs(120);
/// How long workload certificates are valid unless asked otherwise.
pub const WORKLOAD_VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// How long a self-signed root is valid (Istio's ten years).
pub const ROOT_VALIDITY: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Bytes of a serial number: 127 random bits (RFC 5280 allows 20 bytes).
const SERIAL_BYTES: usize = 16;

/// A certificate authority: the signing key and certificate, the way from it to the roots, and the roots.
pub struct Authority {
    issuer: Issuer<'static, SigningPair>,
    /// The signing certificate first, then intermediates; a self-signed signing certificate is not part of it.
    chain: Vec<CertificateDer<'static>>,
    bundle: TrustBundle,
    not_after: SystemTime,
}

/// A certificate that was just issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf first, then the intermediates up to but without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it ends.
    pub not_after: SystemTime,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
}

impl Authority {
    /// Makes a new root with a key of its own (ECDSA P-256), valid for [`ROOT_VALIDITY`].
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn self_signed(organisation: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let pair = WorkloadKey::generate().map_err(|e| AuthorityError::Sign(e.to_string()))?.into_pair();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.distinguished_name.push(DnType::CommonName, "mesh root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(random_serial()?);
        set_validity(&mut params, now - BACKDATED, now + ROOT_VALIDITY);
        let root = params.self_signed(&*pair).map_err(sign_failed)?;
        Self::new(pair, vec![root.der().clone()], vec![root.der().clone()], now)
    }

    /// Puts an authority together and proves, by issuing a certificate and verifying it, that it works: a key that is
    /// not the certificate's, a chain that does not lead to the root, or constraints that forbid our names would
    /// otherwise show only as failed handshakes of every workload.
    fn new(
        pair: Zeroizing<KeyPair>,
        mut chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let broken = |reason: String| AuthorityError::Broken(reason);
        let signing = chain.first().ok_or_else(|| broken("there is no signing certificate".to_owned()))?.clone();
        // The signing certificate's end bounds what it signs, and so does each certificate on the way up.
        let mut not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(u32::MAX.into());
        for certificate in &chain {
            let (_, ends) = leaf::validity(certificate).map_err(|e| broken(e.to_string()))?;
            not_after = not_after.min(ends);
        }
        chain.retain(|certificate| !leaf::is_self_issued(certificate));
        let issuer = Issuer::from_ca_cert_der(&signing, SigningPair(pair)).map_err(|e| broken(e.to_string()))?;
        let bundle = TrustBundle::new(roots).map_err(|e| broken(e.to_string()))?;
        let authority = Self { issuer, chain, bundle, not_after };
        authority.prove(now)?;
        Ok(authority)
    }

    /// Issues a certificate for an authenticated workload.
    ///
    /// `request` is a PKCS #10 signing request, PEM or DER, of which only the public key is used. The certificate is
    /// valid from [`BACKDATED`] before `now`, for `validity` at most and never beyond the authority's own end.
    ///
    /// # Errors
    /// An unacceptable request, or an authority that has ended.
    pub fn issue(
        &self,
        request: &[u8],
        identity: &SpiffeId,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let key = request::public_key(request)?;
        self.sign(&key, identity, validity, now)
    }

    /// The roots that workloads must trust.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// When the authority itself ends: the earliest end in its chain.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        identity: &SpiffeId,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        if now >= self.not_after {
            return Err(AuthorityError::Expired);
        }
        let not_after = (now + validity).min(self.not_after);
        let serial = random_serial()?;
        let mut params = CertificateParams::default();
        // The subject stays empty, which makes the name extension critical: it is all there is.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity.as_str()).map_err(sign_failed)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now - BACKDATED, not_after);
        params.serial_number = Some(serial);
        let certificate = params.signed_by(key, &self.issuer).map_err(sign_failed)?;
        let leaf = certificate.der().clone();
        let serial = leaf::serial_number(&leaf).map_err(|e| AuthorityError::Sign(e.to_string()))?;
        let chain = std::iter::once(leaf).chain(self.chain.iter().cloned()).collect();
        Ok(Issued { chain, not_after, serial })
    }

    /// Issues a certificate to nobody and verifies it as a peer would.
    fn prove(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let broken = |reason: String| AuthorityError::Broken(reason);
        let identity: SpiffeId = "spiffe://probe/ns/probe/sa/probe".parse().expect("invariant: a well-formed identity");
        let key = KeyPair::generate().map_err(sign_failed)?;
        let issued = self.sign(&key, &identity, WORKLOAD_VALIDITY, now)?;
        let leaf = EndEntityCert::try_from(&issued.chain[0]).map_err(|e| broken(e.to_string()))?;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        leaf.verify_for_usage(
            provider().signature_verification_algorithms.all,
            &self.bundle.roots.roots,
            &issued.chain[1..],
            UnixTime::since_unix_epoch(seconds),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|error| broken(format!("certificates that it signs do not verify against its root: {error}")))?;
        Ok(())
    }
}

/// The signing key, wiped when dropped.
struct SigningPair(Zeroizing<KeyPair>);

impl PublicKeyData for SigningPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for SigningPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl Issued {
    /// The chain as PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        pem::encode_certificates(&self.chain)
    }
}

fn random_serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0u8; SERIAL_BYTES];
    provider().secure_random.fill(&mut bytes).map_err(|_| AuthorityError::Sign("no randomness".to_owned()))?;
    // Positive, and not shortened by a leading zero.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Sets both ends. rcgen has a type of its own for time, of which we know one day and can add seconds.
fn set_validity(params: &mut CertificateParams, from: SystemTime, until: SystemTime) {
    let since_epoch =
        |time: SystemTime| Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(until);
}

fn sign_failed(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Sign(error.to_string())
}
