//! Everything that a supervisor knows: the objects that people applied and the pods that run.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::images::Images;
use crate::names;
use crate::net::addresses::Addresses;
use crate::net::netns::Netns;
use crate::net::services::VirtualPort;
use crate::objects::kinds::{self, Role};
use crate::objects::manifest::{Key, Object};
use crate::objects::spec::PodSpec;
use crate::pod::status::PodStatus;

/// The most objects that a sandbox holds.
pub(crate) const OBJECTS_MAX: usize = 20_000;

/// One pod.
pub(crate) struct PodEntry {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Metadata and specification, as admitted.
    pub(crate) object: Value,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
    /// The Deployment that it belongs to, and the hash of the template that it was made from.
    pub(crate) owner: Option<(Key, String)>,
    /// The hash of the specification of a Pod that a person wrote.
    pub(crate) written: Option<u64>,
    /// When it is to be gone, and its grace period in seconds.
    pub(crate) deletion: Option<(Timestamp, u64)>,
    pub(crate) stop: watch::Sender<Option<u64>>,
    pub(crate) netns: Option<Netns>,
    /// The Services' rules that its nat table has.
    pub(crate) rules: Option<Vec<VirtualPort>>,
    /// What of its specification is not obeyed.
    pub(crate) ignored: Vec<String>,
}

impl PodEntry {
    /// Whether it is on its way out.
    pub(crate) fn terminating(&self) -> bool {
        self.deletion.is_some()
    }

    /// Whether it takes connections and is not on its way out.
    pub(crate) fn available(&self) -> bool {
        !self.terminating() && self.status.ready()
    }

    /// Begins its end.
    pub(crate) fn terminate(&mut self, grace: Option<u64>) {
        if self.terminating() {
            return;
        }
        let own = self.spec.termination_grace_period_seconds.unwrap_or(crate::pod::lifecycle::GRACE_SECONDS);
        let grace = grace.unwrap_or(own);
        self.deletion = Some((Timestamp::now(), grace));
        self.stop.send_replace(Some(grace));
    }

    /// The object with its status, as the API server would show it.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = self.object.clone();
        if let Some((at, grace)) = &self.deletion {
            // Kubernetes writes the time at which the pod is to be gone.
            let end =
                at.checked_add(jiff::SignedDuration::from_secs(i64::try_from(*grace).unwrap_or(0))).unwrap_or(*at);
            object["metadata"]["deletionTimestamp"] = end.to_string().into();
            object["metadata"]["deletionGracePeriodSeconds"] = (*grace).into();
        }
        object["status"] = self.status.to_json();
        object
    }
}

/// A Service that is published on the machine's loopback address.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// The Service's port.
    pub port: u16,
    /// The port on 127.0.0.1.
    pub local_port: u16,
}

/// All of it.
pub(crate) struct World {
    pub(crate) objects: BTreeMap<Key, Object>,
    /// By uid.
    pub(crate) pods: BTreeMap<String, PodEntry>,
    pub(crate) images: Images,
    pub(crate) addresses: Addresses,
    /// The Services' rules that every pod should have.
    pub(crate) ports: Vec<VirtualPort>,
    /// What of each object is not obeyed.
    pub(crate) ignored: BTreeMap<Key, Vec<String>>,
    pub(crate) published: Vec<Published>,
    /// Objects of which no pod could be made, and why.
    pub(crate) problems: BTreeMap<Key, String>,
    /// Whether a control plane runs here.
    pub(crate) mesh: bool,
    /// The control plane's trust bundle, once there is one.
    pub(crate) bundle: Option<String>,
    /// The sandbox ends: no pod is started any more.
    pub(crate) closing: bool,
}

impl World {
    pub(crate) fn new(v6: bool) -> Self {
        Self {
            objects: BTreeMap::new(),
            pods: BTreeMap::new(),
            images: Images::default(),
            addresses: Addresses::new(v6),
            ports: Vec::new(),
            ignored: BTreeMap::new(),
            published: Vec::new(),
            problems: BTreeMap::new(),
            mesh: false,
            bundle: None,
            closing: false,
        }
    }

