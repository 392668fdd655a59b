//! What crosses the wire between meshed and unmeshed pods: protocols, first use, long streams and large transfers.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::sandbox::peak_memory_kib;
use e2e::{Sandbox, Scenario, until};
use serde_json::Value;

const CLIENT: &str = "echo/client";
/// Largest memory that one proxy may reach while a gibibyte passes through it, in KiB.
const PROXY_MEMORY_KIB_MAX: u64 = 64 * 1024;

fn main() -> ExitCode {
    e2e::run(
        "examples/echo",
        &[
            Scenario { name: "http_tcp_and_grpc_pass_between_meshed_pods", prove: protocols },
            Scenario { name: "the_first_request_to_a_new_service_works_by_address_and_by_name", prove: first_use },
            Scenario { name: "meshed_and_unmeshed_pods_reach_each_other_under_permissive", prove: both_ways },
            Scenario { name: "unknown_destinations_pass_or_are_refused_as_the_mesh_says", prove: outbound_policy },
            Scenario { name: "a_gibibyte_passes_over_tcp_and_http_with_bounded_memory", prove: bulk },
            Scenario { name: "a_pod_that_calls_itself_is_answered", prove: self_call },
            Scenario { name: "probes_scrapes_and_readiness_answer_beside_the_application", prove: side_ports },
        ],
    )
}

fn fetch(sandbox: &Sandbox, pod: &str, url: &str, more: &[&str]) -> Result<Value> {
    let mut words = vec!["example-apps", "fetch", url];
    words.extend(more);
    sandbox.exec(pod, &words)?.json()
}

fn protocols(sandbox: &Sandbox) -> Result<()> {
    let http = fetch(sandbox, CLIENT, "http://echo:8080/hello?x=1", &[])?;
    ensure!(http["status"] == 200, "{http}");
    let http2 = fetch(sandbox, CLIENT, "http://echo:8080/hello", &["--http2"])?;
    ensure!(http2["status"] == 200, "{http2}");
    let tcp = fetch(sandbox, CLIENT, "tcp://tcp-echo:9000", &["--data", "half-close then answer"])?;
    ensure!(tcp["body"].as_str().is_some_and(|body| body.contains("half-close then answer")), "{tcp}");
    let shapes = sandbox.exec(CLIENT, &["example-apps", "grpc-client", "grpc-echo:7070"])?.ok()?.json()?;
    ensure!(shapes["ok"] == true, "{shapes}");
    for (app, metric) in [
        ("echo", "istio_requests_total"),
        ("grpc-echo", "istio_requests_total"),
        ("tcp-echo", "istio_tcp_connections_opened_total"),
    ] {
        let pod = sandbox.pod("echo", &format!("{app}-v1"))?;
        let labels = [r#"reporter="destination""#, r#"connection_security_policy="mutual_tls""#];
        let seen = sandbox.proxy_metric(&pod.path(), metric, &labels)?;
        ensure!(seen >= 1.0, "{app} counted nothing over mutual TLS as {metric}");
    }
    Ok(())
}

fn first_use(sandbox: &Sandbox) -> Result<()> {
    let service = |name: &str, address: &str| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: echo}}
spec:
  clusterIP: {address}
  selector: {{app: echo}}
  ports: [{{name: http, port: 8080}}]
"
        )
    };
    let both = format!("{}---{}", service("new-by-address", "10.96.210.1"), service("new-by-name", "10.96.210.2"));
    sandbox.with(&both, || {
        // One attempt each, at once: the proxy has to hold the request until it knows, not fail it.
        let said = fetch(sandbox, CLIENT, "http://10.96.210.1:8080/first", &[])?;
        ensure!(said["status"] == 200, "by address: {said}");
        let said = fetch(sandbox, CLIENT, "http://new-by-name:8080/first", &[])?;
        ensure!(said["status"] == 200, "by name: {said}");
        Ok(())
    })
}

