//! A pod's life, from its namespaces to its last process, in Kubernetes' order.
//!
//! Start: namespaces, network, volumes; init containers one after the other, sidecars among them staying; then the
//! applications together. End: pre-stop hooks of all containers at once; TERM to each application after its own hook;
//! when all have ended, TERM to the sidecars, the last one first; KILL to whatever is left after the grace period.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::join_all;
use jiff::Timestamp;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use serde_json::Value;
use tokio::sync::watch;

use super::container::{Kept, Restart, Unready};
use super::env::{self, Sources};
use super::helper::RunSpec;
use super::process::PodProcess;
use super::root::{PROGRAMS, RootSpec};
use super::status::{Phase, PodStatus, State};
use super::volumes::{self, Tokens};
use crate::agent::Agent;
use crate::images;
use crate::net::addresses::{DNS, NODE};
use crate::net::netns::Netns;
use crate::objects::spec::{Container, PodSpec, SecurityContext};
use crate::paths::PodDir;

/// The grace period where a pod names none, in seconds (Kubernetes: the same).
pub(crate) const GRACE_SECONDS: u64 = 30;
/// How often missing volumes are looked for, and how often volumes are brought up to date at least.
const VOLUME_RETRY: Duration = Duration::from_millis(100);
/// See [`VOLUME_RETRY`].
const VOLUME_REFRESH: Duration = Duration::from_secs(30);

