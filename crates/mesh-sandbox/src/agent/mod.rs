//! The supervisor of one sandbox: it owns the switch, the pods and the objects, and plays Kubernetes' part.
//!
//! All that is known is one [`World`] behind a lock that is never held while waiting. Whatever changes it
//! rings the bell; one task then brings everything that follows from it up to date ([`reconcile`]): pods to start or
//! end, files for mesh-control, Services' rules, DNS. [`api`] is the Unix socket on which `meshctl` asks.

pub(crate) mod api;
pub(crate) mod deployments;
pub(crate) mod endpoints;
pub(crate) mod files;
pub(crate) mod findings;
pub(crate) mod mesh;
pub(crate) mod publish;
pub(crate) mod reconcile;
mod run;
pub(crate) mod view;
pub(crate) mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Notify, watch};

pub use run::run;

use crate::dns::server::Served;
use crate::net::netns::Netns;
use crate::net::services;
use crate::net::switch::Switch;
use crate::objects::manifest::Key;
use crate::paths::StateDir;
use crate::pod::status::PodStatus;
use crate::token::{Signer, Subject};
use world::World;

/// How long the network of an ended pod answers. A kubelet takes about as long to remove it; on addresses that nobody
/// has, connections would hang where they are now refused and tried elsewhere.
const NETWORK_LINGER: Duration = Duration::from_secs(2);

/// How long a command waits until a change has arrived everywhere.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The supervisor, shared by its tasks.
pub(crate) struct Agent {
    pub(crate) dir: StateDir,
    /// Where programs of images are looked for first.
    pub(crate) programs: PathBuf,
    /// The cluster's DNS domain.
    pub(crate) domain: String,
    pub(crate) switch: Switch,
    pub(crate) dns: Served,
    signer: Signer,
    world: Mutex<World>,
    /// Rung whenever the world changed.
    changed: Notify,
    /// Counts the rounds of bringing everything up to date that have ended.
    rounds: watch::Sender<u64>,
    /// Counts changes of ConfigMaps and Secrets, for the pods' volumes.
    objects: watch::Sender<u64>,
    /// Set when the sandbox is to end.
    pub(crate) ending: watch::Sender<bool>,
    /// One ruleset at a time is written, so that an older one never replaces a newer one.
    rules: tokio::sync::Mutex<()>,
}

impl Agent {
    pub(crate) fn new(dir: StateDir, programs: PathBuf, switch: Switch) -> anyhow::Result<Self> {
        let world = World::new(switch.v6);
        Ok(Self {
            dir,
            programs,
            domain: "cluster.local".into(),
            switch,
            dns: Served::default(),
            signer: Signer::generate()?,
            world: Mutex::new(world),
            changed: Notify::new(),
            rounds: watch::Sender::new(0),
            objects: watch::Sender::new(0),
            ending: watch::Sender::new(false),
            rules: tokio::sync::Mutex::new(()),
        })
    }

    /// The world. Not to be held across an `.await`.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the world changed.
    pub(crate) fn ring(&self) {
        self.changed.notify_one();
    }

    /// Waits until the world changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Says that everything is up to date with the world as it was when the round began.
    pub(crate) fn round_ended(&self) {
        self.rounds.send_modify(|n| *n += 1);
    }

