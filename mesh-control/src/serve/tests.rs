//! The protocol on the wire, rule by rule: a real server on loopback, and proxies that say every message themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mesh_api::{Rejected, Resource};
use mesh_core::config::{AddressAnswer, Health, HostAnswer, ResourceKind};
use tonic::Code;

use crate::testing::{World, eventually, namespace, pod, said, service, slice, values, versions};

/// Long enough for anything that would come to come.
const QUIET: Duration = Duration::from_millis(700);
/// What "at once" may take on a busy machine (it takes about 10 ms). That the fast lane does not wait for the debounce
/// is shown without a clock in `publish`.
const AT_ONCE: Duration = Duration::from_secs(2);
const REVIEWS: &str = "shop/reviews.shop.svc.cluster.local";

/// A shop with a client and a service of two pods.
async fn shop() -> World {
    World::new(&[
        ("ns.yaml", &format!("{}{}", namespace("shop"), namespace("other"))),
        ("client.yaml", &pod("shop", "client-1", "uid-client", "client", "10.244.0.10")),
        ("r1.yaml", &pod("shop", "reviews-1", "uid-r1", "reviews", "10.244.0.11")),
        ("r2.yaml", &pod("shop", "reviews-2", "uid-r2", "reviews", "10.244.0.12")),
        ("reviews.yaml", &service("shop", "reviews", "10.96.0.20")),
        ("slice.yaml", &both()),
    ])
    .await
}

fn both() -> String {
    slice(
        "shop",
        "reviews",
        &[("reviews-1", "uid-r1", "10.244.0.11", true), ("reviews-2", "uid-r2", "10.244.0.12", true)],
    )
}

fn one() -> String {
    slice("shop", "reviews", &[("reviews-1", "uid-r1", "10.244.0.11", true)])
}