/// What everything that works on a pod needs to know. It does not change during the pod's life.
pub(crate) struct PodContext {
    pub(crate) agent: Arc<Agent>,
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The pod object as it was admitted: metadata and specification.
    pub(crate) object: Value,
    pub(crate) spec: PodSpec,
    pub(crate) dir: PodDir,
    pub(crate) addresses: Vec<IpAddr>,
    /// The process id of the pod's PID 1.
    pub(crate) pid: u32,
    /// The grace period, in seconds.
    pub(crate) grace: u64,
}

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
        cx.first_volumes(&mut tokens).await;
        let volumes = async {
            loop {
                cx.keep_volumes(&mut tokens).await;
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

impl PodContext {
    /// Changes the pod's status, which others are then told.
    pub(crate) fn status(&self, change: impl FnOnce(&mut PodStatus)) {
        self.agent.pod_status(&self.uid, change);
    }

    /// Notes an event, in the pod's status and in the supervisor's log.
    pub(crate) fn event(&self, what: String) {
        let mut news = false;
        self.agent.pod_status(&self.uid, |s| news = s.event(what.clone()));
        if news {
            tracing::info!(pod = %format!("{}/{}", self.namespace, self.name), "{what}");
        }
    }

    /// The log file of a container, for appending.
    pub(crate) fn log(&self, container: &str) -> anyhow::Result<File> {
        let path = self.dir.log(container);
        File::options().create(true).append(true).open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    async fn first_volumes(&self, tokens: &mut Tokens) {
        while let Err(why) = self.write_volumes(tokens) {
            let message = format!("{why:#}");
            self.status(|s| {
                for container in &mut s.containers {
                    container.state = State::Waiting { reason: "ContainerCreating", message: message.clone() };
                }
            });
            tokio::time::sleep(VOLUME_RETRY).await;
        }
        self.status(|s| {
            for container in &mut s.containers {
                container.state = State::Waiting { reason: "PodInitializing", message: String::new() };
            }
        });
    }

    /// Waits for a change of objects or for the next look at tokens, then brings the volumes up to date.
    async fn keep_volumes(&self, tokens: &mut Tokens) {
        let mut objects = self.agent.objects_version();
        let next = tokens.values().map(|(_, renew)| *renew).min();
        let wait = next.map_or(VOLUME_REFRESH, |at| at.saturating_duration_since(Instant::now()).min(VOLUME_REFRESH));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // The sender lives as long as the agent.
            _ = objects.changed() => {}
        }
        if let Err(why) = self.write_volumes(tokens) {
            self.event(format!("FailedMount: {why:#}"));
        }
    }

    fn write_volumes(&self, tokens: &mut Tokens) -> anyhow::Result<()> {
        let sign = |audience: &str, seconds: Option<u64>| {
            let (token, renew) =
                self.agent.sign(&self.namespace, &self.name, &self.uid, self.spec.account(), audience, seconds)?;
            Ok((token, Duration::from_secs(renew)))
        };
        self.with_sources(|sources| volumes::write(self.pid, &self.dir, &self.spec, sources, tokens, &sign))
    }

    fn with_sources<T>(&self, f: impl FnOnce(&Sources<'_>) -> T) -> T {
        let ips: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        let host_ip = NODE.to_string();
        let config_map = |name: &str| self.agent.config_map(&self.namespace, name);
        let secret = |name: &str| self.agent.secret(&self.namespace, name);
        f(&Sources {
            pod: &self.object,
            spec: &self.spec,
            pod_ips: &ips,
            host_ip: &host_ip,
            config_map: &config_map,
            secret: &secret,
        })
    }

    /// Everything that the helper needs to know to start `container`.
    pub(crate) fn run_spec(&self, container: &Container) -> Result<RunSpec, Unready> {
        let mapped = self.agent.image(&container.image);
        let mapped = mapped.with_context(|| {
            format!(
                "no program for image {:?}: add it to {} (image: [program, arguments…])",
                container.image,
                images::FILE
            )
        });
        let mapped = mapped.map_err(Unready::Never)?;
        let named = mapped.first().cloned().unwrap_or_default();
        let program = images::find_program(&named, &self.agent.programs).with_context(|| {
            format!("image {:?}: no program {named:?} in {} or in PATH", container.image, self.agent.programs.display())
        });
        let program = program.map_err(Unready::Never)?;
        let file = program.file_name().and_then(|n| n.to_str()).unwrap_or(&named).to_owned();
        let image: Vec<String> = std::iter::once(file.clone()).chain(mapped.into_iter().skip(1)).collect();
        let mut vars = BTreeMap::from([
            ("PATH".to_owned(), format!("{PROGRAMS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
            ("HOSTNAME".to_owned(), self.name.clone()),
            ("HOME".to_owned(), "/".to_owned()),
        ]);
        vars.extend(self.with_sources(|s| env::environment(container, s)).map_err(Unready::Missing)?);
        let expand = |words: &[String]| -> Vec<String> { words.iter().map(|w| env::expand(w, &vars)).collect() };
        let argv = images::command_line(image, &expand(&container.command), &expand(&container.args));
        let mounts = volumes::mounts(&self.dir, &self.spec, container).map_err(Unready::Never)?;
        let (own, pod) = (&container.security_context, &self.spec.security_context);
        let uid = own.run_as_user.or(pod.run_as_user).unwrap_or(0);
        if uid == 0 && own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
            return Err(Unready::Never(anyhow::anyhow!(
                "runAsNonRoot is set, but it would run as root: set runAsUser"
            )));
        }
        Ok(RunSpec {
            argv,
            env: vars,
            dir: container.working_dir.clone(),
            uid,
            gid: own.run_as_group.or(pod.run_as_group).unwrap_or(0),
            groups: pod.supplemental_groups.iter().copied().chain(pod.fs_group).collect(),
            capabilities: capabilities(own).map_err(Unready::Never)?,
            no_new_privileges: own.allow_privilege_escalation == Some(false),
            root: Some(RootSpec {
                mount_point: self.dir.mount_point(),
                programs: vec![(program, file)],
                etc: self.etc(),
                mounts,
                read_only: own.read_only_root_filesystem,
            }),
            interactive: false,
        })
    }

    /// The pod's own `/etc/resolv.conf`, `hosts` and `hostname`.
    fn etc(&self) -> Vec<(String, String)> {
        let ns = &self.namespace;
        let domain = &self.agent.domain;
        let resolv = format!("search {ns}.svc.{domain} svc.{domain} {domain}\nnameserver {DNS}\noptions ndots:5\n");
        let name = self.spec.hostname.as_deref().unwrap_or(&self.name);
        let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        for address in &self.addresses {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
        for alias in &self.spec.host_aliases {
            hosts.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
        }
        vec![("resolv.conf".into(), resolv), ("hosts".into(), hosts), ("hostname".into(), format!("{name}\n"))]
    }
}

/// The capabilities of a container: the default set of Kubernetes' runtimes, with what it adds and drops.
fn capabilities(context: &SecurityContext) -> anyhow::Result<u64> {
    let all = CapabilitySet::all();
    if context.privileged {
        return Ok(all.bits());
    }
    let mut kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::MKNOD
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::NET_RAW
        | CapabilitySet::SETFCAP
        | CapabilitySet::SETGID
        | CapabilitySet::SETPCAP
        | CapabilitySet::SETUID
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::AUDIT_WRITE;
    let named = |name: &String| {
        let short = name.strip_prefix("CAP_").unwrap_or(name);
        if short == "ALL" {
            return Ok(all);
        }
        CapabilitySet::from_name(short).with_context(|| format!("capability {name:?} does not exist"))
    };
    for name in &context.capabilities.drop {
        kept &= !named(name)?;
    }
    for name in &context.capabilities.add {
        kept |= named(name)?;
    }
    Ok(kept.bits())
}

/// The status of a pod that does not run yet.
pub(crate) fn initial_status(spec: &PodSpec, addresses: &[IpAddr]) -> PodStatus {
    let of = |init: bool| {
        move |c: &Container| super::status::ContainerStatus {
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
