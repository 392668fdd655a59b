//! What can be wrong with certificates, keys and peers, in words an operator can act on.
//!
//! No message carries key material, and none carries unbounded bytes of a peer.

use mesh_core::identity::SpiffeId;

/// A PEM text that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no certificate in it.
    #[error("no certificate found; expected a section BEGIN CERTIFICATE")]
    NoCertificate,
    /// There is no usable private key in it.
    #[error(
        "no private key found; expected a section BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY"
    )]
    NoPrivateKey,
    /// More certificates than anything sensible has.
    #[error("more than {} certificates", crate::pem::CERTIFICATES_MAX)]
    TooMany,
    /// A section that does not decode.
    #[error("malformed PEM: {0}")]
    Malformed(String),
}

/// Why a certificate is not a workload's (SPIFFE X.509-SVID, section 4 and 5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafFault {
    /// Not an X.509 certificate at all.
    #[error("the certificate cannot be parsed")]
    Malformed,
    /// It names no SPIFFE identity.
    #[error("the certificate has no URI name")]
    NoUri,
    /// It names several, so that nobody could say which one speaks.
    #[error("the certificate has {0} URI names; exactly one is allowed")]
    SeveralUris(usize),
    /// Its URI is not a SPIFFE identity of a workload.
    #[error("the certificate's URI name is not a SPIFFE identity: {0}")]
    NotSpiffe(String),
    /// A CA certificate used as a leaf.
    #[error("the certificate is a certificate authority's and may not be used by a workload")]
    Authority,
    /// It may sign certificates or revocation lists.
    #[error("the certificate's key may sign certificates, which a workload's may not")]
    SigningKeyUsage,
    /// `digitalSignature` is missing in its key usage.
    #[error("the certificate's key usage does not allow digital signatures")]
    NoDigitalSignature,
    /// Not made for the side of the handshake on which it was shown.
    #[error("the certificate's extended key usage does not allow {0}")]
    ExtendedKeyUsage(&'static str),
}

/// Why a peer was refused during the handshake. Found again in a failed handshake's error by [`crate::refusal`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// The certificate breaks the rules for workloads.
    #[error("{0}")]
    Leaf(#[from] LeafFault),
    /// The peer is a workload of the mesh, but not the one that config names.
    #[error("peer is {actual}, expected {}", one_of(.expected))]
    OtherIdentity {
        /// Who answered.
        actual: SpiffeId,
        /// Who was expected.
        expected: Vec<SpiffeId>,
    },
    /// The peer belongs to a trust domain that this mesh does not accept.
    #[error("peer {actual} is of another trust domain; accepted: {}", .accepted.join(", "))]
    OtherTrustDomain {
        /// Who asked.
        actual: SpiffeId,
        /// The trust domains that are accepted.
        accepted: Vec<String>,
    },
}

fn one_of(expected: &[SpiffeId]) -> String {
    let names: Vec<String> = expected.iter().map(ToString::to_string).collect();
    if names.is_empty() { "nobody: config names no identity for this endpoint".to_owned() } else { names.join(" or ") }
}

/// Why a certificate and key cannot be used as this process's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text could not be read.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The leaf breaks the rules for workloads.
    #[error(transparent)]
    Leaf(#[from] LeafFault),
    /// Certificate and key do not belong together.
    #[error("the certificate was not issued for this key")]
    OtherKey,
    /// The key is of a kind that TLS cannot use.
    #[error("the private key cannot be used: {0}")]
    Key(String),
}

/// Why a bundle of root certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The text could not be read.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// One certificate of the bundle is not usable as a root.
    #[error("root certificate {position} of the bundle cannot be used: {reason}")]
    Root {
        /// Position in the bundle, from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a certificate signing request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrFault {
    /// Larger than [`crate::authority::CSR_BYTES_MAX`].
    #[error("the certificate signing request is larger than {} bytes", crate::authority::CSR_BYTES_MAX)]
    TooLarge,
    /// Not a PKCS #10 request.
    #[error("the certificate signing request cannot be parsed")]
    Malformed,
    /// Its signature is not by the key that it carries.
    #[error("the certificate signing request is not signed by its own key")]
    Signature,
    /// A key that we do not certify.
    #[error(
        "the key of the certificate signing request is not supported; use ECDSA P-256 or P-384, or RSA with 2048 to 4096 bits"
    )]
    Key,
}

/// Why the certificate authority could not be set up or could not sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{file}: {reason}")]
    Content {
        /// Which file of the set.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Key and certificate do not belong together, or the chain does not lead to the root.
    #[error("the certificate authority does not work: {0}")]
    Broken(String),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(String),
    /// The request itself was not acceptable.
    #[error(transparent)]
    Request(#[from] CsrFault),
    /// The signing certificate has ended.
    #[error("the certificate authority's own certificate has expired")]
    Expired,
}
