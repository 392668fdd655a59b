//! What the pod accepts, and from whom: one proxy, without capture.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_api::Resource;
use mesh_core::config::{
    AuthzAction, AuthzPolicy, AuthzRule, Inbound, InboundPort, MtlsMode, Operation, Origin, Protocol, Term, ValueMatch,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::testing::{self, settings};
use crate::listen::testing::{Application, Proxy, run, talk};

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nmesh-reason: unsent\r\n\r\nok";

struct World {
    application: Application,
    proxy: Proxy,
    entrance: SocketAddr,
}

async fn world(protocol: Protocol, mtls: MtlsMode, policies: Vec<AuthzPolicy>) -> World {
    let application = Application::start(OK).await;
    let port = InboundPort { protocol, mtls, mtls_origin: None, service: None };
    let inbound = Inbound {
        identity: CART.parse().unwrap(),
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        ports: BTreeMap::from([(application.address.port(), port)]),
        policies,
        ..testing::inbound()
    };
    let proxy = Proxy::new(CART, &[settings(), Resource::Inbound(Arc::new(inbound))], &[]);
    let entrance = proxy.capture_inbound(application.address).await;
    World { application, proxy, entrance }
}

fn deny(term: Term) -> AuthzPolicy {
    AuthzPolicy {
        origin: Origin {
            kind: "AuthorizationPolicy".to_owned(),
            namespace: "shop".to_owned(),
            name: "no-admin".to_owned(),
            generation: 1,
        },
        action: AuthzAction::Deny,
        dry_run: false,
        rules: vec![AuthzRule { to: vec![Operation { terms: vec![term] }], ..AuthzRule::default() }],
    }
}

fn path(path: &str) -> Term {
    Term::Path { not: false, values: vec![ValueMatch::Prefix(path.to_owned())] }
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: cart\r\nconnection: close\r\n{more}\r\n")
}

#[test]
fn a_policy_looks_at_the_path_that_is_forwarded() {
    run(async {
        let world = world(Protocol::Http, MtlsMode::Permissive, vec![deny(path("/admin"))]).await;
        for hidden in ["/admin", "/x/../admin", "/%61dmin", "/x/%2e%2e/admin/users"] {
            let answer = talk(world.entrance, &get(hidden, "")).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{hidden}: {answer}");
            assert!(answer.contains("mesh-reason: policy_denied\r\n"), "{answer}");
            assert!(!answer.contains("no-admin"), "the client is not told which policy: {answer}");
        }
        assert!(talk(world.entrance, &get("/Admin", "")).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(world.application.seen.borrow().len(), 1);
    });
}

#[test]
fn a_plaintext_client_claims_nothing_and_an_application_does_not_speak_for_the_proxy() {
    run(async {
        let world = world(Protocol::Http, MtlsMode::Permissive, vec![]).await;
        let claims =
            "x-forwarded-client-cert: By=x;URI=spiffe://cluster.local/ns/shop/sa/admin\r\nmesh-peer: w=admin\r\n";
        let answer = talk(world.entrance, &get("/", claims)).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("mesh-reason"), "{answer}");
        let seen = world.application.seen.borrow()[0].to_lowercase();
        assert!(!seen.contains("x-forwarded-client-cert") && !seen.contains("mesh-peer"), "{seen}");
        let lines = world.proxy.metric("istio_requests_total", &["connection_security_policy=\"none\""]);
        assert!(
            lines[0].contains("source_workload=\"unknown\"") && lines[0].contains("InboundPassthroughCluster"),
            "{lines:?}"
        );
    });
}

#[test]
fn rules_about_requests_are_not_escaped_by_speaking_something_else() {
    run(async {
        let world = world(Protocol::Unspecified, MtlsMode::Permissive, vec![deny(path("/admin"))]).await;
        assert_eq!(talk(world.entrance, "BINARY\r\n\r\n").await, "");
        assert_eq!(world.proxy.metric("mesh_refusals_total", &["not_http"]).len(), 1, "{}", world.proxy.metrics());
        let hello = "\u{16}\u{3}\u{1}";
        let mut stream = TcpStream::connect(world.entrance).await.unwrap();
        stream.write_all(hello.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() && world.application.seen.borrow().is_empty());
    });
}

#[test]
fn what_was_not_meant_for_this_pod_is_refused() {
    run(async {
        let world = world(Protocol::Http, MtlsMode::Permissive, vec![]).await;
        for (original, reason) in [("10.1.2.3:80", "not_own_address"), ("127.0.0.1:15000", "proxy_port")] {
            let entrance = world.proxy.capture_inbound(original.parse().unwrap()).await;
            assert_eq!(talk(entrance, &get("/", "")).await, "");
            assert_eq!(world.proxy.metric("mesh_refusals_total", &[reason]).len(), 1, "{}", world.proxy.metrics());
        }
    });
}

#[test]
fn silence_on_a_permissive_undeclared_port_lets_the_server_speak_first() {
    run(async {
        let greeter = crate::listen::testing::application(|mut stream| async move {
            stream.write_all(b"220 ready\r\n").await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let greeter = greeter.await;
        let world = world(Protocol::Unspecified, MtlsMode::Permissive, vec![]).await;
        let inbound = Inbound {
            identity: CART.parse().unwrap(),
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            mtls: MtlsMode::Permissive,
            ..testing::inbound()
        };
        let proxy = Proxy::new(CART, &[settings(), Resource::Inbound(Arc::new(inbound))], &[]);
        let mut stream = TcpStream::connect(proxy.capture_inbound(greeter).await).await.unwrap();
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 ready\r\n");
        drop(world);
    });
}

#[test]
fn who_proves_nothing_holds_no_place_on_a_strict_port() {
    run(async {
        let world = world(Protocol::Http, MtlsMode::Strict, vec![]).await;
        let mut silent = TcpStream::connect(world.entrance).await.unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), silent.read(&mut [0])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
        assert_eq!(
            world.proxy.metric("mesh_refusals_total", &["client_timeout"]).len(),
            1,
            "{}",
            world.proxy.metrics()
        );
    });
}

#[test]
fn an_application_cannot_switch_protocols_unasked() {
    run(async {
        let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        let application = Application::start(switching).await;
        let port =
            InboundPort { protocol: Protocol::Http, mtls: MtlsMode::Permissive, mtls_origin: None, service: None };
        let inbound = Inbound {
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            ports: BTreeMap::from([(application.address.port(), port)]),
            ..testing::inbound()
        };
        let proxy = Proxy::new(CART, &[settings(), Resource::Inbound(Arc::new(inbound))], &[]);
        let entrance = proxy.capture_inbound(application.address).await;
        let answer = talk(entrance, &get("/", "")).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("mesh-reason: bad_response\r\n"), "{answer}");
        let asked = "GET / HTTP/1.1\r\nhost: cart\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        let mut stream = TcpStream::connect(entrance).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
    });
}

#[test]
fn encodings_below_chunked_and_the_star_do_not_reach_the_application() {
    run(async {
        let world = world(Protocol::Http, MtlsMode::Permissive, vec![]).await;
        let encoded =
            "POST / HTTP/1.1\r\nhost: cart\r\nconnection: close\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
        for refused in [encoded.to_owned(), get("*", "")] {
            let answer = talk(world.entrance, &refused).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{refused}: {answer}");
        }
        assert!(world.application.seen.borrow().is_empty());
    });
}
