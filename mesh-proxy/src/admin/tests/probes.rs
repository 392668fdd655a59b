//! The application's probes, asked through port 15020.

use serde_json::{Value, json};

use super::*;

/// Asks one probe, and gives the status and text.
async fn probe(prober: Value) -> (u16, String) {
    probe_on("127.0.0.1", "/app-health/web/livez", prober).await
}

async fn probe_on(own: &str, path: &str, prober: Value) -> (u16, String) {
    let ports = Ports::empty(|bootstrap| {
        bootstrap.app_probers = Some(json!({ path: prober }).to_string());
        bootstrap.instance_ips = vec![own.parse().unwrap()];
        bootstrap.grace_period = std::time::Duration::from_secs(1);
    })
    .await;
    get(ports.status, path).await
}

#[tokio::test]
async fn http_probes_pass_the_status_on_and_nothing_else() {
    let port = app::http_on("127.0.0.1").await.port();
    let get = |path: &str| json!({ "httpGet": { "port": port, "path": path }, "timeoutSeconds": 1 });
    for (path, status) in [("/ok", 200), ("ok", 200), ("/bad", 503), ("/moved", 302), ("/large", 200), ("/none", 404)] {
        let (answered, text) = probe(get(path)).await;
        assert_eq!(answered, status, "{path}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
    let headers = json!([{ "name": "X-Probe", "value": "yes" }]);
    let with = json!({ "httpGet": { "port": port, "path": "/headers", "httpHeaders": headers }, "timeoutSeconds": 1 });
    assert_eq!(probe(with).await.0, 200);
    let (status, text) = probe(get("/slow")).await;
    assert_eq!((status, text.contains("within 1 s")), (504, true), "{text}");
    let hook = json!({ "httpGet": { "port": port, "path": "/ok" } });
    assert_eq!(probe_on("127.0.0.1", "/app-lifecycle/web/prestopz", hook).await.0, 200);
}

#[tokio::test]
async fn the_application_is_asked_on_the_pods_address_from_where_the_rules_let_pass() {
    let port = app::http_on("127.0.0.2").await.port();
    let prober = |host: &str| json!({ "httpGet": { "port": port, "path": "/from", "host": host } });
    let (status, text) = probe_on("127.0.0.2", "/app-health/web/livez", prober("")).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(probe_on("127.0.0.2", "/app-health/web/livez", prober("localhost")).await.0, 502, "nobody is there");
    let (status, text) = probe_on("127.0.0.2", "/app-health/web/livez", prober("10.1.2.3")).await;
    assert_eq!((status, text.contains("not this pod")), (502, true), "{text}");
}

#[tokio::test]
async fn https_probes_believe_whoever_answers() {
    let port = app::https().await.port();
    let get = |path: &str| json!({ "httpGet": { "port": port, "path": path, "scheme": "HTTPS" } });
    let (status, text) = probe(get("/ok")).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(probe(get("/bad")).await.0, 503);
    let clear = app::http_on("127.0.0.1").await.port();
    let (status, text) = probe(json!({ "httpGet": { "port": clear, "scheme": "HTTPS" } })).await;
    assert_eq!((status, text.contains("no TLS")), (502, true), "{text}");
}

#[tokio::test]
async fn tcp_probes_want_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(probe(json!({ "tcpSocket": { "port": port } })).await.0, 200);
    drop(listener);
    let (status, text) = probe(json!({ "tcpSocket": { "port": port } })).await;
    assert_eq!((status, text.contains("refused")), (502, true), "{text}");
}

#[tokio::test]
async fn grpc_probes_want_serving() {
    let port = app::grpc().await.port();
    let check = |service: &str| json!({ "grpc": { "port": port, "service": service } });
    for (service, status, says) in [("good", 200, "SERVING"), ("bad", 503, "NOT_SERVING"), ("", 503, "gRPC status 5")] {
        let (answered, text) = probe(check(service)).await;
        assert_eq!(answered, status, "{service}: {text}");
        assert!(text.contains(says), "{text}");
    }
    let not_grpc = app::http_on("127.0.0.1").await.port();
    assert_eq!(probe(json!({ "grpc": { "port": not_grpc } })).await.0, 502);
}

#[tokio::test]
async fn the_proxy_is_not_probed_through_itself_and_nonsense_is_told() {
    let (status, text) = probe(json!({ "httpGet": { "port": 15020, "path": "/app-health/web/livez" } })).await;
    assert_eq!((status, text.contains("proxy's own")), (502, true), "{text}");
    let (status, text) = probe(json!({ "exec": {} })).await;
    assert_eq!((status, text.contains("MESH_APP_PROBERS")), (500, true), "{text}");
}
