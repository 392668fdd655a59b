//! The verifiers of mesh TLS. The chain is rustls-webpki's business; who the peer is, is ours.
//!
//! webpki cannot match URI names, and its name check must not be called and then forgiven. So the chain is verified
//! by itself, without any name, and then the one SPIFFE identity in the leaf is compared whole. A client requires the
//! exact identity that config names for the endpoint, never just "a certificate of our authority". A server requires
//! an accepted trust domain; what that identity may do is for authorization to say.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_core::identity::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use crate::Credentials;
use crate::error::PeerRefused;
use crate::leaf::{Side, peer_identity};

/// A client's check of the server.
pub(crate) struct ServerIs {
    pub(crate) expected: Arc<[SpiffeId]>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// A server's check of the client.
pub(crate) struct ClientOf {
    pub(crate) trust_domains: Arc<ArcSwap<Vec<String>>>,
    /// Whether a client without a certificate is refused.
    pub(crate) mandatory: bool,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerIs {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let bundle = self.credentials.bundle();
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &bundle.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let actual = peer_identity(end_entity, Side::Server).map_err(|fault| refuse(fault.into()))?;
        if !self.expected.contains(&actual) {
            return Err(refuse(PeerRefused::OtherIdentity { actual, expected: self.expected.to_vec() }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("mesh TLS is version 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for ClientOf {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Proxies have one certificate; hints would only tell strangers whom we trust.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(chain_error)?;
        let bundle = self.credentials.bundle();
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &bundle.roots.roots,
                intermediates,
                now,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(chain_error)?;
        let actual = peer_identity(end_entity, Side::Client).map_err(|fault| refuse(fault.into()))?;
        let accepted = self.trust_domains.load();
        if !accepted.iter().any(|accepted| accepted == actual.trust_domain()) {
            return Err(refuse(PeerRefused::OtherTrustDomain { actual, accepted: accepted.to_vec() }));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("mesh TLS is version 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refuse(reason: PeerRefused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// webpki's verdicts as rustls names them, so that both sides log the same words.
fn chain_error(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let named = match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(named)
}

impl fmt::Debug for ServerIs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIs").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOf").field("trust_domains", &self.trust_domains).finish_non_exhaustive()
    }
}