    /// Creates or changes an object, with what an API server would add; says which: `created`, `configured`, `unchanged`.
    pub(crate) fn apply(&mut self, mut object: Object) -> &'static str {
        let key = object.key.clone();
        let role = kinds::role(object.value["apiVersion"].as_str().unwrap_or_default(), &key.kind);
        let old = self.objects.get(&key);
        if role == Role::Sandbox {
            let kept = |field: &str| old.map(|o| o.value["metadata"][field].clone()).filter(|v| !v.is_null());
            object.value["metadata"]["uid"] = kept("uid").unwrap_or_else(|| names::uid().into());
            object.value["metadata"]["creationTimestamp"] =
                kept("creationTimestamp").unwrap_or_else(|| Timestamp::now().to_string().into());
            if let Some(map) = object.value.as_object_mut() {
                map.remove("status");
            }
        }
        let old_address = old.and_then(Self::service_address);
        if role == Role::Sandbox && key.kind == "Service" {
            self.give_address(&mut object, old_address);
        }
        let ignored = match role {
            Role::Ignored => vec![format!("nothing here acts on the kind {}", key.kind)],
            _ => ignored_of(&object),
        };
        if ignored.is_empty() {
            self.ignored.remove(&key);
        } else {
            self.ignored.insert(key.clone(), ignored);
        }
        self.problems.remove(&key);
        let same = self.objects.get(&key).map(|old| old.value == object.value);
        self.objects.insert(key.clone(), object);
        self.ensure_namespace(&key.namespace);
        match same {
            None => "created",
            Some(true) => "unchanged",
            Some(false) => "configured",
        }
    }

    /// Deletes an object, and with a Namespace what is in it; says whether it was there.
    pub(crate) fn delete(&mut self, key: &Key) -> bool {
        let Some(object) = self.objects.remove(key) else { return false };
        if let Some(address) = Self::service_address(&object)
            && key.kind == "Service"
        {
            self.addresses.free_service(address);
        }
        self.ignored.remove(key);
        self.problems.remove(key);
        if key.kind == "Namespace" {
            let inside: Vec<Key> = self.objects.keys().filter(|k| k.namespace == key.name).cloned().collect();
            for key in inside {
                self.delete(&key);
            }
        }
        true
    }

    /// A namespace that is used but was not written exists nevertheless, without labels.
    fn ensure_namespace(&mut self, name: &str) {
        let key = Key::of("", "Namespace", "", name);
        if name.is_empty() || self.objects.contains_key(&key) {
            return;
        }
        let value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "uid": names::uid(), "creationTimestamp": Timestamp::now().to_string(),
        }});
        let object = Object { key: key.clone(), value, text: None, file: "the sandbox itself".into(), line: 1 };
        self.objects.insert(key, object);
    }

    fn give_address(&mut self, service: &mut Object, old: Option<Ipv4Addr>) {
        let spec = &mut service.value["spec"];
        let none = spec["clusterIP"] == "None" || spec["type"] == "ExternalName";
        let asked = spec["clusterIP"].as_str().and_then(|a| a.parse().ok());
        let keep = old.filter(|o| !none && asked.is_none_or(|a| a == *o));
        if let Some(old) = old.filter(|o| keep != Some(*o)) {
            self.addresses.free_service(old);
        }
        if none {
            return;
        }
        let Some(address) = keep.or_else(|| self.addresses.take_service(asked)) else {
            self.problems.insert(service.key.clone(), "all Service addresses are used".into());
            return;
        };
        spec["clusterIP"] = address.to_string().into();
        spec["clusterIPs"] = json!([address.to_string()]);
    }

    /// Objects of one of Kubernetes' kinds.
    pub(crate) fn of_kind(&self, group: &str, kind: &str) -> impl Iterator<Item = &Object> {
        self.objects.values().filter(move |o| o.key.kind == kind && o.key.group == group)
    }

    /// The labels of a namespace.
    pub(crate) fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let object = self.objects.get(&Key::of("", "Namespace", "", namespace));
        let labels = object.and_then(|o| o.value["metadata"]["labels"].as_object());
        let mut out: BTreeMap<String, String> =
            labels.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
        out.insert("kubernetes.io/metadata.name".into(), namespace.into());
        out
    }

    /// The uid of a service account; those that nobody wrote have one too.
    pub(crate) fn account_uid(&self, namespace: &str, account: &str) -> String {
        let object = self.objects.get(&Key::of("", "ServiceAccount", namespace, account));
        let uid = object.and_then(|o| o.value["metadata"]["uid"].as_str());
        uid.map_or_else(|| names::stable_uid(&format!("{namespace}/{account}")), str::to_owned)
    }

    /// The address that was given to a Service; `None` for a headless one and for an ExternalName.
    pub(crate) fn service_address(object: &Object) -> Option<Ipv4Addr> {
        object.value["spec"]["clusterIP"].as_str()?.parse().ok()
    }

    /// The pod that a person means by `name`: its exact name, or a Deployment's name or the beginning of one pod's name.
    pub(crate) fn find_pod(&self, namespace: Option<&str>, name: &str) -> Result<String, String> {
        let name = name.strip_prefix("pod/").or_else(|| name.strip_prefix("deploy/")).unwrap_or(name);
        let (namespace, name) = match name.split_once('/') {
            Some((ns, name)) => (Some(ns), name),
            None => (namespace, name),
        };
        let mine = |p: &&PodEntry| namespace.is_none_or(|ns| p.namespace == ns);
        let pods = || self.pods.iter().filter(|(_, p)| mine(p));
        let mut similar: Vec<_> = pods().filter(|(_, p)| p.name == name).collect();
        if similar.is_empty() {
            let of_deployment = |p: &PodEntry| p.owner.as_ref().is_some_and(|(d, _)| d.name == name);
            similar = pods().filter(|(_, p)| !p.terminating() && of_deployment(p)).collect();
        }
        if similar.is_empty() {
            similar = pods().filter(|(_, p)| !p.terminating() && p.name.starts_with(name)).collect();
        }
        match similar.as_slice() {
            [] => Err(format!("there is no pod {name:?}; `meshctl sandbox get pods -A` lists them")),
            [(uid, _)] => Ok((*uid).clone()),
            // A Deployment's name means any of its pods, as in kubectl; a ready one serves best.
            [(_, first), ..] if first.owner.is_some() && similar.iter().all(|(_, p)| same_deployment(first, p)) => {
                let best = similar.iter().find(|(_, p)| p.status.ready()).unwrap_or(&similar[0]);
                Ok(best.0.clone())
            }
            several => {
                let names: Vec<_> = several.iter().map(|(_, p)| format!("{}/{}", p.namespace, p.name)).collect();
                Err(format!("{name:?} may be any of {}; write more of its name, or -n NAMESPACE", names.join(", ")))
            }
        }
    }
}

