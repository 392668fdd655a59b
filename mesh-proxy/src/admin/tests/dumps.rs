//! Dumps of a proxy that got its configuration and certificate as proxies do.

use serde_json::{Value, json};

use super::*;
use crate::control_plane::ControlPlane;

/// A proxy that holds the fixtures, its certificate, and its task, which ends when dropped.
async fn proxy() -> (Ports, Arc<Credentials>, JoinSet<()>) {
    let (mut control, dir) = (fake().await, tempfile::tempdir().unwrap());
    let bootstrap = control.bootstrap(dir.path());
    let credentials = Credentials::new(TrustBundle::new(control.authority.bundle().certificates().to_vec()).unwrap());
    credentials.install(Arc::new(certify(&control.authority, bootstrap.identity.as_str())));
    let ready = Ready::new();
    let (writer, views, discovery) = Writer::new(&bootstrap, ready.clone(), Drain::new().0);
    let tls = mesh_tls::ClientTls::new(Arc::clone(&credentials));
    let plane = ControlPlane::new(bootstrap.control.clone(), tls, bootstrap.control_identity.clone());
    let mut running = JoinSet::new();
    running.spawn(writer.run(plane, std::future::ready(())));
    let mut stream = control.stream().await;
    stream.send(&[fixtures::settings()], &[]).await;
    stream.send(&[fixtures::inbound()], &[]).await;
    let answering = async {
        stream.subscription("address/10.96.0.1").await;
        stream.send(&[fixtures::address()], &[]).await;
        stream.subscription("routes/shop/cart.shop.svc.cluster.local").await;
        stream.send(&[fixtures::service()], &[]).await;
        stream.send(&[fixtures::routes()], &[]).await;
        stream.send(&fixtures::endpoints(), &[]).await;
    };
    let (view, ()) = tokio::join!(discovery.resolve_address("10.96.0.1".parse().unwrap()), answering);
    view.unwrap();
    let ports = Ports::of(bootstrap, views, ready, Arc::clone(&credentials)).await;
    (ports, credentials, running)
}