fn members(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("endpoints/{REVIEWS}/{name}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_gets_what_it_subscribes_to_by_name() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    proxy.subscribe(ResourceKind::MeshSettings, &["settings"]).await;
    assert_eq!(said(&proxy.next().await), ["settings"]);
    proxy.subscribe(ResourceKind::Inbound, &["inbound/uid-client"]).await;
    let inbound = proxy.next().await;
    assert_eq!(said(&inbound), ["inbound/uid-client"]);
    let Resource::Inbound(inbound) = &values(&inbound)[0] else { panic!() };
    assert_eq!(inbound.identity.as_str(), "spiffe://cluster.local/ns/shop/sa/client");
    proxy.subscribe(ResourceKind::Address, &["address/10.96.0.20"]).await;
    let Resource::Address(address) = &values(&proxy.next().await)[0] else { panic!() };
    assert!(matches!(&address.answer, AddressAnswer::Services(services) if services[0].to_string() == REVIEWS));
    proxy.subscribe(ResourceKind::Service, &[&format!("service/{REVIEWS}")]).await;
    assert_eq!(said(&proxy.next().await), [format!("service/{REVIEWS}")]);
    proxy.subscribe(ResourceKind::RouteTable, &[&format!("routes/{REVIEWS}")]).await;
    assert_eq!(said(&proxy.next().await), [format!("routes/{REVIEWS}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_ends_with_itself() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    proxy.subscribe(ResourceKind::Endpoint, &[&format!("endpoints/{REVIEWS}/*")]).await;
    let all = proxy.next().await;
    assert_eq!(said(&all), members(&["uid-r1", "uid-r2", "*"]));
    let Some(Resource::EndpointsComplete(_, count)) = values(&all).pop() else { panic!() };
    assert_eq!(count, 2);

    world.write("slice.yaml", &one());
    assert_eq!(said(&proxy.next().await), [format!("endpoints/{REVIEWS}/*"), format!("-endpoints/{REVIEWS}/uid-r2")]);
    world.write("slice.yaml", &both());
    assert_eq!(said(&proxy.next().await), members(&["uid-r2", "*"]), "only what changed is sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absence_is_a_resource_and_what_means_nothing_is_removed() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    proxy.subscribe(ResourceKind::Host, &["host/nowhere.example:80"]).await;
    let Resource::Host(host) = &values(&proxy.next().await)[0] else { panic!() };
    assert_eq!(host.answer, HostAnswer::Absent);
    proxy.subscribe(ResourceKind::Address, &["address/192.168.77.1", "address/not-an-ip", "host/a:80"]).await;
    let answer = proxy.next().await;
    assert_eq!(said(&answer), ["address/192.168.77.1", "-address/not-an-ip", "-host/a:80"]);
    let Resource::Address(address) = &values(&answer)[0] else { panic!() };
    assert_eq!(address.answer, AddressAnswer::Absent);
    proxy.subscribe(ResourceKind::Service, &["service/shop/no.shop.svc.cluster.local"]).await;
    assert_eq!(said(&proxy.next().await), ["-service/shop/no.shop.svc.cluster.local"]);
    // An absence is updated like a resource.
    world.write("se.yaml", SERVICE_ENTRY);
    let Resource::Host(host) = &values(&proxy.next().await)[0] else { panic!() };
    assert!(matches!(host.answer, HostAnswer::Service(_)), "{host:?}");
}

const SERVICE_ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: nowhere, namespace: shop}
spec:
  hosts: [nowhere.example]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_among_pods_waits_for_its_pod_before_it_is_absent() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    let (absent, later) = ("10.244.7.1", "10.244.7.2");
    let begun = Instant::now();
    proxy.subscribe(ResourceKind::Address, &[&format!("address/{absent}")]).await;
    let Resource::Address(address) = &values(&proxy.next().await)[0] else { panic!() };
    assert_eq!(address.answer, AddressAnswer::Absent);
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());

    proxy.subscribe(ResourceKind::Address, &[&format!("address/{later}")]).await;
    world.write("late.yaml", &pod("shop", "late", "uid-late", "late", later));
    loop {
        let answer = proxy.next().await;
        let found = values(&answer).into_iter().find_map(|value| match value {
            Resource::Address(address) if address.address.to_string() == later => Some(address),
            _ => None,
        });
        if let Some(address) = found {
            assert!(matches!(address.answer, AddressAnswer::Workload { .. }), "{address:?}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_a_proxy_in_sync_is_sent_nothing() {
    let mut world = shop().await;
    let mut held: BTreeMap<ResourceKind, BTreeMap<String, String>> = BTreeMap::new();
    let collection = format!("endpoints/{REVIEWS}/*");
    let service = format!("service/{REVIEWS}");
    let subscriptions = [
        (ResourceKind::MeshSettings, "settings"),
        (ResourceKind::Inbound, "inbound/uid-client"),
        (ResourceKind::Address, "address/10.96.0.20"),
        (ResourceKind::Service, service.as_str()),
        (ResourceKind::Endpoint, collection.as_str()),
    ];
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    for (kind, name) in subscriptions {
        proxy.subscribe(kind, &[name]).await;
        held.insert(kind, versions(&proxy.next().await));
    }
    world.stop().await;
    // Meanwhile one of the endpoints ends; and the proxy holds something that never was.
    world.write("slice.yaml", &one());
    world.start().await;

    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    for (kind, name) in subscriptions {
        let mut known = held[&kind].clone();
        if kind == ResourceKind::Service {
            known.insert("service/shop/gone.shop.svc.cluster.local".to_owned(), "0123456789abcdef".to_owned());
        }
        proxy.subscribe_holding(kind, &[name], &known).await;
        let answer = proxy.next().await;
        let expected: Vec<String> = match kind {
            ResourceKind::Endpoint => vec![collection.clone(), format!("-endpoints/{REVIEWS}/uid-r2")],
            ResourceKind::Service => vec!["-service/shop/gone.shop.svc.cluster.local".to_owned()],
            _ => Vec::new(), // an empty response: in sync
        };
        assert_eq!(said(&answer), expected, "{kind:?}");
    }
    assert!(proxy.is_silent(QUIET).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_ends_is_told_at_once_even_in_a_storm() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    proxy.subscribe(ResourceKind::Endpoint, &[&format!("endpoints/{REVIEWS}/*")]).await;
    proxy.next().await;
    // Other objects change without pause, so that ordinary changes wait up to 400 ms.
    for round in 0..40 {
        world.write("storm.yaml", &service("other", &format!("s{round}"), "10.96.9.9"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    world.write("slice.yaml", &one());
    let answer = proxy.next().await;
    let took = begun.elapsed();
    assert_eq!(said(&answer), [format!("endpoints/{REVIEWS}/*"), format!("-endpoints/{REVIEWS}/uid-r2")]);
    assert!(took < AT_ONCE, "{took:?}");
    println!("endpoint removal under storm: {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_not_ready_is_told_at_once() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    proxy.subscribe(ResourceKind::Endpoint, &[&format!("endpoints/{REVIEWS}/*")]).await;
    proxy.next().await;
    let unready = slice(
        "shop",
        "reviews",
        &[("reviews-1", "uid-r1", "10.244.0.11", true), ("reviews-2", "uid-r2", "10.244.0.12", false)],
    );
    world.write("slice.yaml", &unready);
    let answer = proxy.next().await;
    match values(&answer).as_slice() {
        [Resource::Endpoint(_, endpoint)] => assert_eq!(endpoint.health, Health::Unhealthy),
        other => panic!("{other:?} {:?}", said(&answer)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_ends_is_told_at_once() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    proxy.subscribe(ResourceKind::Inbound, &["inbound/uid-client"]).await;
    proxy.next().await;
    for round in 0..40 {
        world.write("storm.yaml", &service("other", &format!("s{round}"), "10.96.9.9"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ending = pod("shop", "client-1", "uid-client", "client", "10.244.0.10")
        .replace("  uid: uid-client\n", "  uid: uid-client\n  deletionTimestamp: 2026-01-01T00:00:00Z\n");
    let begun = Instant::now();
    world.write("client.yaml", &ending);
    let Resource::Inbound(inbound) = &values(&proxy.next().await)[0] else { panic!() };
    assert!(inbound.draining);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_a_hundred_proxies_from_bytes_made_once() {
    const PROXIES: usize = 100;
    let pods: String = (0..PROXIES)
        .map(|n| pod("shop", &format!("one-of-many-{n}"), &format!("uid-{n}"), "client", &format!("10.244.1.{n}")))
        .collect();
    let world = shop().await;
    world.write("clients.yaml", &pods);
    let name = format!("endpoints/{REVIEWS}/*");
    let client = world.client(&world.token("shop", "client")).await;
    let (_, before) = world.monitoring("/metrics").await;
    let mut tasks = tokio::task::JoinSet::new();
    let (go, _) = tokio::sync::broadcast::channel::<Instant>(1);
    let mut clients = vec![client];
    for n in 0..PROXIES {
        // A connection has a bounded number of streams.
        if n % 10 == 9 {
            clients.push(world.client(&world.token("shop", "client")).await);
        }
        let mut proxy = clients.last().unwrap().stream(&format!("uid-{n}")).await;
        proxy.subscribe(ResourceKind::Endpoint, &[&name]).await;
        proxy.next().await;
        let mut go = go.subscribe();
        tasks.spawn(async move {
            let begun = go.recv().await.unwrap();
            let answer = proxy.next().await;
            (begun.elapsed(), said(&answer), proxy)
        });
    }
    go.send(Instant::now()).unwrap();
    world.write("slice.yaml", &one());
    let (mut slowest, mut connected) = (Duration::ZERO, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (took, said, proxy) = done.unwrap();
        connected.push(proxy);
        assert_eq!(said, [format!("endpoints/{REVIEWS}/*"), format!("-endpoints/{REVIEWS}/uid-r2")]);
        slowest = slowest.max(took);
    }
    println!("the last of {PROXIES} proxies knew after {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let compiled = |page: &str| -> u64 {
        let line = page.lines().find(|line| line.starts_with("mesh_compiled_resources_total ")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let (_, after) = world.monitoring("/metrics").await;
    assert!(compiled(&after) - compiled(&before) < 10, "not once per proxy");
    eventually("every acknowledgement is measured", async || {
        let (_, page) = world.monitoring("/metrics").await;
        let line = page.lines().find(|line| line.starts_with("mesh_config_convergence_seconds_count ")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap() >= PROXIES
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_is_reported_by_name_and_not_sent_again() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    let name = format!("service/{REVIEWS}");
    proxy.subscribe(ResourceKind::Service, &[&name]).await;
    let response = proxy.receive().await.unwrap();
    let rejected = Rejected { name: name.clone(), reason: "too odd".to_owned() };
    proxy.acknowledge(&response, &[rejected]).await;
    eventually("the rejection is shown", async || {
        let proxies = world.api("/v1/proxies").await;
        proxies[0]["types"]["Service"] == "rejected"
            && proxies[0]["rejected"][0]["name"] == name.as_str()
            && proxies[0]["rejected"][0]["reason"] == "too odd"
    })
    .await;
    assert!(proxy.is_silent(QUIET).await, "the same version is not sent again");
    let (_, metrics) = world.monitoring("/metrics").await;
    assert!(metrics.contains("mesh_xds_rejects_total{type=\"Service\"} 1"), "{metrics}");
    // A newer version is, and its acknowledgement ends the rejection.
    world.write("reviews.yaml", &service("shop", "reviews", "10.96.0.21"));
    assert_eq!(said(&proxy.next().await), [name]);
    eventually("it is in sync", async || world.api("/v1/proxies").await[0]["types"]["Service"] == "synced").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_proxy_is_sent_the_newest_and_not_everything_in_between() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    let name = format!("service/{REVIEWS}");
    proxy.subscribe(ResourceKind::Service, &[&name]).await;
    proxy.next().await;
    for round in 0..60 {
        world.write("reviews.yaml", &service("shop", "reviews", &format!("10.96.1.{round}")));
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let mut responses = 0;
    loop {
        let answer = proxy.next().await;
        responses += 1;
        let Resource::Service(service) = &values(&answer)[0] else { panic!() };
        if service.addresses == ["10.96.1.59".parse::<std::net::IpAddr>().unwrap()] {
            break;
        }
    }
    assert!(responses < 20, "{responses} responses for 60 changes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_served_only_to_its_own_service_account() {
    let world = shop().await;
    let refusal = async |uid: &str, token: &str| {
        let client = world.client(token).await;
        let mut stream = client.stream(uid).await;
        stream.subscribe(ResourceKind::MeshSettings, &["settings"]).await;
        stream.receive().await.unwrap_err()
    };
    // The right account of another pod, and another namespace's account of the same name.
    let other = refusal("uid-r1", &world.token("shop", "client")).await;
    assert_eq!(other.code(), Code::PermissionDenied, "{other:?}");
    assert_eq!(refusal("uid-client", &world.token("other", "client")).await.code(), Code::PermissionDenied);
    // A token that is bound to one pod, used for another of the same account.
    let mut claims = world.claims("shop", "reviews");
    claims["kubernetes.io"]["pod"] = serde_json::json!({"name": "reviews-1", "uid": "uid-r1"});
    assert_eq!(refusal("uid-r2", &world.token_with(&claims)).await.code(), Code::PermissionDenied);
    // No credential at all, or no node id.
    let anonymous = world.client("nonsense").await.try_stream("uid-client").await.err().unwrap();
    assert_eq!(anonymous.code(), Code::Unauthenticated, "{anonymous:?}");
    assert_eq!(refusal("", &world.token("shop", "client")).await.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_another_pods_inbound() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    proxy.subscribe(ResourceKind::Inbound, &["inbound/uid-r1", "inbound/uid-client"]).await;
    assert_eq!(said(&proxy.next().await), ["inbound/uid-client", "-inbound/uid-r1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_not_known_yet_is_waited_for() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-new", "shop", "new").await;
    proxy.subscribe(ResourceKind::Inbound, &["inbound/uid-new"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.write("new.yaml", &pod("shop", "new-1", "uid-new", "new", "10.244.0.30"));
    assert_eq!(said(&proxy.next().await), ["inbound/uid-new"]);

    let mut never = world.proxy("uid-never", "shop", "never").await;
    never.subscribe(ResourceKind::Inbound, &["inbound/uid-never"]).await;
    let begun = Instant::now();
    assert_eq!(never.receive().await.unwrap_err().code(), Code::Unavailable);
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unsubscribed_is_not_sent_any_more() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    let name = format!("endpoints/{REVIEWS}/*");
    proxy.subscribe(ResourceKind::Endpoint, &[&name]).await;
    proxy.next().await;
    proxy.unsubscribe(ResourceKind::Endpoint, &[&name]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.write("slice.yaml", &one());
    assert!(proxy.is_silent(QUIET).await);
    // Subscribed again, it is sent again, whole.
    proxy.subscribe(ResourceKind::Endpoint, &[&name]).await;
    assert_eq!(said(&proxy.next().await), members(&["uid-r1", "*"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_types_and_too_many_names_end_the_stream() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    proxy.send(mesh_api::proto::discovery::DeltaDiscoveryRequest { type_url, ..Default::default() }).await;
    assert_eq!(proxy.receive().await.unwrap_err().code(), Code::InvalidArgument);

    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    let names: Vec<String> =
        (0..=mesh_api::limits::SUBSCRIPTIONS_MAX).map(|n| format!("host/h{n}.example:80")).collect();
    proxy.subscribe(ResourceKind::Host, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(proxy.receive().await.unwrap_err().code(), Code::InvalidArgument);
    // What it subscribed to is let go.
    eventually("nothing is held", async || world.monitoring("/metrics").await.1.contains("mesh_connected_proxies 0"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_are_cut() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    let names: Vec<String> =
        (0..8000).map(|n| format!("host/h{n}.{}.example:80", "a-rather-long-label-".repeat(3))).collect();
    proxy.subscribe(ResourceKind::Host, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut seen = 0;
    let mut responses = 0;
    while seen < names.len() {
        let response = proxy.next().await;
        let bytes: usize = response.resources.iter().map(prost::Message::encoded_len).sum();
        assert!(bytes <= mesh_api::limits::RESPONSE_BYTES_CUT, "{bytes}");
        seen += response.resources.len();
        responses += 1;
    }
    assert!(responses > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_connects_again_and_again_loses_its_oldest_stream() {
    let world = shop().await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut proxy = world.proxy("uid-client", "shop", "client").await;
        proxy.subscribe(ResourceKind::MeshSettings, &["settings"]).await;
        proxy.next().await;
        streams.push(proxy);
    }
    assert_eq!(streams[0].receive().await.unwrap_err().code(), Code::Aborted);
    assert!(streams[1].is_silent(Duration::from_millis(100)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_no_mesh_tls_is_turned_away() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = shop().await;
    let address = world.app.as_ref().unwrap().listen;
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert or a reset, but never HTTP/2.
    let _ = socket.read_to_end(&mut answer).await;
    assert!(answer.first().is_none_or(|first| *first == 21), "{answer:?}");
    eventually("it is counted", async || {
        world.monitoring("/metrics").await.1.contains("mesh_handshakes_failed_total 1")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connected_proxies_are_shown() {
    let world = shop().await;
    let mut proxy = world.proxy("uid-client", "shop", "client").await;
    proxy.subscribe(ResourceKind::MeshSettings, &["settings"]).await;
    proxy.next().await;
    eventually("it is in sync", async || world.api("/v1/proxies").await[0]["types"]["MeshSettings"] == "synced").await;
    let shown = &world.api("/v1/proxies").await[0];
    let text = |field: &str| shown[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("uid"), "uid-client");
    assert_eq!(text("pod"), "client-1");
    assert_eq!(text("namespace"), "shop");
    assert_eq!(text("identity"), "spiffe://cluster.local/ns/shop/sa/client");
    assert_eq!(text("version"), "1.2.3");
    drop(proxy);
    eventually("it is gone", async || world.api("/v1/proxies").await == serde_json::json!([])).await;
}