fn same_deployment(a: &PodEntry, b: &PodEntry) -> bool {
    match (&a.owner, &b.owner) {
        (Some((a, _)), Some((b, _))) => a == b,
        _ => false,
    }
}

/// Fields of an object, other than a pod's specification, that the sandbox does not act on.
fn ignored_of(object: &Object) -> Vec<String> {
    let spec = &object.value["spec"];
    let known: &[&str] = match object.key.kind.as_str() {
        "Service" => &[
            "selector",
            "ports",
            "clusterIP",
            "clusterIPs",
            "type",
            "externalName",
            "publishNotReadyAddresses",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ],
        "Deployment" => {
            &["replicas", "selector", "template", "strategy", "revisionHistoryLimit", "progressDeadlineSeconds"]
        }
        _ => return Vec::new(),
    };
    let unknown = spec.as_object().into_iter().flat_map(|m| m.keys()).filter(|k| !known.contains(&k.as_str()));
    let mut out: Vec<String> = unknown.map(|k| format!("spec.{k}")).collect();
    if let Some(kind) = spec["type"].as_str().filter(|t| matches!(*t, "NodePort" | "LoadBalancer")) {
        out.push(format!("spec.type {kind} (treated as ClusterIP; `--publish` makes it reachable from outside)"));
    }
    out
}
