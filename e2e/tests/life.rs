//! The life of a sandbox: nothing of it touches the machine, and nothing of it stays.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::sandbox::{kill, output, settled};
use e2e::{Sandbox, Scenario, until};

fn main() -> ExitCode {
    e2e::run(
        "examples/echo",
        &[
            Scenario { name: "two_sandboxes_run_side_by_side_with_the_same_addresses", prove: side_by_side },
            Scenario { name: "down_leaves_nothing_even_after_a_killed_supervisor", prove: nothing_stays },
            Scenario { name: "a_crashed_container_is_restarted", prove: restarted },
            Scenario { name: "scaling_up_and_down_follows_the_manifest", prove: scaled },
            Scenario { name: "bad_input_is_named_with_file_and_line_and_nothing_is_lost", prove: bad_input },
        ],
    )
}

/// What of the machine a sandbox could have changed: links, routes, rules, mounts, namespaces, processes, folders.
fn machine() -> Result<BTreeSet<String>> {
    let mut facts = BTreeSet::new();
    for words in [
        &["ip", "-o", "link"][..],
        &["ip", "rule"],
        &["ip", "route", "show", "table", "all"],
        &["iptables-save"],
        &["ip6tables-save"],
        &["cat", "/proc/self/mounts"],
        &["sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"],
        &["ls", "/run/mesh-sandbox"],
        &["lsns", "-n", "-o", "NS,TYPE"],
        &["pgrep", "-a", "mesh|example-apps"],
    ] {
        let said = output(Command::new(words[0]).args(&words[1..]))?;
        // Comments hold the time, counters count.
        let lines = said.stdout.lines().filter(|line| !line.starts_with('#'));
        facts.extend(lines.map(|line| format!("{}: {line}", words.join(" "))));
    }
    Ok(facts)
}

fn serves(sandbox: &Sandbox) -> Result<()> {
    let said = sandbox.exec("echo/client", &["example-apps", "fetch", "http://echo:8080/"])?.ok()?.json()?;
    ensure!(said["status"] == 200, "{said}");
    Ok(())
}

fn second(name: &str) -> Result<Sandbox> {
    Sandbox::up_named("examples/echo", &format!("{name}-{}", std::process::id()), &[])
}

fn side_by_side(first: &Sandbox) -> Result<()> {
    let other = second("side")?;
    serves(first)?;
    serves(&other)?;
    other.meshctl(&["sandbox", "down"])?.ok()?;
    serves(first)
}

fn nothing_stays(_: &Sandbox) -> Result<()> {
    let before = machine()?;
    let ordinary = second("down")?;
    ordinary.meshctl(&["sandbox", "down"])?.ok()?;
    nothing_of(&before, "an ordinary down")?;

    let crashed = second("crash")?;
    let agent = output(Command::new("pgrep").args(["-f", &format!("sandbox agent.*{}", crashed.name())]))?;
    let pids: Vec<i32> = agent.stdout.lines().filter_map(|line| line.trim().parse().ok()).collect();
    ensure!(!pids.is_empty(), "the supervisor runs");
    kill(&pids);
    crashed.meshctl(&["sandbox", "down"])?.ok()?;
    nothing_of(&before, "down after a killed supervisor")
}

fn nothing_of(before: &BTreeSet<String>, what: &str) -> Result<()> {
    // Processes that are children of nobody are reaped by the machine's first process with a delay.
    until(&format!("{what} leaves nothing"), Duration::from_secs(10), || {
        let after = machine()?;
        let stays: Vec<&String> = after.difference(before).collect();
        let gone: Vec<&String> = before.difference(&after).collect();
        ensure!(stays.is_empty() && gone.is_empty(), "left: {stays:#?}; lost: {gone:#?}");
        Ok(Some(()))
    })
}

fn restarted(sandbox: &Sandbox) -> Result<()> {
    let pod = sandbox.pod("echo", "echo-v1")?;
    let before = sandbox.processes(&pod.path(), "example-apps echo")?;
    ensure!(!before.is_empty(), "the application runs");
    kill(&before);
    until("the container runs again", Duration::from_secs(30), || {
        let now = sandbox.processes(&pod.path(), "example-apps echo")?;
        ensure!(!now.is_empty() && now != before, "no new process");
        serves(sandbox).map(Some)
    })
}

fn scaled(sandbox: &Sandbox) -> Result<()> {
    let manifest = std::fs::read_to_string(e2e::sandbox::root().join("examples/echo/meshed.yaml"))?;
    let deployment = manifest
        .split("\n---\n")
        .find(|part| part.contains("kind: Deployment") && part.contains("name: echo-v1"))
        .context("the Deployment of echo")?;
    for replicas in [3, 1] {
        sandbox.apply(&deployment.replace("replicas: 1", &format!("replicas: {replicas}")))?;
        until(&format!("{replicas} replicas"), Duration::from_secs(40), || {
            let pods = sandbox.pods("echo")?;
            let of_echo: Vec<_> = pods.iter().filter(|pod| pod.name.starts_with("echo-v1")).collect();
            Ok((of_echo.len() == replicas && of_echo.iter().all(|pod| pod.ready && !pod.ending)).then_some(()))
        })?;
        serves(sandbox)?;
    }
    settled(sandbox, "echo")
}

fn bad_input(sandbox: &Sandbox) -> Result<()> {
    let said = sandbox.apply("apiVersion: v1\nkind: Service\nmetadata: {name: broken\nspec: [").map(|said| said.stdout);
    let error = said.err().context("a file that is not YAML is refused")?.to_string();
    ensure!(error.contains(".yaml:"), "file and line are named: {error}");
    serves(sandbox)
}
