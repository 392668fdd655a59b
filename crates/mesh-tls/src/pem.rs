//! PEM in and out. Certificates and keys are exchanged as PEM files and gRPC strings; inside they are DER.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::PemError;

/// The most certificates taken from one PEM text: a chain or a bundle of roots during rotation has a handful.
pub const CERTIFICATES_MAX: usize = 64;

/// Characters of base64 on a line (RFC 7468).
const LINE_CHARS: usize = 64;

/// All certificates of a PEM text, in order. Text between them, and other PEM sections, are skipped.
///
/// # Errors
/// A section that does not decode, more than [`CERTIFICATES_MAX`], or none at all.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut found = Vec::new();
    for item in CertificateDer::pem_slice_iter(pem) {
        if found.len() == CERTIFICATES_MAX {
            return Err(PemError::TooMany);
        }
        found.push(item.map_err(|error| PemError::Malformed(error.to_string()))?);
    }
    if found.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok(found)
}

/// The first private key of a PEM text (PKCS #8, SEC 1 or PKCS #1).
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    // The parser's own message is dropped on purpose: it must never carry a piece of a key.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| PemError::NoPrivateKey)
}

/// Certificates as PEM, in order.
pub fn encode_certificates<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    chain.into_iter().fold(String::new(), |mut text, certificate| {
        text.push_str(&section("CERTIFICATE", certificate));
        text
    })
}

/// One PEM section (RFC 7468) with this label.
pub(crate) fn section(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_CHARS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