async fn dump(ports: &Ports, part: &str) -> Value {
    let (status, body) = get(ports.admin, &format!("/config/{part}")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn every_part_tells_what_the_proxy_holds_and_who_wrote_it() {
    let (ports, _, _running) = proxy().await;
    let cart = "shop/cart.shop.svc.cluster.local";
    let origin = |kind: &str, name: &str| json!({ "kind": kind, "namespace": "shop", "name": name, "generation": 3 });

    let services = dump(&ports, "services").await;
    let service = &services["services"][0];
    assert_eq!((&service["name"], &service["exists"]), (&json!(cart), &json!(true)));
    assert_eq!(service["origin"], origin("Service", "cart"));
    assert_eq!(service["rules"], json!([origin("DestinationRule", "cart")]));
    assert_eq!((&service["ports"][0]["port"], &service["ports"][0]["protocol"]), (&json!(80), &json!("http")));
    assert_eq!(service["ports"][0]["policy"]["balancer"], json!({ "type": "least_request" }));
    assert_eq!(service["ports"][0]["policy"]["tls"], json!({ "type": "auto" }));
    assert_eq!(service["subsets"][0]["ports"][0]["port"], 80);
    let key = json!({
        "address": "10.96.0.1", "answer": "services", "services": [cart], "workload": null, "hidden_by": null
    });
    assert_eq!(services["keys"]["addresses"], json!([key]));

    let routes = dump(&ports, "routes").await;
    let table = &routes["routes"][0];
    assert_eq!((&table["hosts"], &table["origin"]), (&json!(["cart", "*.cart"]), &origin("VirtualService", "cart")));
    let rule = &table["http"][0];
    assert_eq!((&rule["name"], &rule["timeout_ms"]), (&json!("api"), &json!(5000)));
    assert_eq!(rule["matches"][0]["path"], json!({ "prefix": "/api" }));
    assert_eq!(rule["action"]["type"], "route");
    let destinations = rule["action"]["destinations"].as_array().unwrap();
    let shares: Vec<_> = destinations.iter().map(|to| (to["subset"].clone(), to["weight"].clone())).collect();
    assert_eq!(shares, [(json!("v1"), json!(90)), (json!(null), json!(10))]);

    let endpoints = dump(&ports, "endpoints").await;
    let endpoint = &endpoints["endpoints"][0];
    assert_eq!((&endpoint["service"], &endpoint["addresses"]), (&json!(cart), &json!(["10.244.0.9"])));
    assert_eq!((&endpoint["health"], &endpoint["mesh_tls"]), (&json!("draining"), &json!(true)));
    assert_eq!(endpoint["identity"], "spiffe://cluster.local/ns/shop/sa/cart");
    let state = |subset: Value| json!({ "subset": subset, "port": 80, "active_requests": 0, "ejected_ms": null });
    assert_eq!(endpoint["destinations"], json!([state(json!(null)), state(json!("v1"))]));

    let inbound = &dump(&ports, "inbound").await["inbound"];
    assert_eq!((&inbound["mtls"], &inbound["stage"]), (&json!("permissive"), &json!("running")));
    assert_eq!((&inbound["ports"][0]["mtls"], &inbound["access_log"]), (&json!("strict"), &json!("off")));
    assert_eq!(inbound["ports"][0]["mtls_origin"], origin("PeerAuthentication", "strict"));
    let viewers = origin("AuthorizationPolicy", "viewers");
    assert_eq!(inbound["policies"], json!([{ "origin": viewers, "action": "allow", "dry_run": false, "rules": 2 }]));

    let settings = &dump(&ports, "settings").await["settings"];
    assert_eq!(settings["mesh"]["outbound_policy"], "registry_only");
    assert_eq!(settings["mesh"]["access_log"], json!({ "file": "/dev/stdout", "format": "json" }));
    assert_eq!((&settings["proxy"]["pod"], &settings["proxy"]["workers"]), (&json!("web-1"), &json!(2)));

    let all = dump(&ports, "all").await;
    for (part, field) in [("services", &services["services"]), ("routes", &routes["routes"])] {
        assert_eq!(&all[part], field);
    }
    assert!(all["generation"].as_u64().unwrap() > 0);
    for part in ["keys", "endpoints", "inbound", "secrets", "settings"] {
        assert!(!all[part].is_null(), "{part}");
    }
}

#[tokio::test]
async fn certificates_are_told_and_keys_are_nowhere() {
    let (ports, credentials, _running) = proxy().await;
    let secrets = &dump(&ports, "secrets").await["secrets"];
    let own = &secrets["certificate"];
    assert_eq!((&own["identity"], &own["valid"]), (&json!("spiffe://cluster.local/ns/shop/sa/web"), &json!(true)));
    let held = credentials.certificate().unwrap();
    assert_eq!(own["chain"][0]["serial"], held.facts().serial);
    assert!(own["chain"][0]["seconds_left"].as_i64().unwrap() > 0);
    assert!(own["chain"][0]["not_after"].as_str().unwrap().ends_with('Z'));
    assert!(!secrets["roots"][0]["subject"].as_str().unwrap().is_empty());

    let pem = held.key().to_pem();
    let secret: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let paths = ["services", "routes", "endpoints", "inbound", "secrets", "settings", "all"];
    for path in
        paths.map(|part| format!("/config/{part}")).iter().map(String::as_str).chain(["/", "/ready", "/version"])
    {
        let (_, body) = get(ports.admin, path).await;
        assert!(!body.contains("PRIVATE") && !body.contains("BEGIN"), "{path}");
        assert!(!secret.as_bytes().chunks(16).any(|part| body.contains(std::str::from_utf8(part).unwrap())), "{path}");
    }
    let (_, metrics) = get(ports.metrics, "/stats/prometheus").await;
    assert!(metrics.contains("mesh_certificate_expiry_seconds{certificate=\"workload\"} "), "{metrics}");
    assert!(metrics.contains("mesh_certificate_expiry_seconds{certificate=\"root\"} "), "{metrics}");
}
