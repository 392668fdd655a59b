//! The supervisor's start and end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{Agent, api, mesh, reconcile};
use crate::dns;
use crate::net::addresses::DNS;
use crate::net::switch::Switch;
use crate::paths::StateDir;

/// How often the sizes of logs are looked at.
const LOGS_INTERVAL: Duration = Duration::from_secs(5);
/// A container's log is cut when it has grown larger than this, in bytes; what it held is kept once, as `….log.1`.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The grace period of pods when the supervisor is told to end by a signal, in seconds.
const SIGNAL_GRACE: u64 = 10;

/// Runs the supervisor of the sandbox `dir` until it is told to end. The folder exists already.
///
/// `programs` is the folder in which programs of images are looked for first.
pub async fn run(dir: StateDir, programs: PathBuf) -> anyhow::Result<()> {
    std::fs::write(dir.pid(), std::process::id().to_string())?;
    let switch = Switch::start().await?;
    let agent = Arc::new(Agent::new(dir, programs, switch)?);
    for folder in
        [agent.dir.config(), agent.dir.control(), agent.dir.root().join("keys"), agent.dir.root().join("pods")]
    {
        std::fs::create_dir_all(&folder)?;
    }
    std::fs::write(agent.dir.token_keys(), agent.jwks())?;
    let dns = dns::server::start((DNS, 53).into(), agent.dns.clone());
    agent.switch.runtime.spawn(dns).await.context("the DNS server's task ended")??;
    {
        let with_mesh = mesh::available(&agent);
        let objects = mesh::built_in(&agent, with_mesh);
        let mut world = agent.world();
        world.mesh = with_mesh;
        for object in objects {
            world.apply(object);
        }
    }
    let listener = api::listen(&agent.dir)?;
    tokio::spawn(reconcile::run(agent.clone()));
    tokio::spawn(mesh::distribute_bundle(agent.clone()));
    tokio::spawn(cut_logs(agent.clone()));
    agent.ring();
    tracing::info!(sandbox = agent.dir.name(), programs = %agent.programs.display(), "the supervisor runs");

    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut ending = agent.ending.subscribe();
    tokio::select! {
        () = api::serve(&agent, &listener) => {}
        // The sender lives in the agent.
        _ = ending.wait_for(|e| *e) => {}
        _ = term.recv() => { end_pods(&agent, SIGNAL_GRACE).await; }
        _ = interrupt.recv() => { end_pods(&agent, SIGNAL_GRACE).await; }
    }
    tracing::info!("the supervisor ends");
    Ok(())
}

/// Ends all pods, in order, the control plane last; returns how many there were.
pub(crate) async fn end_pods(agent: &Arc<Agent>, grace: u64) -> usize {
    let count = agent.world().pods.len();
    for own in [false, true] {
        {
            let mut world = agent.world();
            world.closing = true;
            for pod in world.pods.values_mut().filter(|p| (p.namespace == mesh::NAMESPACE) == own) {
                let wanted = pod.spec.termination_grace_period_seconds.unwrap_or(crate::pod::lifecycle::GRACE_SECONDS);
                pod.terminate(Some(wanted.min(grace)));
            }
        }
        agent.ring();
        while agent.world().pods.values().any(|p| (p.namespace == mesh::NAMESPACE) == own) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    count
}

/// Keeps logs from filling the machine. Containers append to their file, so cutting it does not disturb them.
async fn cut_logs(agent: Arc<Agent>) {
    loop {
        tokio::time::sleep(LOGS_INTERVAL).await;
        let mut logs: Vec<PathBuf> = {
            let world = agent.world();
            let of = |(uid, pod): (&String, &super::world::PodEntry)| {
                let dir = agent.dir.pod(uid);
                pod.spec.all_containers().map(|c| dir.log(&c.name)).collect::<Vec<_>>()
            };
            world.pods.iter().flat_map(of).collect()
        };
        logs.push(agent.dir.log());
        for log in logs {
            if std::fs::metadata(&log).is_ok_and(|m| m.len() > LOG_BYTES_MAX)
                && let Err(err) = cut(&log).await
            {
                tracing::warn!(log = %log.display(), %err, "a log could not be cut");
            }
        }
    }
}

async fn cut(log: &std::path::Path) -> std::io::Result<()> {
    let mut old = log.as_os_str().to_owned();
    old.push(".1");
    tokio::fs::copy(log, &old).await?;
    tokio::fs::OpenOptions::new().write(true).open(log).await?.set_len(0).await
}
