//! Merged metrics: the application's and ours in one answer.

use super::*;

async fn scrape(port: u16, path: &str) -> String {
    let ports = Ports::empty(|bootstrap| {
        bootstrap.prometheus = Some(format!(r#"{{"scrape":"true","port":"{port}","path":"{path}"}}"#));
    })
    .await;
    let head = "GET /stats/prometheus HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 1\r\nConnection: close\r\n\r\n";
    let answer = raw(ports.status, head).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("mesh_build_info{"), "ours is always there: {answer}");
    assert!(!get(ports.metrics, "/stats/prometheus").await.1.contains("app_total"), "15090 is ours alone");
    answer
}

#[tokio::test]
async fn the_applications_metrics_come_after_ours_as_they_are() {
    let port = app::http_on("127.0.0.1").await.port();
    let text = scrape(port, "/metrics").await;
    assert!(text.ends_with("# TYPE app_total counter\napp_total 7\n"), "{text}");
    assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
    assert!(text.contains("mesh_application_scrape_failures_total 0\n"));
    let text = scrape(port, "/openmetrics").await;
    assert!(text.ends_with("app_total 8\n# EOF\n"), "{text}");
    assert!(text.contains("content-type: application/openmetrics-text; version=1.0.0"), "{text}");
}

#[tokio::test]
async fn an_application_that_cannot_be_scraped_costs_only_its_own_metrics() {
    let port = app::http_on("127.0.0.1").await.port();
    for path in ["/large", "/slow", "/none"] {
        let text = scrape(port, path).await;
        assert!(text.contains("mesh_application_scrape_failures_total 1\n"), "{path}: {text}");
        assert!(text.len() < 100_000, "{path}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert!(scrape(nobody, "/metrics").await.contains("mesh_application_scrape_failures_total 1\n"));
}
