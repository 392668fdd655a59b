//! Configuration over the wire: a fake control plane on loopback, the real client.

use std::path::Path;
use std::time::SystemTime;

use mesh_api::proto::discovery::DeltaDiscoveryRequest;
use mesh_api::{Resource, rejections};
use mesh_tls::authority::Authority;
use mesh_tls::{ClientTls, Credentials, TrustBundle};

use super::*;
use crate::config::discovery::DiscoveryError;
use crate::config::testing::*;
use crate::drain::DrainWatch;
use crate::fake_control::{CONTROL, FakeControl, FakeStream, certify};

/// A running proxy's configuration.
struct Proxy {
    views: Views,
    discovery: Discovery,
    ready: Ready,
    drain: DrainWatch,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn fake() -> FakeControl {
    let authority = Authority::self_signed("test", SystemTime::now()).unwrap();
    FakeControl::start(Arc::new(authority), CONTROL, "127.0.0.1:0").await
}

fn proxy(control: &FakeControl, dir: &Path) -> Proxy {
    let bootstrap = control.bootstrap(dir);
    let credentials = Credentials::new(TrustBundle::new(control.authority.bundle().certificates().to_vec()).unwrap());
    credentials.install(Arc::new(certify(&control.authority, bootstrap.identity.as_str())));
    let ready = Ready::new();
    let (drain, watch) = Drain::new();
    let (writer, views, discovery) = Writer::new(&bootstrap, ready.clone(), drain);
    let plane = ControlPlane::new(bootstrap.control, ClientTls::new(credentials), bootstrap.control_identity);
    let task = tokio::spawn(writer.run(plane, std::future::ready(())));
    Proxy { views, discovery, ready, drain: watch, task }
}

/// Answers the first requests of a proxy that holds nothing.
async fn greet(stream: &mut FakeStream) {
    stream.send(&[settings()], &[]).await;
    let nonce = stream.send(&[own_inbound()], &[]).await;
    stream.answer(&nonce).await;
}

/// Answers all that the address `10.96.0.1` leads to.
async fn answer_cart(stream: &mut FakeStream) {
    stream.subscription("address/10.96.0.1").await;
    stream.send(&[address_of("10.96.0.1", "cart")], &[]).await;
    stream.subscription("routes/shop/cart").await;
    stream.send(&[service("cart", &["v1"])], &[]).await;
    stream.send(&[implicit("cart")], &[]).await;
    let nonce = stream.send(&[endpoint("cart", "a", "v1"), complete("cart", 1)], &[]).await;
    stream.answer(&nonce).await;
}

fn versions(request: &DeltaDiscoveryRequest) -> Vec<&str> {
    request.initial_resource_versions.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_new_address_is_asked_for_and_the_first_connection_gets_its_answer() {
    let (mut control, dir) = (fake().await, tempfile::tempdir().unwrap());
    let proxy = proxy(&control, dir.path());
    let mut stream = control.stream().await;
    let first = stream.request().await;
    assert_eq!(first.node.unwrap().id, "uid-1");
    assert_eq!(first.resource_names_subscribe, ["settings"]);
    assert_eq!(stream.request().await.resource_names_subscribe, ["inbound/uid-1"]);
    greet(&mut stream).await;
    let (view, (), second) = tokio::join!(
        proxy.discovery.resolve_address(ip("10.96.0.1")),
        answer_cart(&mut stream),
        proxy.discovery.resolve_address(ip("10.96.0.1")),
    );
    let view = view.unwrap();
    assert_eq!(view.cluster(&name("cart"), Some("v1"), 80).unwrap().balancer(false).members().len(), 1);
    assert!(second.is_ok(), "both waited for one subscription");
    assert!(proxy.discovery.resolve_address(ip("10.96.0.1")).await.is_ok(), "now it is known");
}

#[tokio::test]
async fn one_bad_resource_is_rejected_by_name_in_a_nack() {
    let (mut control, dir) = (fake().await, tempfile::tempdir().unwrap());
    let proxy = proxy(&control, dir.path());
    let mut stream = control.stream().await;
    greet(&mut stream).await;
    let (first, ()) = tokio::join!(proxy.discovery.resolve_address(ip("10.96.0.1")), answer_cart(&mut stream));
    first.unwrap();
    let mut spoiled = mesh_api::encode(&endpoint("cart", "b", "v1")).to_wire();
    spoiled.resource.as_mut().unwrap().value = vec![0xff; 8].into();
    let good = mesh_api::encode(&endpoint("cart", "c", "v1")).to_wire();
    let type_url = spoiled.resource.as_ref().unwrap().type_url.clone();
    let nonce = stream.send_raw(type_url, vec![spoiled, good], &[]).await;
    let answer = stream.answer(&nonce).await;
    let rejected = rejections(&answer.error_detail.unwrap());
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].name, "endpoints/shop/cart/b");
    let endpoints = proxy.views.load();
    let endpoints = endpoints.endpoints(&name("cart")).unwrap();
    assert!(endpoints.get("b").is_none() && endpoints.get("c").is_some() && endpoints.get("a").is_some());
}

