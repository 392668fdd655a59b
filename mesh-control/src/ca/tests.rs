//! Certificates, asked for over the wire: who gets one, with which name, for how long.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_tls::key::WorkloadKey;
use mesh_tls::leaf::Leaf;
use mesh_tls::pem;
use tonic::Code;

use super::Ca;
use crate::testing::{World, identity, namespace, pod};

fn leaf(chain: &[String]) -> Leaf {
    Leaf::parse(&pem::certificates(chain[0].as_bytes()).unwrap()[0]).unwrap()
}

async fn world() -> World {
    World::new(&[("ns.yaml", &namespace("shop")), ("web.yaml", &pod("shop", "web-1", "uid-web", "web", "10.244.0.10"))])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_comes_from_the_caller_whatever_the_request_says() {
    let world = world().await;
    let client = world.client(&world.token("shop", "web")).await;
    let key = WorkloadKey::generate().unwrap();
    // The request asks for somebody else's name.
    let request = key.signing_request(&identity("mesh-system", "mesh-control")).unwrap();
    let chain = client.sign(&request, 0).await.unwrap();
    let leaf = leaf(&chain);
    assert_eq!(leaf.identity, identity("shop", "web"));
    let day = Duration::from_secs(24 * 3600);
    let left = leaf.not_after.duration_since(SystemTime::now()).unwrap();
    assert!(left <= day && left > day - Duration::from_secs(60), "{left:?}");
    let root = std::fs::read_to_string(world.state.path().join("root-cert.pem")).unwrap();
    assert_eq!(chain.last(), Some(&root), "the chain ends with the root");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validity_is_as_asked_within_limits() {
    let world = world().await;
    let client = world.client(&world.token("shop", "web")).await;
    let key = WorkloadKey::generate().unwrap();
    let request = key.signing_request(&identity("shop", "web")).unwrap();
    for (asked, given) in [(3600, 3600), (1, 60), (i64::MAX, 86_400), (-5, 86_400)] {
        let leaf = leaf(&client.sign(&request, asked).await.unwrap());
        let left = leaf.not_after.duration_since(SystemTime::now()).unwrap().as_secs();
        assert!(left <= given && left + 30 > given, "asked {asked}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_renews_itself_and_opens_the_stream() {
    let world = world().await;
    let key = Arc::new(WorkloadKey::generate().unwrap());
    let request = key.signing_request(&identity("shop", "web")).unwrap();
    let chain = world.client(&world.token("shop", "web")).await.sign(&request, 3600).await.unwrap();

    let client = world.certified(chain, key).await;
    let renewed = client.sign(&request, 7200).await.unwrap();
    assert_eq!(leaf(&renewed).identity, identity("shop", "web"));
    let mut stream = client.stream("uid-web").await;
    stream.subscribe(mesh_core::config::ResourceKind::MeshSettings, &["settings"]).await;
    stream.next().await;
    let expiry = world.api("/v1/proxies").await[0]["certificate_expiry"].as_str().unwrap().to_owned();
    let expiry: jiff::Timestamp = expiry.parse().unwrap();
    let hours = expiry.duration_since(jiff::Timestamp::now()).as_secs_f64() / 3600.0;
    assert!((1.9..2.1).contains(&hours), "the newest certificate counts: {hours} h");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_a_code_and_a_reason() {
    let world = world().await;
    let key = WorkloadKey::generate().unwrap();
    let request = key.signing_request(&identity("shop", "web")).unwrap();
    let stranger = world.client("not-a-token").await.sign(&request, 0).await.unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated, "{stranger:?}");
    let client = world.client(&world.token("shop", "web")).await;
    let nonsense = client.sign("no request", 0).await.unwrap_err();
    assert_eq!(nonsense.code(), Code::InvalidArgument, "{nonsense:?}");
    assert_eq!(nonsense.message(), "the certificate signing request cannot be parsed");
    let huge = client.sign(&"x".repeat(200_000), 0).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "{huge:?}");
    let (_, metrics) = world.monitoring("/metrics").await;
    assert!(metrics.contains("mesh_ca_refused_total 2"), "{metrics}");
}

#[test]
fn the_root_is_made_once_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let state = tempfile::tempdir().unwrap();
    let first = Ca::open(state.path(), None, "cluster.local").unwrap();
    let again = Ca::open(state.path(), None, "cluster.local").unwrap();
    assert_eq!(first.authority().bundle().to_pem(), again.authority().bundle().to_pem());
    let mode = |path: &str| std::fs::metadata(state.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca"), mode("ca/ca-key.pem")), (0o700, 0o600));
    // The same files serve as Istio's set.
    let plugged = Ca::open(tempfile::tempdir().unwrap().path(), Some(&state.path().join("ca")), "x").unwrap();
    assert_eq!(first.authority().bundle().to_pem(), plugged.authority().bundle().to_pem());
}
