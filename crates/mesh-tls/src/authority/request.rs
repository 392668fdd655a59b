//! Certificate signing requests (PKCS #10): bytes of a stranger, of which only the public key is wanted.

use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::CSR_BYTES_MAX;
use crate::error::CsrFault;

/// The sizes of keys that are certified, in bits: RSA.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The sizes of keys that are certified, in bits: elliptic curves P-256 and P-384.
const EC_BITS: [usize; 2] = [256, 384];

/// The public key of a request whose signature proves that the sender has the private key.
///
/// Requested names and extensions are not even looked at.
pub(super) fn public_key(request: &[u8]) -> Result<SubjectPublicKeyInfo, CsrFault> {
    if request.len() > CSR_BYTES_MAX {
        return Err(CsrFault::TooLarge);
    }
    let der = if request.trim_ascii_start().starts_with(b"-----") {
        CertificateSigningRequestDer::from_pem_slice(request).map_err(|_| CsrFault::Malformed)?
    } else {
        CertificateSigningRequestDer::from(request.to_vec())
    };
    let ([], parsed) = X509CertificationRequest::from_der(&der).map_err(|_| CsrFault::Malformed)? else {
        return Err(CsrFault::Malformed);
    };
    let key = &parsed.certification_request_info.subject_pki;
    let acceptable = match key.parsed().map_err(|_| CsrFault::Key)? {
        PublicKey::RSA(rsa) => RSA_BITS.contains(&rsa.key_size()),
        PublicKey::EC(point) => EC_BITS.contains(&point.key_size()),
        _ => false,
    };
    if !acceptable {
        return Err(CsrFault::Key);
    }
    parsed.verify_signature().map_err(|_| CsrFault::Signature)?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| CsrFault::Key)
}
