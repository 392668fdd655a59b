//! TLS configurations of the mesh, and what a handshake told.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use mesh_core::identity::{SpiffeId, TrustDomain};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, CommonState, Error, ServerConfig};

use crate::Credentials;
use crate::error::PeerRefused;
use crate::leaf::{Side, peer_identity};
use crate::verify::{ClientOf, ServerIs};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = aws_lc_rs::default_provider();
    // AES-128 is as safe here and a third cheaper per byte than AES-256, which rustls would prefer.
    provider.cipher_suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    // The hybrid exchange first: what is recorded today must not be readable tomorrow.
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    Arc::new(provider)
});

/// The cryptography of mesh TLS: TLS 1.3 suites only, `TLS13_AES_128_GCM_SHA256` and X25519MLKEM768 first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Makes configurations for connections to peers whose identity is known beforehand.
#[derive(Clone)]
pub struct ClientTls {
    template: Arc<ClientConfig>,
    credentials: Arc<Credentials>,
}

impl ClientTls {
    /// Prepares everything that does not depend on the peer.
    pub fn new(credentials: Arc<Credentials>) -> Self {
        let mut template = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("invariant: the provider has TLS 1.3 suites and key exchange groups")
            .dangerous() // rustls' word for a verifier of one's own; ours only adds requirements, see `verify`
            .with_custom_certificate_verifier(Arc::new(ServerIs {
                expected: Arc::from([]), // nobody
                credentials: Arc::clone(&credentials),
                algorithms: provider().signature_verification_algorithms,
            }))
            .with_client_cert_resolver(Arc::clone(&credentials) as Arc<dyn rustls::client::ResolvesClientCert>);
        template.resumption = Resumption::disabled();
        template.enable_sni = false;
        Self { template: Arc::new(template), credentials }
    }

    /// The configuration for a peer that must be one of `expected` (usually exactly one; none refuses everybody),
    /// offering these protocols, best first. Costs a few small allocations; may be kept as long as wished, since
    /// renewed certificates and roots are seen by it too.
    pub fn config(&self, expected: Arc<[SpiffeId]>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        self.make(expected, alpn, false)
    }

    /// As [`config`](Self::config), and the name given to the connector is sent as SNI (Istio's gateways route by it).
    pub fn config_with_sni(&self, expected: Arc<[SpiffeId]>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        self.make(expected, alpn, true)
    }

    /// A name to hand to TLS connectors where no SNI is sent. It takes no part in verification.
    pub fn no_name() -> ServerName<'static> {
        ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into())
    }

    fn make(&self, expected: Arc<[SpiffeId]>, alpn: &[&[u8]], sni: bool) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.template);
        config.enable_sni = sni;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.dangerous().set_certificate_verifier(Arc::new(ServerIs {
            expected,
            credentials: Arc::clone(&self.credentials),
            algorithms: provider().signature_verification_algorithms,
        }));
        Arc::new(config)
    }
}

/// Server configurations, one per protocol that can be chosen and one without, made once.
///
/// rustls aborts a handshake in which the server has protocols and none is offered. Which peers' bytes we accept is
/// decided by the port's declared protocol, not by ALPN, so the configuration is chosen after the hello was read and
/// then holds exactly one protocol that was offered, or none.
#[derive(Clone)]
pub struct ServerTls {
    by_protocol: Vec<(&'static [u8], Arc<ServerConfig>)>,
    without: Arc<ServerConfig>,
    trust_domains: Arc<ArcSwap<Vec<String>>>,
}

impl ServerTls {
    /// Prepares configurations that require a client certificate of one of these trust domains, and choose a protocol
    /// from `preference`, best first ([`crate::alpn::SERVER_PREFERENCE`] on 15006).
    pub fn new(credentials: Arc<Credentials>, trust_domains: &[TrustDomain], preference: &[&'static [u8]]) -> Self {
        Self::build(credentials, trust_domains, preference, true)
    }

    /// As [`new`](Self::new), but a client may also come without a certificate and prove itself by other means (the
    /// control plane's port, where a new proxy has only its token). A certificate that is shown must be good.
    pub fn with_optional_client(
        credentials: Arc<Credentials>,
        trust_domains: &[TrustDomain],
        preference: &[&'static [u8]],
    ) -> Self {
        Self::build(credentials, trust_domains, preference, false)
    }

    fn build(
        credentials: Arc<Credentials>,
        trust_domains: &[TrustDomain],
        preference: &[&'static [u8]],
        mandatory: bool,
    ) -> Self {
        let trust_domains = trust_domains.iter().map(|domain| domain.as_str().to_owned()).collect::<Vec<_>>();
        let trust_domains = Arc::new(ArcSwap::from_pointee(trust_domains));
        let verifier = Arc::new(ClientOf {
            trust_domains: Arc::clone(&trust_domains),
            mandatory,
            credentials: Arc::clone(&credentials),
            algorithms: provider().signature_verification_algorithms,
        });
        let mut without = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("invariant: the provider has TLS 1.3 suites and key exchange groups")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(credentials);
        without.session_storage = Arc::new(NoServerSessionStorage {});
        without.send_tls13_tickets = 0;
        let by_protocol = preference
            .iter()
            .map(|protocol| {
                let mut config = without.clone();
                config.alpn_protocols = vec![protocol.to_vec()];
                (*protocol, Arc::new(config))
            })
            .collect();
        Self { by_protocol, without: Arc::new(without), trust_domains }
    }

    /// Accepts clients of these trust domains, and no others, from the next handshake on. Holds for all clones.
    pub fn accept_trust_domains(&self, trust_domains: Vec<String>) {
        self.trust_domains.store(Arc::new(trust_domains));
    }

    /// The configuration for a client that offers these protocols. Never one that aborts for want of overlap.
    pub fn choose<'a>(&self, offered: impl IntoIterator<Item = &'a [u8]> + Clone) -> Arc<ServerConfig> {
        self.by_protocol
            .iter()
            .find(|(ours, _)| offered.clone().into_iter().any(|theirs| theirs == *ours))
            .map_or_else(|| Arc::clone(&self.without), |(_, config)| Arc::clone(config))
    }

    /// As [`choose`](Self::choose), for rustls' lazily configured acceptor.
    pub fn for_hello(&self, hello: &rustls::server::ClientHello<'_>) -> Arc<ServerConfig> {
        let offered: Vec<&[u8]> = hello.alpn().map(Iterator::collect).unwrap_or_default();
        self.choose(offered)
    }
}

/// The verified other end of a finished handshake.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who it is.
    pub identity: SpiffeId,
    /// SHA-256 of its certificate (DER): the `Hash` of `x-forwarded-client-cert`.
    pub certificate_sha256: [u8; 32],
}

/// Who the peer of a finished mesh handshake is. `None` only where it showed no certificate, which our verifiers
/// never accept; treat it as unauthenticated.
///
/// `side` is the side on which the peer's certificate was shown: [`Side::Client`] when we are the server.
pub fn peer(connection: &CommonState, side: Side) -> Option<Peer> {
    let certificate: &CertificateDer<'_> = connection.peer_certificates()?.first()?;
    let identity = peer_identity(certificate, side).ok()?;
    let digest = aws_lc_rs_digest(certificate);
    Some(Peer { identity, certificate_sha256: digest })
}

fn aws_lc_rs_digest(bytes: &[u8]) -> [u8; 32] {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Whether a handshake failed because *we* refused the peer's identity, and why.
///
/// Other failures (expired, unknown issuer, no certificate, protocol version) are told well by rustls' own message.
pub fn refusal(error: &Error) -> Option<&PeerRefused> {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return None;
    };
    other.0.downcast_ref()
}