    /// Waits until what is known now has been acted on: files written, read by the control plane, and acknowledged by
    /// every proxy. A control plane that does not answer is not waited for.
    pub(crate) async fn settle(&self) {
        let acted_on = async {
            let mut rounds = self.rounds.subscribe();
            // The round that runs now may have begun too early; the one behind it has not.
            for _ in 0..2 {
                self.ring();
                if rounds.changed().await.is_err() {
                    return;
                }
            }
            if self.world().mesh {
                let _ = api::control_get(self, "/v1/sync").await;
            }
        };
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, acted_on).await;
    }

    /// Says that ConfigMaps or Secrets changed.
    pub(crate) fn objects_changed(&self) {
        self.objects.send_modify(|n| *n += 1);
    }

    /// Follows changes of ConfigMaps and Secrets.
    pub(crate) fn objects_version(&self) -> watch::Receiver<u64> {
        self.objects.subscribe()
    }

    /// The public keys of the tokens, as JWKS.
    pub(crate) fn jwks(&self) -> String {
        self.signer.jwks()
    }

    /// Changes a pod's status. A pod that is gone has none.
    pub(crate) fn pod_status(&self, uid: &str, change: impl FnOnce(&mut PodStatus)) {
        if let Some(pod) = self.world().pods.get_mut(uid) {
            change(&mut pod.status);
        }
        self.ring();
    }

    /// The pod has its namespaces: it gets the Services' rules before anything runs in it.
    pub(crate) async fn pod_connected(&self, uid: &str, pid: u32, netns: Netns) -> anyhow::Result<()> {
        if let Some(pod) = self.world().pods.get_mut(uid) {
            pod.status.pid = Some(pid);
            pod.netns = Some(netns);
            pod.rules = None;
        }
        self.write_rules(uid, true).await
    }

    /// Writes the Services' rules of a pod again, behind whatever its init containers have set.
    pub(crate) async fn refresh_rules(&self, uid: &str) {
        if let Err(why) = self.write_rules(uid, true).await {
            tracing::warn!(error = format!("{why:#}"), "the Services' rules of a pod could not be written");
        }
    }

    /// Writes the Services' rules of a pod if they differ from what it has, or anyway.
    pub(crate) async fn write_rules(&self, uid: &str, anyway: bool) -> anyhow::Result<()> {
        let _turn = self.rules.lock().await;
        let (netns, ports, installed) = {
            let world = self.world();
            let Some(pod) = world.pods.get(uid) else { return Ok(()) };
            let Some(netns) = pod.netns.clone() else { return Ok(()) };
            if !anyway && pod.rules.as_ref() == Some(&world.ports) {
                return Ok(());
            }
            (netns, world.ports.clone(), pod.rules.is_some())
        };
        let text = services::rules(&ports, installed);
        netns.command("iptables-restore", &["--noflush", "--wait", "5"], text).await?;
        if let Some(pod) = self.world().pods.get_mut(uid) {
            pod.rules = Some(ports);
        }
        Ok(())
    }

    /// The pod has ended by itself: its namespaces are gone, its entry stays.
    pub(crate) fn pod_finished(&self, uid: &str) {
        if let Some(pod) = self.world().pods.get_mut(uid) {
            pod.netns = None;
            pod.status.pid = None;
        }
        self.ring();
    }

    /// The pod has ended because it was told to: its entry, its addresses and its folder go.
    pub(crate) async fn pod_gone(&self, uid: &str) {
        {
            let mut world = self.world();
            if let Some(pod) = world.pods.remove(uid) {
                world.addresses.free_pod(&pod.status.addresses);
                // Whoever still talks to the pod is refused by its kernel, instead of talking to nobody.
                if let Some(netns) = pod.netns {
                    tokio::spawn(async move {
                        tokio::time::sleep(NETWORK_LINGER).await;
                        drop(netns);
                    });
                }
            }
        }
        let folder = self.dir.pod(uid).root().to_owned();
        if let Err(err) = tokio::fs::remove_dir_all(&folder).await {
            tracing::warn!(folder = %folder.display(), %err, "a pod's folder could not be removed");
        }
        self.ring();
    }

    /// The command for an image.
    pub(crate) fn image(&self, image: &str) -> Option<Vec<String>> {
        self.world().images.command(image)
    }

    /// The data of a ConfigMap.
    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let world = self.world();
        if name == mesh::ROOT_CERT.0 {
            // It exists in every namespace, as the control plane would write it there.
            let bundle = world.bundle.as_ref()?;
            return Some(BTreeMap::from([(mesh::ROOT_CERT.1.to_owned(), bundle.clone().into_bytes())]));
        }
        let object = &world.objects.get(&Key::of("", "ConfigMap", namespace, name))?.value;
        let mut out = texts(&object["data"]);
        out.extend(decoded(&object["binaryData"]));
        Some(out)
    }

    /// The data of a Secret, decoded.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let world = self.world();
        let object = &world.objects.get(&Key::of("", "Secret", namespace, name))?.value;
        let mut out = decoded(&object["data"]);
        out.extend(texts(&object["stringData"]));
        Some(out)
    }

    /// Signs a token for a pod's service account; returns it and after how many seconds it should be renewed.
    pub(crate) fn sign(
        &self,
        namespace: &str,
        pod: &str,
        pod_uid: &str,
        account: &str,
        audience: &str,
        seconds: Option<u64>,
    ) -> anyhow::Result<(String, u64)> {
        let account_uid = self.world().account_uid(namespace, account);
        let now = u64::try_from(Timestamp::now().as_second()).context("the clock stands before 1970")?;
        let subject = Subject { namespace, pod, pod_uid, account, account_uid: &account_uid };
        self.signer.sign(subject, audience, seconds, now)
    }
}

fn texts(map: &Value) -> BTreeMap<String, Vec<u8>> {
    let entries = map.as_object().into_iter().flatten();
    entries.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.as_bytes().to_vec()))).collect()
}

fn decoded(map: &Value) -> BTreeMap<String, Vec<u8>> {
    let decode = |v: &Value| {
        let text: String = v.as_str()?.split_whitespace().collect();
        STANDARD.decode(text).ok()
    };
    map.as_object().into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), decode(v)?))).collect()
}
