//! What everything that works on a pod knows: its specification, its place, and how to start a container of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::thread::CapabilitySet;
use serde_json::Value;
use tokio::sync::watch;

use super::container::Unready;
use super::env::{self, Sources};
use super::helper::RunSpec;
use super::root::{PROGRAMS, RootSpec};
use super::status::{PodStatus, State};
use super::volumes::{self, Tokens};
use crate::agent::Agent;
use crate::images;
use crate::net::addresses::{DNS, NODE};
use crate::objects::spec::{Container, PodSpec, SecurityContext};
use crate::paths::PodDir;

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

    /// Makes the volumes, waiting for what is missing.
    pub(super) async fn first_volumes(&self, tokens: &mut Tokens) {
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
    pub(super) async fn keep_volumes(&self, tokens: &mut Tokens, objects: &mut watch::Receiver<u64>) {
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
