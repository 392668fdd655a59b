//! Two proxies, an application and a client in one process: the whole path of a request, without capture.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_api::Resource;
use mesh_core::config::{Endpoint, Inbound, InboundPort, MtlsMode, Protocol, Workload};

use crate::config::testing::{self, Key, address_of, complete, implicit, ip, name, service, settings};
use crate::listen::testing::{Application, Proxy, run, talk};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-app: cart\r\nmesh-forged: 1\r\n\r\nhello";

/// What the address of the service is, as the application dials it.
fn dialled() -> SocketAddr {
    "10.96.0.1:80".parse().unwrap()
}

fn workload(name: &str) -> Workload {
    Workload {
        name: format!("{name}-v1"),
        namespace: "shop".to_owned(),
        canonical_service: name.to_owned(),
        app: name.to_owned(),
        version: "v1".to_owned(),
        cluster: "Kubernetes".to_owned(),
        ..Workload::default()
    }
}

/// The inbound side of a workload whose application listens on this loopback port.
fn own(name: &str, identity: &str, port: u16) -> Resource {
    let known = InboundPort {
        protocol: Protocol::Http,
        mtls: MtlsMode::Strict,
        mtls_origin: None,
        service: Some((testing::name(name), 80)),
    };
    Resource::Inbound(Arc::new(Inbound {
        identity: identity.parse().unwrap(),
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        workload: workload(name),
        ports: BTreeMap::from([(port, known)]),
        ..testing::inbound()
    }))
}

/// An endpoint of `cart` that is dialled here, and must be that.
fn endpoint(at: SocketAddr, identity: &str) -> Resource {
    let Resource::Endpoint(_, template) = testing::endpoint("cart", "cart-1", "v1") else { unreachable!() };
    let endpoint = Endpoint {
        addresses: vec![at.ip()],
        ports: BTreeMap::from([(80, at.port())]),
        identity: Some(identity.parse().unwrap()),
        workload: workload("cart"),
        ..Endpoint::clone(&template)
    };
    Resource::Endpoint(name("cart"), Arc::new(endpoint))
}

/// A client's proxy that knows `cart` at `10.96.0.1`, with this endpoint.
fn client(at: SocketAddr, identity: &str) -> Proxy {
    let resources = [
        settings(),
        own("web", WEB, 1),
        address_of("10.96.0.1", "cart"),
        service("cart", &[]),
        endpoint(at, identity),
        complete("cart", 1),
        implicit("cart"),
        testing::host_of("cart", 80, "cart"),
    ];
    Proxy::new(WEB, &resources, &[Key::Address(ip("10.96.0.1")), Key::Host("cart".into(), 80)])
}

struct World {
    application: Application,
    server: Proxy,
    client: Proxy,
    /// Where the application "dials the service".
    entrance: SocketAddr,
}

async fn world(answer: &'static str) -> World {
    let application = Application::start(answer).await;
    let server = Proxy::new(CART, &[settings(), own("cart", CART, application.address.port())], &[]);
    let at = server.capture_inbound(application.address).await;
    let client = client(at, CART);
    let entrance = client.capture_outbound(dialled()).await;
    World { application, server, client, entrance }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: cart\r\nconnection: close\r\n\r\n")
}

#[test]
fn a_request_goes_over_mutual_tls_and_is_counted_on_both_sides() {
    run(async {
        let world = world(OK).await;
        let answer = talk(world.entrance, &get("/a/../items?x=1")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
        assert!(answer.contains("x-app: cart") && !answer.contains("mesh-"), "{answer}");
        let seen = world.application.seen.borrow()[0].clone();
        assert!(seen.starts_with("GET /items?x=1 HTTP/1.1\r\n"), "{seen}");
        assert!(seen.contains("host: cart\r\n") && seen.contains("x-request-id: "), "{seen}");
        assert!(seen.contains(&format!("x-forwarded-client-cert: By={CART};Hash=")), "{seen}");
        assert!(!seen.contains("mesh-peer"), "{seen}");
        for (proxy, labels) in [
            (&world.client, ["reporter=\"source\"", "destination_workload=\"cart-v1\""]),
            (&world.server, ["reporter=\"destination\"", "connection_security_policy=\"mutual_tls\""]),
        ] {
            let lines = proxy.metric("istio_requests_total", &labels);
            assert_eq!(lines.len(), 1, "{}", proxy.metrics());
            assert!(lines[0].ends_with("} 1"), "{lines:?}");
            for label in ["source_workload=\"web-v1\"", "response_code=\"200\"", "destination_service_name=\"cart\""] {
                assert!(lines[0].contains(label), "{lines:?}");
            }
            assert!(lines[0].contains(&format!("destination_principal=\"{CART}\"")), "{lines:?}");
            assert!(lines[0].contains(&format!("source_principal=\"{WEB}\"")), "{lines:?}");
        }
    });
}

#[test]
fn a_peer_with_another_identity_is_refused_by_name() {
    run(async {
        let application = Application::start(OK).await;
        let mallory = "spiffe://cluster.local/ns/shop/sa/mallory";
        let server = Proxy::new(mallory, &[settings(), own("cart", mallory, application.address.port())], &[]);
        let client = client(server.capture_inbound(application.address).await, CART);
        let answer = talk(client.capture_outbound(dialled()).await, &get("/")).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("mesh-reason: peer_identity_mismatch"), "{answer}");
        assert!(answer.contains(mallory) && answer.contains(CART), "{answer}");
        assert!(application.seen.borrow().is_empty());
        let lines = client.metric("mesh_refusals_total", &["peer_identity_mismatch", "upstream"]);
        assert_eq!(lines.len(), 1, "{}", client.metrics());
    });
}

#[test]
fn connections_between_proxies_are_kept_for_the_next_request() {
    run(async {
        let world = world(OK).await;
        for _ in 0..3 {
            assert!(talk(world.entrance, &get("/")).await.starts_with("HTTP/1.1 200"));
        }
        assert!(world.client.metrics().contains("mesh_upstream_connections_opened_total 1\n"), "{}", world.client.metrics());
        assert!(world.client.metrics().contains("mesh_upstream_reused_total 2\n"));
        assert!(world.server.metrics().contains("mesh_upstream_connections_opened_total 1\n"));
    });
}

#[test]
fn an_application_that_does_not_listen_is_named_as_the_reason() {
    run(async {
        let world = world(OK).await;
        let gone = Proxy::new(CART, &[settings(), own("cart", CART, 9)], &[]);
        let client = client(gone.capture_inbound("127.0.0.1:9".parse().unwrap()).await, CART);
        let answer = talk(client.capture_outbound(dialled()).await, &get("/")).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("mesh-reason: connect_failed\r\n"), "{answer}");
        // The other proxy said that nothing was sent, so it was tried again (and there is nobody else).
        assert!(client.metrics().contains("mesh_retries_total 2\n"), "{}", client.metrics());
        drop(world);
    });
}