fn both_ways(sandbox: &Sandbox) -> Result<()> {
    for (from, url) in [
        (CLIENT, "http://echo.legacy:8080/"),
        ("legacy/client", "http://echo.echo:8080/"),
        (CLIENT, "http://echo-headless:8080/"),
    ] {
        let said = fetch(sandbox, from, url, &[])?;
        ensure!(said["status"] == 200, "{url} from {from}: {said}");
    }
    let pod = sandbox.pod("echo", "echo-v1")?;
    let plain = sandbox.proxy_metric(&pod.path(), "istio_requests_total", &[r#"connection_security_policy="none""#])?;
    ensure!(plain >= 1.0, "the unmeshed client is not counted as plaintext");
    let url = format!("http://{}:8080/by-pod-address", pod.address);
    let said = fetch(sandbox, CLIENT, &url, &[])?;
    ensure!(said["status"] == 200, "by the pod's own address: {said}");
    Ok(())
}

fn outbound_policy(sandbox: &Sandbox) -> Result<()> {
    // An address of the service range that nobody has: absent, so passed under ALLOW_ANY (and nobody answers), and
    // refused with its reason under REGISTRY_ONLY.
    let registry_only = "
apiVersion: v1
kind: ConfigMap
metadata: {name: mesh, namespace: mesh-system}
data:
  mesh: |
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";
    sandbox.with(registry_only, || {
        until("refused with its reason", Duration::from_secs(10), || {
            let said = fetch(sandbox, CLIENT, "http://10.96.250.250:8080/", &["--timeout-ms", "4000"])?;
            let reason = said["headers"]["mesh-reason"].to_string();
            Ok((said["status"] == 502 && reason.contains("registry_only")).then_some(()))
        })
    })?;
    let own = fetch(sandbox, CLIENT, "http://echo:8080/", &[])?;
    ensure!(own["status"] == 200, "known services are unharmed: {own}");
    Ok(())
}

fn bulk(sandbox: &Sandbox) -> Result<()> {
    for (protocol, address) in [("tcp", "bulk-server:9100"), ("http", "bulk-server:9101")] {
        let words = ["example-apps", "bulk-client", protocol, address, "--bytes", "1G", "--direction", "down"];
        let report = sandbox.exec(CLIENT, &words)?.ok()?.json()?;
        ensure!(report["ok"] == true, "{report}");
        println!("    1 GiB over {protocol}: {}", report["transfers"][0]["mebibytes_per_second"]);
    }
    let words = [
        "example-apps",
        "bulk-client",
        "http",
        "bulk-server:9101",
        "--bytes",
        "256M",
        "--direction",
        "up",
        "--chunked",
    ];
    sandbox.exec(CLIENT, &words)?.ok()?;
    for pod in [CLIENT.to_owned(), sandbox.pod("echo", "bulk-server-v1")?.path()] {
        let proxy = sandbox.processes(&pod, "mesh-proxy sidecar")?;
        let peak = peak_memory_kib(*proxy.first().context("the pod has a proxy")?)?;
        println!("    the proxy of {pod} used {} MiB at most", peak / 1024);
        ensure!(peak > 0 && peak < PROXY_MEMORY_KIB_MAX, "the proxy of {pod} grew to {peak} KiB");
    }
    Ok(())
}

fn self_call(sandbox: &Sandbox) -> Result<()> {
    let pod = sandbox.pod("echo", "echo-v1")?;
    let path = pod.path();
    for url in [
        "http://echo:8080/self".to_owned(),
        format!("http://{}:8080/self", pod.address),
        "http://127.0.0.1:8080/self".to_owned(),
    ] {
        let said = fetch(sandbox, &path, &url, &[])?;
        ensure!(said["status"] == 200, "{url}: {said}");
    }
    Ok(())
}

fn side_ports(sandbox: &Sandbox) -> Result<()> {
    let pod = sandbox.pod("echo", "echo-v1")?;
    for (url, part) in [
        (format!("http://{}:15021/healthz/ready", pod.address), ""),
        (format!("http://{}:15020/app-health/echo/readyz", pod.address), ""),
        (format!("http://{}:15020/stats/prometheus", pod.address), "istio_requests_total"),
        (format!("http://{}:15090/stats/prometheus", pod.address), "istio_requests_total"),
    ] {
        for from in ["legacy/client", CLIENT] {
            let said = fetch(sandbox, from, &url, &[])?;
            ensure!(said["status"] == 200, "{url} from {from}: {said}");
            ensure!(said["body"].as_str().is_some_and(|body| body.contains(part)), "{url} does not have {part}");
        }
    }
    Ok(())
}