#[tokio::test]
async fn a_control_plane_that_comes_back_is_told_what_is_held_and_nothing_is_lost_meanwhile() {
    let (mut control, dir) = (fake().await, tempfile::tempdir().unwrap());
    let proxy = proxy(&control, dir.path());
    let mut stream = control.stream().await;
    greet(&mut stream).await;
    let (first, ()) = tokio::join!(proxy.discovery.resolve_address(ip("10.96.0.1")), answer_cart(&mut stream));
    first.unwrap();
    proxy.ready.listening();
    proxy.ready.certificate(true, None);
    assert!(proxy.ready.is_ready());
    let authority = Arc::clone(&control.authority);
    let address = control.kill();
    // Known keys answer at once; unknown ones are refused after two seconds, never guessed.
    assert!(proxy.discovery.resolve_address(ip("10.96.0.1")).await.is_ok());
    let asked = std::time::Instant::now();
    let unknown = proxy.discovery.resolve_address(ip("10.96.0.2")).await;
    assert_eq!(unknown.err(), Some(DiscoveryError::TimedOut));
    assert!(asked.elapsed() >= std::time::Duration::from_secs(2));
    assert!(proxy.ready.is_ready());
    assert!(proxy.ready.explain().contains("control plane: down"), "{}", proxy.ready.explain());

    let mut control = FakeControl::start(authority, CONTROL, &address.to_string()).await;
    let mut stream = control.stream().await;
    let mut held = Vec::new();
    for _ in 0..7 {
        let request = stream.request().await;
        held.extend(versions(&request).into_iter().map(str::to_owned));
        if request.type_url.ends_with("RouteTable") {
            break;
        }
    }
    held.sort();
    assert_eq!(
        held,
        [
            "address/10.96.0.1",
            "endpoints/shop/cart/*",
            "endpoints/shop/cart/a",
            "inbound/uid-1",
            "routes/shop/cart",
            "service/shop/cart",
            "settings"
        ]
    );
    // The endpoint went while we were away; it goes at once.
    let nonce = stream.send(&[], &["endpoints/shop/cart/a"]).await;
    stream.answer(&nonce).await;
    assert_eq!(proxy.views.load().endpoints(&name("cart")).unwrap().len(), 0);
}

#[tokio::test]
async fn a_restarted_proxy_serves_with_its_last_configuration_without_the_control_plane() {
    let (mut control, dir) = (fake().await, tempfile::tempdir().unwrap());
    let first = proxy(&control, dir.path());
    let mut stream = control.stream().await;
    greet(&mut stream).await;
    let (resolved, ()) = tokio::join!(first.discovery.resolve_address(ip("10.96.0.1")), answer_cart(&mut stream));
    resolved.unwrap();
    let saved = dir.path().join("config.pb");
    let deadline = Instant::now() + std::time::Duration::from_secs(5);
    // The collection came last; a copy made before it would lack the key.
    loop {
        let copy = saved::read(dir.path(), "uid-1");
        if copy.is_some_and(|copy| copy.resources.iter().any(|(name, ..)| name == "endpoints/shop/cart/*")) {
            break;
        }
        assert!(Instant::now() < deadline, "{} is written within a second", saved.display());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(first);
    drop(stream);
    let bootstrap_of = control.bootstrap(dir.path());
    control.kill();
    let ready = Ready::new();
    let (writer, views, discovery) = Writer::new(&bootstrap_of, ready.clone(), Drain::new().0);
    let view = views.load();
    assert_eq!(view.cluster(&name("cart"), None, 80).unwrap().balancer(false).members().len(), 1);
    assert!(discovery.resolve_address(ip("10.96.0.1")).await.is_ok());
    ready.listening();
    ready.certificate(true, None);
    assert!(ready.is_ready(), "{}", ready.explain());
    drop(writer);
}

#[tokio::test]
async fn no_more_than_the_bound_wait_at_once() {
    let (control, dir) = (fake().await, tempfile::tempdir().unwrap());
    let proxy = proxy(&control, dir.path());
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..crate::config::discovery::WAITERS_MAX {
        let discovery = proxy.discovery.clone();
        let address = std::net::IpAddr::from((0x0a02_0000_u32 + n as u32).to_be_bytes());
        waiting.spawn(async move { discovery.resolve_address(address).await.err() });
    }
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.discovery.waiters_left(), 0);
    let one_more = proxy.discovery.resolve_address(ip("10.3.0.1")).await;
    assert_eq!(one_more.err(), Some(DiscoveryError::TooManyWaiters));
    while let Some(ended) = waiting.join_next().await {
        assert_eq!(ended.unwrap(), Some(DiscoveryError::TimedOut));
    }
}

#[tokio::test]
async fn draining_in_the_own_inbound_begins_the_drain() {
    let (mut control, dir) = (fake().await, tempfile::tempdir().unwrap());
    let mut proxy = proxy(&control, dir.path());
    let mut stream = control.stream().await;
    greet(&mut stream).await;
    let ending = mesh_core::config::Inbound { draining: true, ..inbound() };
    stream.send(&[Resource::Inbound(Arc::new(ending))], &[]).await;
    tokio::time::timeout(std::time::Duration::from_secs(5), proxy.drain.draining()).await.unwrap();
}
