//! Whole handshakes in memory: who is let in, who is refused, and whether the reason is named.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::identity::TrustDomain;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ServerConfig};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use crate::alpn::{ISTIO, ISTIO_H2, ISTIO_HTTP_11, OFFER_HTTP1, OFFER_HTTP2, OFFER_TCP, SERVER_PREFERENCE};
use crate::authority::{Authority, WORKLOAD_VALIDITY};
use crate::leaf::Side;
use crate::testing::{LaxAuthority, authority, bundle, certificate, id, workload};
use crate::{ClientTls, Credentials, ServerTls, peer, provider, refusal};

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/web";
const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/cart";

/// What both sides say about a handshake.
struct Outcome {
    client: Result<Seen, rustls::Error>,
    server: Result<Seen, rustls::Error>,
}

#[derive(Debug)]
struct Seen {
    peer: String,
    alpn: Option<Vec<u8>>,
    suite: String,
    group: Option<NamedGroup>,
    kind: Option<HandshakeKind>,
}

fn server_tls(credentials: &Arc<Credentials>) -> ServerTls {
    ServerTls::new(Arc::clone(credentials), &[TrustDomain::parse("cluster.local").unwrap()], SERVER_PREFERENCE)
}

fn seen(connection: &rustls::CommonState, side: Side) -> Seen {
    Seen {
        peer: peer(connection, side).map(|peer| peer.identity.to_string()).unwrap_or_default(),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        suite: format!("{:?}", connection.negotiated_cipher_suite().unwrap().suite()),
        group: connection.negotiated_key_exchange_group().map(|group| group.name()),
        kind: connection.handshake_kind(),
    }
}

fn tls_error(error: &std::io::Error) -> rustls::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.cloned().unwrap_or_else(|| rustls::Error::General(error.to_string()))
}

async fn shake(client: Arc<ClientConfig>, server: ServerTls) -> Outcome {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = async {
        let mut stream =
            TlsConnector::from(client).connect(ClientTls::no_name(), near).await.map_err(|e| tls_error(&e))?;
        // A TLS 1.3 client learns that its own certificate was refused only with the first bytes that it reads.
        stream.write_all(b"ping").await.map_err(|e| tls_error(&e))?;
        stream.read_exact(&mut [0; 4]).await.map_err(|e| tls_error(&e))?;
        Ok(seen(stream.get_ref().1, Side::Server))
    };
    let server = async {
        let start = LazyConfigAcceptor::new(Default::default(), far).await.map_err(|e| tls_error(&e))?;
        let config = server.for_hello(&start.client_hello());
        let mut stream = start.into_stream(config).await.map_err(|e| tls_error(&e))?;
        stream.read_exact(&mut [0; 4]).await.map_err(|e| tls_error(&e))?;
        stream.write_all(b"pong").await.map_err(|e| tls_error(&e))?;
        Ok(seen(stream.get_ref().1, Side::Client))
    };
    let (client, server) = tokio::join!(client, server);
    Outcome { client, server }
}

fn client_config(credentials: &Arc<Credentials>, expected: &[&str], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    ClientTls::new(Arc::clone(credentials)).config(expected.iter().map(|name| id(name)).collect(), alpn)
}

/// A workload with a certificate that our own authority would not issue.
fn lax_workload(
    lax: &LaxAuthority,
    own: &Authority,
    uris: &[&str],
    edit: impl FnOnce(&mut rcgen::CertificateParams),
) -> ServerConfigOf {
    let (leaf, key) = lax.sign(uris, edit);
    ServerConfigOf { leaf, key, own: bundle(own) }
}

/// A server, or client, configured by hand, since our own types refuse to hold what it shows.
struct ServerConfigOf {
    leaf: rustls::pki_types::CertificateDer<'static>,
    key: String,
    own: crate::TrustBundle,
}

impl ServerConfigOf {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    fn server(&self) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], self.key())
            .unwrap();
        Arc::new(config)
    }

    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.roots.clone_from(&self.own.roots.roots);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.leaf.clone()], self.key())
            .unwrap();
        let template = client_config(
            &Credentials::new(crate::TrustBundle::new(self.own.certificates().to_vec()).unwrap()),
            &[SERVER],
            OFFER_TCP,
        );
        config.alpn_protocols.clone_from(&template.alpn_protocols);
        Arc::new(config)
    }
}

async fn connect_to(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<(), rustls::Error> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (client, _) = tokio::join!(
        TlsConnector::from(client).connect(ClientTls::no_name(), near),
        tokio_rustls::TlsAcceptor::from(server).accept(far)
    );
    client.map(drop).map_err(|e| tls_error(&e))
}

