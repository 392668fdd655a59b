//! A workload's private key: made here, never sent anywhere; only the signing request leaves.

use mesh_core::identity::SpiffeId;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::error::CertificateError;
use crate::pem;

/// A private key. Has no `Debug`, and its encoded form is wiped when dropped.
pub struct WorkloadKey(Zeroizing<KeyPair>);

impl WorkloadKey {
    /// Makes a new ECDSA P-256 key.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        KeyPair::generate().map(|pair| Self(Zeroizing::new(pair))).map_err(|e| CertificateError::Key(e.to_string()))
    }

    /// Reads a key (PKCS #8, SEC 1 or PKCS #1) from PEM.
    ///
    /// # Errors
    /// Where there is none or it is of an unknown kind.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let der = pem::private_key(text)?;
        // The library's own message could repeat input; the kind of trouble is enough.
        let pair = KeyPair::try_from(&der).map_err(|_| CertificateError::Key("unknown kind of key".to_owned()))?;
        Ok(Self(Zeroizing::new(pair)))
    }

    /// The key as PEM (PKCS #8 for generated keys), wiped when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let label = match self.der() {
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        Zeroizing::new(pem::section(label, self.0.serialized_der()))
    }

    /// A PKCS #10 signing request, PEM. It names the wished identity as Istio's agents do; an authority must take the
    /// identity from the authenticated caller instead.
    ///
    /// # Errors
    /// Where signing fails.
    pub fn signing_request(&self, wished: &SpiffeId) -> Result<String, CertificateError> {
        let failed = |error: rcgen::Error| CertificateError::Key(error.to_string());
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(wished.as_str()).map_err(failed)?)];
        let request = params.serialize_request(&*self.0).map_err(failed)?;
        Ok(pem::section("CERTIFICATE REQUEST", request.der()))
    }

    /// The key for a TLS library.
    pub(crate) fn der(&self) -> PrivateKeyDer<'static> {
        // Its own encoding was parsed before, so the kind is known again.
        PrivateKeyDer::try_from(self.0.serialized_der().to_vec())
            .unwrap_or_else(|_| PrivateKeyDer::Pkcs8(self.0.serialized_der().to_vec().into()))
    }

    /// The key for signing certificates.
    pub(crate) fn into_pair(self) -> Zeroizing<KeyPair> {
        self.0
    }
}
