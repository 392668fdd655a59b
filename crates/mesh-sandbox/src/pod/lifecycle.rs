//! A pod's life, from its namespaces to its last process, in Kubernetes' order.
//!
//! Start: namespaces, network, volumes; init containers one after the other, sidecars among them staying; then the
//! applications together. End: pre-stop hooks of all containers at once; TERM to each application after its own hook;
//! when all have ended, TERM to the sidecars, the last one first; KILL to whatever is left after the grace period.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::watch;

use super::container::{Kept, Restart};
use super::context::PodContext;
use super::process::PodProcess;
use super::status::{ContainerStatus, Phase, PodStatus, State};
use super::volumes::Tokens;
use crate::agent::Agent;
use crate::net::netns::Netns;
use crate::objects::spec::{Container, PodSpec};

/// The grace period where a pod names none, in seconds (Kubernetes: the same).
pub(crate) const GRACE_SECONDS: u64 = 30;

/// What is handed to [`run`].
pub(crate) struct Plan {
    pub(crate) agent: Arc<Agent>,
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) object: Value,
    pub(crate) spec: PodSpec,
    pub(crate) addresses: Vec<IpAddr>,
}

/// Runs a pod until it has ended by itself or was told to (`stop` becomes the grace period in seconds).
pub(crate) async fn run(plan: Plan, mut stop: watch::Receiver<Option<u64>>) {
    let agent = plan.agent.clone();
    let (uid, label) = (plan.uid.clone(), format!("{}/{}", plan.namespace, plan.name));
    let (cx, process) = loop {
        match create(&plan).await {
            Ok(made) => break made,
            Err(why) => {
                let mut news = false;
                agent.pod_status(&uid, |s| news = s.event(format!("FailedCreatePodSandBox: {why:#}")));
                if news {
                    tracing::warn!(pod = %label, error = format!("{why:#}"), "the pod's namespaces could not be made");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = told(&mut stop) => return agent.pod_gone(&uid).await,
        }
    };
    let mut pod = Pod { cx, sidecars: Vec::new(), apps: Vec::new(), init: None };
    let grace = tokio::select! {
        phase = pod.live() => {
            let grace = pod.cx.grace;
            pod.end(grace).await;
            pod.cx.status(|s| s.phase = phase);
            process.end().await;
            agent.pod_finished(&uid);
            // It stays as a finished pod until it is deleted.
            told(&mut stop).await;
            return agent.pod_gone(&uid).await;
        }
        grace = told(&mut stop) => grace,
    };
    pod.end(grace).await;
    process.end().await;
    agent.pod_gone(&uid).await;
}

/// Waits until the pod is told to end; returns its grace period in seconds.
async fn told(stop: &mut watch::Receiver<Option<u64>>) -> u64 {
    // The sender lives as long as the pod's entry; without it there is nothing to run for.
    stop.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or(0)
}

/// Makes namespaces and network.
async fn create(plan: &Plan) -> anyhow::Result<(Arc<PodContext>, PodProcess)> {
    let dir = plan.agent.dir.pod(&plan.uid);
    for sub in ["logs", "volumes", "memory", "root"] {
        std::fs::create_dir_all(dir.root().join(sub))?;
    }
    let hostname = plan.spec.hostname.clone().unwrap_or_else(|| plan.name.chars().take(63).collect());
    let process = PodProcess::start(dir.root(), &hostname).await?;
    let netns = Netns::of_process(process.pid)?;
    crate::net::pod::connect(&plan.agent.switch.netns, &netns, process.pid, &plan.uid, &plan.addresses).await?;
    plan.agent.pod_connected(&plan.uid, process.pid, netns).await?;
    let cx = PodContext {
        agent: plan.agent.clone(),
        uid: plan.uid.clone(),
        namespace: plan.namespace.clone(),
        name: plan.name.clone(),
        object: plan.object.clone(),
        spec: plan.spec.clone(),
        dir,
        addresses: plan.addresses.clone(),
        pid: process.pid,
        grace: plan.spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS),
    };
    Ok((Arc::new(cx), process))
}

struct Pod {
    cx: Arc<PodContext>,
    /// In the order of their start.
    sidecars: Vec<Kept>,
    apps: Vec<Kept>,
    /// The init container that runs at the moment.
    init: Option<Kept>,
}

impl Pod {
    /// Starts everything and waits until the applications have ended for good; returns the phase that this makes.
    async fn live(&mut self) -> Phase {
        let cx = self.cx.clone();
        let mut tokens = Tokens::new();
        // Followed from before the first look, so that no change is missed between two looks.
        let mut objects = cx.agent.objects_version();
        cx.first_volumes(&mut tokens).await;
        let volumes = async {
            loop {
                cx.keep_volumes(&mut tokens, &mut objects).await;
            }
        };
        tokio::select! {
            phase = self.containers() => phase,
            () = volumes => unreachable!("the loop above has no end"),
        }
    }

    async fn containers(&mut self) -> Phase {
        let cx = self.cx.clone();
        let policy = match cx.spec.restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        };
        for container in &cx.spec.init_containers {
            if container.is_sidecar() {
                self.sidecars.push(Kept::start(&cx, container, Restart::Always));
                if let Some(sidecar) = self.sidecars.last_mut() {
                    sidecar.until_started().await;
                }
                continue;
            }
            let again = if policy == Restart::Never { Restart::Never } else { Restart::OnFailure };
            let init = self.init.insert(Kept::start(&cx, container, again));
            let code = init.ended().await;
            self.init = None;
            // An init container may have set the mesh's redirect; the Services' rules go behind it again.
            cx.agent.refresh_rules(&cx.uid).await;
            if code != 0 {
                cx.event(format!("Failed: init container {} ended with code {code}", container.name));
                return Phase::Failed;
            }
        }
        cx.status(|s| {
            s.initialized = true;
            s.phase = Phase::Running;
            for waiting in s.containers.iter_mut().filter(|c| !c.init) {
                waiting.state = State::Waiting { reason: "ContainerCreating", message: String::new() };
            }
        });
        for container in &cx.spec.containers {
            self.apps.push(Kept::start(&cx, container, policy));
        }
        let codes = join_all(self.apps.iter_mut().map(Kept::ended)).await;
        if codes.iter().all(|c| *c == 0) { Phase::Succeeded } else { Phase::Failed }
    }

    /// Ends all containers within `grace` seconds.
    async fn end(&mut self, grace: u64) {
        let cx = self.cx.clone();
        let deadline = Instant::now() + Duration::from_secs(grace);
        let left = || deadline.saturating_duration_since(Instant::now());
        let all = || self.sidecars.iter().chain(&self.apps).chain(&self.init);
        for kept in all() {
            kept.stop_keeping();
        }
        // The hooks of all containers begin at once; an application gets TERM when its own hook is done.
        let limit = left();
        let apps = join_all(self.apps.iter().chain(&self.init).map(|app| async {
            app.pre_stop(&cx, limit).await;
            app.signal(Signal::TERM);
        }));
        let hooks = join_all(self.sidecars.iter().map(|s| s.pre_stop(&cx, limit)));
        // A sidecar's hook may take long without holding the applications' TERM back.
        tokio::join!(apps, hooks);
        for app in self.apps.iter_mut().chain(&mut self.init) {
            finish(app, deadline).await;
        }
        for sidecar in self.sidecars.iter_mut().rev() {
            sidecar.signal(Signal::TERM);
            finish(sidecar, deadline).await;
        }
    }
}

/// Waits for the end of a container, and makes it happen at the deadline.
async fn finish(kept: &mut Kept, deadline: Instant) {
    if kept.is_over() {
        return;
    }
    if tokio::time::timeout_at(deadline.into(), kept.ended()).await.is_err() {
        kept.signal(Signal::KILL);
        kept.ended().await;
    }
}

/// The status of a pod that does not run yet.
pub(crate) fn initial_status(spec: &PodSpec, addresses: &[IpAddr]) -> PodStatus {
    let of = |init: bool| {
        move |c: &Container| ContainerStatus {
            name: c.name.clone(),
            image: c.image.clone(),
            init,
            sidecar: init && c.is_sidecar(),
            state: State::Waiting { reason: "ContainerCreating", message: String::new() },
            last_code: None,
            ready: false,
            started: false,
            restarts: 0,
            pid: None,
        }
    };
    PodStatus {
        addresses: addresses.to_vec(),
        containers: spec.init_containers.iter().map(of(true)).chain(spec.containers.iter().map(of(false))).collect(),
        since: Some(Timestamp::now()),
        ..PodStatus::default()
    }
}