#[tokio::test]
async fn two_workloads_prove_themselves_to_each_other() {
    let authority = authority();
    let (client, server) = (workload(&authority, CLIENT), workload(&authority, SERVER));
    let outcome = shake(client_config(&client, &[SERVER], OFFER_HTTP2), server_tls(&server)).await;
    let seen = outcome.client.unwrap();
    assert_eq!(seen.peer, SERVER);
    assert_eq!(seen.alpn.as_deref(), Some(ISTIO_H2));
    assert_eq!(seen.suite, "TLS13_AES_128_GCM_SHA256");
    assert_eq!(seen.group, Some(NamedGroup::X25519MLKEM768));
    assert_eq!(outcome.server.unwrap().peer, CLIENT);
}

#[tokio::test]
async fn a_handshake_is_never_resumed() {
    let authority = authority();
    let (client, server) = (workload(&authority, CLIENT), workload(&authority, SERVER));
    let config = client_config(&client, &[SERVER], OFFER_HTTP1);
    for _ in 0..3 {
        let outcome = shake(Arc::clone(&config), server_tls(&server)).await;
        assert_eq!(outcome.client.unwrap().kind, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn another_workload_of_the_same_authority_is_refused_by_name() {
    let authority = authority();
    let (client, server) = (workload(&authority, CLIENT), workload(&authority, SERVER));
    let other = "spiffe://cluster.local/ns/shop/sa/other";
    let outcome = shake(client_config(&client, &[other], OFFER_TCP), server_tls(&server)).await;
    let error = outcome.client.unwrap_err();
    assert_eq!(refusal(&error).unwrap().to_string(), format!("peer is {SERVER}, expected {other}"));
    assert!(outcome.server.is_err());
}

#[tokio::test]
async fn one_of_several_expected_identities_is_enough_and_none_is_nobody() {
    let authority = authority();
    let (client, server) = (workload(&authority, CLIENT), workload(&authority, SERVER));
    let both = client_config(&client, &["spiffe://cluster.local/ns/a/sa/b", SERVER], OFFER_TCP);
    assert!(shake(both, server_tls(&server)).await.client.is_ok());
    let nobody = shake(client_config(&client, &[], OFFER_TCP), server_tls(&server)).await;
    assert!(refusal(&nobody.client.unwrap_err()).unwrap().to_string().contains("expected nobody"));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let authority = authority();
    let past = SystemTime::now() - Duration::from_secs(7200);
    let expired = |name| {
        let credentials = Credentials::new(bundle(&authority));
        credentials.install(certificate(&authority, name, past, Duration::from_secs(3600)));
        credentials
    };
    let to_expired =
        shake(client_config(&workload(&authority, CLIENT), &[SERVER], OFFER_TCP), server_tls(&expired(SERVER))).await;
    assert!(to_expired.client.unwrap_err().to_string().contains("expired"));
    let from_expired =
        shake(client_config(&expired(CLIENT), &[SERVER], OFFER_TCP), server_tls(&workload(&authority, SERVER))).await;
    assert!(from_expired.server.unwrap_err().to_string().contains("expired"));
}

#[tokio::test]
async fn a_client_of_another_trust_domain_is_refused_by_name() {
    let authority = authority();
    let stranger = workload(&authority, "spiffe://elsewhere.example/ns/shop/sa/web");
    let outcome =
        shake(client_config(&stranger, &[SERVER], OFFER_TCP), server_tls(&workload(&authority, SERVER))).await;
    let error = outcome.server.unwrap_err();
    let text = refusal(&error).unwrap().to_string();
    assert!(text.contains("elsewhere.example") && text.contains("accepted: cluster.local"), "{text}");
    assert!(outcome.client.is_err());
    // An alias is taken as ours.
    let tls = server_tls(&workload(&authority, SERVER));
    tls.accept_trust_domains(vec!["cluster.local".to_owned(), "elsewhere.example".to_owned()]);
    assert!(shake(client_config(&stranger, &[SERVER], OFFER_TCP), tls).await.server.is_ok());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (authority(), authority());
    let outcome =
        shake(client_config(&workload(&ours, CLIENT), &[SERVER], OFFER_TCP), server_tls(&workload(&theirs, SERVER)))
            .await;
    // Both authorities have the same name, so it is the signature that tells them apart.
    let text = outcome.client.unwrap_err().to_string();
    assert!(text.contains("UnknownIssuer") || text.contains("BadSignature"), "{text}");
    // The client trusts both roots, the server only its own.
    let client = workload(&theirs, CLIENT);
    client.trust(bundle(&ours));
    let outcome = shake(client_config(&client, &[SERVER], OFFER_TCP), server_tls(&workload(&ours, SERVER))).await;
    let text = outcome.server.unwrap_err().to_string();
    assert!(text.contains("UnknownIssuer") || text.contains("BadSignature"), "{text}");
}

#[tokio::test]
async fn a_client_without_certificate_is_refused_unless_it_is_optional() {
    let authority = authority();
    let (nobody, server) = (Credentials::new(bundle(&authority)), workload(&authority, SERVER));
    let outcome = shake(client_config(&nobody, &[SERVER], OFFER_TCP), server_tls(&server)).await;
    assert_eq!(outcome.server.unwrap_err(), rustls::Error::NoCertificatesPresented);
    let lenient =
        ServerTls::with_optional_client(server, &[TrustDomain::parse("cluster.local").unwrap()], SERVER_PREFERENCE);
    let outcome = shake(client_config(&nobody, &[SERVER], OFFER_TCP), lenient).await;
    assert_eq!(outcome.server.unwrap().peer, "");
    assert_eq!(outcome.client.unwrap().peer, SERVER);
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let authority = authority();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut roots = rustls::RootCertStore::empty();
    roots.roots.clone_from(&authority.bundle().roots.roots);
    let old = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let outcome = shake(Arc::new(old), server_tls(&workload(&authority, SERVER))).await;
    assert!(matches!(outcome.server.unwrap_err(), rustls::Error::PeerIncompatible(_)));
    assert!(outcome.client.is_err());
}

#[tokio::test]
async fn protocols_without_overlap_do_not_abort() {
    let authority = authority();
    let (client, server) = (workload(&authority, CLIENT), workload(&authority, SERVER));
    for (offered, chosen) in [
        (&[b"istio-peer-exchange".as_slice(), b"spdy"][..], None),
        (&[][..], None),
        (&[b"istio-peer-exchange", ISTIO][..], Some(ISTIO)),
        (OFFER_HTTP1, Some(ISTIO_HTTP_11)),
    ] {
        let outcome = shake(client_config(&client, &[SERVER], offered), server_tls(&server)).await;
        assert_eq!(outcome.client.unwrap().alpn.as_deref(), chosen);
    }
}

#[tokio::test]
async fn renewed_certificates_and_roots_act_on_the_next_handshake() {
    let (old, new) = (authority(), authority());
    let (client, server) = (workload(&old, CLIENT), workload(&old, SERVER));
    let (config, tls) = (client_config(&client, &[SERVER], OFFER_TCP), server_tls(&server));
    assert!(shake(Arc::clone(&config), tls.clone()).await.client.is_ok());
    server.install(certificate(&new, SERVER, SystemTime::now(), WORKLOAD_VALIDITY));
    assert!(shake(Arc::clone(&config), tls.clone()).await.client.is_err());
    let both = [old.bundle().to_pem(), new.bundle().to_pem()].concat();
    client.trust(crate::TrustBundle::from_pem(both.as_bytes()).unwrap());
    assert!(shake(config, tls).await.client.is_ok());
}

#[tokio::test]
async fn certificates_that_break_a_rule_are_refused_with_the_rule_named() {
    use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
    type Edit = fn(&mut rcgen::CertificateParams);
    let (lax, own) = (LaxAuthority::new(), authority());
    let client = workload(&own, CLIENT);
    client.trust(lax.bundle());
    let config = client_config(&client, &[SERVER], OFFER_TCP);
    let cases: [(&[&str], Edit, &str); 7] = [
        (&[SERVER], |_| {}, "accepted"),
        (&[SERVER, CLIENT], |_| {}, "2 URI names"),
        (&[], |_| {}, "no URI name"),
        (&["https://shop.example/cart"], |_| {}, "not a SPIFFE identity: https://shop.example/cart"),
        (&[SERVER], |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained), "CaUsedAsEndEntity"),
        (
            &[SERVER],
            |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
            "may sign certificates",
        ),
        (&[SERVER], |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth], "Purpose"),
    ];
    for (uris, edit, expected) in cases {
        let server = lax_workload(&lax, &own, uris, edit).server();
        let said = match connect_to(Arc::clone(&config), server).await {
            Ok(()) => "accepted".to_owned(),
            Err(error) => refusal(&error).map_or_else(|| format!("{error} {error:?}"), ToString::to_string),
        };
        assert!(
            said.contains(expected) || said.contains("Purpose") && expected.contains("Purpose"),
            "{uris:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_client_with_two_identities_is_refused() {
    let (lax, own) = (LaxAuthority::new(), authority());
    let server = workload(&own, SERVER);
    server.trust(lax.bundle());
    // The hand-made client verifies names as browsers do and gives up itself; what counts is the server's verdict,
    // so the server is given a certificate whose chain the client can at least read.
    let client = lax_workload(&lax, &own, &[CLIENT, SERVER], |_| {}).client();
    let mut blind = ClientConfig::clone(&client);
    blind.dangerous().set_certificate_verifier(Arc::new(Anybody));
    let outcome = shake(Arc::new(blind), server_tls(&server)).await;
    assert!(refusal(&outcome.server.unwrap_err()).unwrap().to_string().contains("2 URI names"));
}

/// A client that believes every server: only the other side's verdict is under test.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
