//! The control plane is away: what is known goes on, what is not known is refused and never guessed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::sandbox::{kill, sum_of};
use e2e::{Sandbox, Scenario, until};
use serde_json::Value;

const CLIENT: &str = "echo/client";
/// How long the control plane stays dead under load.
const OUTAGE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    e2e::run(
        "examples/echo",
        &[
            Scenario { name: "a_dead_control_plane_loses_no_request_and_a_restarted_proxy_serves", prove: outage },
            Scenario { name: "an_unknown_mesh_address_is_refused_and_never_sent_in_plaintext", prove: unknown },
            Scenario { name: "a_restarted_control_plane_sends_nothing_to_proxies_in_sync", prove: nothing_again },
        ],
    )
}

fn fetch(sandbox: &Sandbox, pod: &str, url: &str) -> Result<Value> {
    sandbox.exec(pod, &["example-apps", "fetch", url, "--timeout-ms", "8000", "--any-status"])?.json()
}

/// Keeps mesh-control dead (the sandbox restarts it, as a kubelet would) while `act` runs.
fn without_control<T>(sandbox: &Sandbox, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok(pids) = sandbox.processes("mesh-system/mesh-control", "mesh-control --") {
                    kill(&pids);
                }
                e2e::wait::pause(Duration::from_millis(100));
            }
        });
        let outcome = act();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        outcome
    });
    until("every proxy is connected again", Duration::from_secs(60), || {
        let proxies = sandbox.meshctl(&["proxy-status", "-o", "json"])?.ok()?.json()?;
        let list = proxies.as_array().cloned().unwrap_or_default();
        let synced = |p: &Value| p["types"].as_object().is_some_and(|t| t.values().all(|state| state == "synced"));
        Ok((list.len() >= 5 && list.iter().all(synced)).then_some(()))
    })?;
    outcome
}

fn outage(sandbox: &Sandbox) -> Result<()> {
    ensure!(fetch(sandbox, CLIENT, "http://echo:8080/")?["status"] == 200, "works before");
    // A proxy that the load does not pass: it is restarted in the middle of the outage.
    let bystander = sandbox.pod("echo", "tcp-echo-v1")?;
    ensure!(fetch(sandbox, &bystander.path(), "http://echo:8080/")?["status"] == 200, "the bystander works before");
    // What is used is saved within a second.
    let proxy = *sandbox.processes(&bystander.path(), "mesh-proxy sidecar")?.first().context("it has a proxy")?;
    until("the bystander's configuration is saved", Duration::from_secs(5), || {
        let saved = std::fs::read(format!("/proc/{proxy}/root/var/lib/mesh/config.pb"))?;
        let wanted = b"endpoints/echo/echo.echo.svc.cluster.local/";
        Ok(saved.windows(wanted.len()).any(|window| window == wanted).then_some(()))
    })?;
    without_control(sandbox, || {
        let seconds = OUTAGE.as_secs().to_string();
        let load = [
            "example-apps",
            "load",
            "http://echo:8080/",
            "-n",
            "1000000",
            "--seconds",
            &seconds,
            "--rate",
            "200",
            "-c",
            "8",
        ];
        let running = sandbox.spawn(CLIENT, &load)?;
        let begin = Instant::now();
        let before = sandbox.processes(&bystander.path(), "mesh-proxy sidecar")?;
        ensure!(!before.is_empty(), "the bystander has a proxy");
        kill(&before);
        until("the restarted proxy serves with its last configuration", Duration::from_secs(30), || {
            let now = sandbox.processes(&bystander.path(), "mesh-proxy sidecar")?;
            ensure!(!now.is_empty() && now != before, "a new process runs");
            Ok((fetch(sandbox, &bystander.path(), "http://echo:8080/")?["status"] == 200).then_some(()))
        })?;
        let said = running.wait_with_output()?;
        ensure!(begin.elapsed() >= OUTAGE, "the load ended early");
        let report: Value = serde_json::from_slice(&said.stdout)?;
        println!("    {} requests, {} lost", report["requests"], report["lost"]);
        ensure!(report["ok"] == true && report["lost"] == 0, "{report}");
        Ok(())
    })
}

fn unknown(sandbox: &Sandbox) -> Result<()> {
    let other = sandbox.pod("echo", "grpc-echo-v1")?;
    ensure!(fetch(sandbox, CLIENT, "http://echo:8080/")?["status"] == 200, "known before");
    without_control(sandbox, || {
        let capture = Capture::start(&sandbox.switch()?, "tcp port 7070")?;
        let begin = Instant::now();
        let said = fetch(sandbox, CLIENT, &format!("http://{}:7070/never-used-before", other.address))?;
        println!("    refused after {:.1} s", begin.elapsed().as_secs_f32());
        ensure!(said["headers"]["mesh-reason"].to_string().contains("discovery_unavailable"), "{said}");
        let packets = capture.finish()?;
        ensure!(packets.count("never-used-before") == 0, "it was sent in plaintext");
        ensure!(fetch(sandbox, CLIENT, "http://echo:8080/")?["status"] == 200, "what is known still works");
        Ok(())
    })?;
    let said = fetch(sandbox, CLIENT, &format!("http://{}:7070/", other.address))?;
    ensure!(!said["headers"]["mesh-reason"].to_string().contains("discovery_unavailable"), "known once asked: {said}");
    Ok(())
}

fn sent(sandbox: &Sandbox) -> Result<f64> {
    let control = sandbox.pod("mesh-system", "mesh-control")?;
    let url = format!("http://{}:15014/metrics", control.address);
    let said = sandbox.exec("legacy/client", &["example-apps", "fetch", &url])?.ok()?.json()?;
    Ok(sum_of(said["body"].as_str().context("a body")?, "mesh_xds_resources_sent_total", &[]))
}

fn nothing_again(sandbox: &Sandbox) -> Result<()> {
    without_control(sandbox, || Ok(()))?;
    let resources = sent(sandbox)?;
    ensure!(resources == 0.0, "{resources} resources were sent to proxies that were in sync");
    // And it is not dead: a change arrives.
    let service = "
apiVersion: v1
kind: Service
metadata: {name: after-restart, namespace: echo}
spec: {clusterIP: 10.96.211.1, selector: {app: echo}, ports: [{name: http, port: 8080}]}
";
    sandbox.with(service, || {
        ensure!(fetch(sandbox, CLIENT, "http://after-restart:8080/")?["status"] == 200, "a new service works");
        Ok(())
    })
}
