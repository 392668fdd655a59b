//! What a workload's certificate says, and the rules that it must keep.
//!
//! The rules are SPIFFE's for X.509 (X509-SVID, sections 2 to 5): exactly one URI name, which is the identity; not a
//! certificate authority; a key that signs handshakes, not certificates. They are checked by one function for both
//! sides of a handshake and for our own certificate, so that no side is more lenient than the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::identity::SpiffeId;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName};
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use crate::error::LeafFault;

/// The longest part of a foreign name that is repeated in a message.
const QUOTED_CHARS_MAX: usize = 128;

/// Which side of the handshake a certificate is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Shown by the server, seen by the client.
    Server,
    /// Shown by the client, seen by the server.
    Client,
}

/// The facts of a workload's certificate, after all rules were found kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Who the certificate speaks for.
    pub identity: SpiffeId,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
}

impl Leaf {
    /// Reads a certificate and checks the rules that hold for both sides. Does not check signature or time.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(der: &[u8]) -> Result<Self, LeafFault> {
        let certificate = x509(der)?;
        check_usage(&certificate)?;
        Ok(Leaf {
            identity: identity(&certificate)?,
            not_before: system_time(certificate.validity().not_before),
            not_after: system_time(certificate.validity().not_after),
            serial: serial(&certificate),
        })
    }
}

/// The identity in a peer's certificate, with every rule checked for the side on which it was shown.
///
/// # Errors
/// The first rule that is broken.
pub fn peer_identity(der: &[u8], side: Side) -> Result<SpiffeId, LeafFault> {
    let certificate = x509(der)?;
    check_usage(&certificate)?;
    check_side(&certificate, side)?;
    identity(&certificate)
}

/// When any certificate (a root, for instance) begins and ends to be valid.
///
/// # Errors
/// [`LeafFault::Malformed`].
pub fn validity(der: &[u8]) -> Result<(SystemTime, SystemTime), LeafFault> {
    let certificate = x509(der)?;
    Ok((system_time(certificate.validity().not_before), system_time(certificate.validity().not_after)))
}

/// Serial number of any certificate, lower-case hexadecimal.
///
/// # Errors
/// [`LeafFault::Malformed`].
pub fn serial_number(der: &[u8]) -> Result<String, LeafFault> {
    Ok(serial(&x509(der)?))
}

/// The name that any certificate was issued to, as text for people (`O=mesh, CN=root`); empty for workloads'.
///
/// # Errors
/// [`LeafFault::Malformed`].
pub fn subject(der: &[u8]) -> Result<String, LeafFault> {
    Ok(x509(der)?.subject().to_string())
}

/// Whether a certificate names itself as its issuer, as roots do.
pub fn is_self_issued(der: &[u8]) -> bool {
    x509(der).is_ok_and(|certificate| certificate.subject().as_raw() == certificate.issuer().as_raw())
}

fn x509(der: &[u8]) -> Result<X509Certificate<'_>, LeafFault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(LeafFault::Malformed),
    }
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), LeafFault> {
    let constraints = certificate.basic_constraints().map_err(|_| LeafFault::Malformed)?;
    if constraints.is_some_and(|extension| extension.value.ca) {
        return Err(LeafFault::Authority);
    }
    let usage = certificate.key_usage().map_err(|_| LeafFault::Malformed)?;
    let Some(usage) = usage.map(|extension| extension.value) else {
        return Ok(());
    };
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(LeafFault::SigningKeyUsage);
    }
    if !usage.digital_signature() {
        return Err(LeafFault::NoDigitalSignature);
    }
    Ok(())
}

fn check_side(certificate: &X509Certificate<'_>, side: Side) -> Result<(), LeafFault> {
    let usage = certificate.extended_key_usage().map_err(|_| LeafFault::Malformed)?;
    let allowed = |usage: &ExtendedKeyUsage<'_>| match side {
        Side::Server => usage.server_auth,
        Side::Client => usage.client_auth,
    };
    // Absent means no restriction (RFC 5280, section 4.2.1.12).
    if usage.is_none_or(|extension| extension.value.any || allowed(extension.value)) {
        return Ok(());
    }
    Err(LeafFault::ExtendedKeyUsage(match side {
        Side::Server => "server authentication",
        Side::Client => "client authentication",
    }))
}

fn identity(certificate: &X509Certificate<'_>) -> Result<SpiffeId, LeafFault> {
    let names = certificate.subject_alternative_name().map_err(|_| LeafFault::Malformed)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris.as_slice() {
        [] => Err(LeafFault::NoUri),
        [uri] => uri.parse().map_err(|_| LeafFault::NotSpiffe(quoted(uri))),
        several => Err(LeafFault::SeveralUris(several.len())),
    }
}

/// A foreign name, cut and without control characters, for a message.
fn quoted(name: &str) -> String {
    name.chars().take(QUOTED_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn serial(certificate: &X509Certificate<'_>) -> String {
    certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds >= 0 { UNIX_EPOCH + distance } else { UNIX_EPOCH - distance }
}
