//! Each port, each path, and what is refused.

use super::*;

#[tokio::test]
async fn every_path_is_answered_on_its_port_and_on_no_other() {
    let ports = Ports::empty(|_| {}).await;
    let parts = ["services", "routes", "endpoints", "inbound", "secrets", "settings", "all"];
    for path in parts.map(|part| format!("/config/{part}")).iter().map(String::as_str).chain(["/", "/version"]) {
        let (status, body) = get(ports.admin, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(serde_json::from_str::<serde_json::Value>(&body).unwrap().is_object(), "{path}");
        for other in [ports.status, ports.health, ports.metrics] {
            assert_eq!(get(other, path).await.0, 404, "{path}");
        }
    }
    for at in [ports.admin, ports.status, ports.metrics] {
        let (status, body) = get(at, "/stats/prometheus").await;
        assert_eq!(status, 200);
        for name in ["mesh_build_info{", "mesh_process_resident_memory_bytes ", "mesh_connections_open{"] {
            assert!(body.contains(name), "{body}");
        }
        assert!(!body.lines().any(str::is_empty), "OpenMetrics has no empty lines");
    }
    assert_eq!(get(ports.health, "/stats/prometheus").await.0, 404);
    assert_eq!(get(ports.admin, "/config/keys").await.0, 404);
    assert_eq!(get(ports.status, "/app-health/web/livez").await.0, 404);
}

#[tokio::test]
async fn readiness_is_told_with_its_reasons() {
    let ports = Ports::empty(|_| {}).await;
    ports.ready.certificate(false, Some("no such name".to_owned()));
    for at in [ports.status, ports.health] {
        let (status, body) = get(at, "/healthz/ready").await;
        assert_eq!(status, 503);
        assert!(body.contains("MISSING certificate: no such name"), "{body}");
    }
    let (status, body) = get(ports.admin, "/ready").await;
    assert_eq!((status, body.contains("\"ready\": false")), (503, true), "{body}");
    ports.ready.listening();
    ports.ready.certificate(true, None);
    ports.ready.configuration(true, true, 0);
    for (at, path) in [(ports.status, "/healthz/ready"), (ports.health, "/healthz/ready"), (ports.admin, "/ready")] {
        assert_eq!(get(at, path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn these_ports_only_tell_and_the_admin_port_only_to_loopback_names() {
    let ports = Ports::empty(|_| {}).await;
    for at in [ports.admin, ports.status, ports.health, ports.metrics] {
        for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
            let head = format!("{method} /healthz/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let answer = raw(at, &head).await;
            assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET"), "{answer}");
        }
    }
    let with_host = |host: &str| format!("GET /config/all HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for host in ["evil.example", "10.0.0.1:15000"] {
        let answer = raw(ports.admin, &with_host(host)).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("generation"), "{answer}");
    }
    assert!(raw(ports.admin, "GET /config/all HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 403 "));
    assert!(raw(ports.admin, &with_host("localhost:15000")).await.starts_with("HTTP/1.1 200 "));
    // The kubelet and Prometheus name the pod's address.
    assert!(raw(ports.status, &with_host("10.0.0.1:15020")).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let ports = Ports::empty(|_| {}).await;
    let headers: String = (0..100).map(|number| format!("x-{number}: 1\r\n")).collect();
    let head = format!("GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    assert!(raw(ports.admin, &head).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn all_addresses_are_both_families_and_loopback_is_loopback_only() {
    let all = listen::open(listen::On::All, 0).unwrap();
    assert_eq!(all.len(), 1);
    let port = all[0].local_addr().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    let loopback = listen::open(listen::On::Loopback, 0).unwrap();
    assert!(loopback.iter().all(|listener| listener.local_addr().unwrap().ip().is_loopback()));
}
