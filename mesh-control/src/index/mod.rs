//! The objects that exist now, and what is published of them: the one synchronous heart of the control plane.
//!
//! Events come in from a source, a change gives the resources that it touches, and only those are compiled again that
//! somebody holds. Streams subscribe and look up here. One lock, never held across an await, guards it all; compiling a
//! resource takes microseconds.

mod owner;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use mesh_api::Encoded;
use mesh_compile::{Affected, ObjectRef, Objects, Options, Problem, Resource};
use mesh_core::config::{ResourceName, ServiceName};
use mesh_core::identity::SpiffeId;
use mesh_crd::AnyObject;
use tokio::sync::watch;

pub(crate) use owner::run;

use crate::metrics::Metrics;
use crate::publish::{Mailbox, Published, StreamId, View, is_absent};
use crate::watch::{Barrier, Event, FileProblem, Loaded};

/// The shared index.
pub(crate) struct Index {
    inner: Mutex<Inner>,
    /// Counts publications; whoever waits for an object waits for the next.
    generation: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

struct Inner {
    objects: Objects,
    loaded: BTreeMap<ObjectRef, Arc<Loaded>>,
    published: Published,
    pending: Affected,
    pending_since: Option<Instant>,
    files: Vec<FileProblem>,
    pod_prefixes: BTreeSet<IpNet>,
    synced: bool,
    streams: u64,
}

/// Length of the prefixes in which pods are expected where one was seen: what clusters give to all their pods.
const POD_PREFIX_V4: u8 = 16;
const POD_PREFIX_V6: u8 = 56;
/// Most prefixes that are remembered.
const POD_PREFIXES_MAX: usize = 4_096;

impl Index {
    pub(crate) fn new(options: Options, metrics: Arc<Metrics>) -> Arc<Self> {
        let inner = Inner {
            objects: Objects::new(options),
            loaded: BTreeMap::new(),
            published: Published::default(),
            pending: Affected::default(),
            pending_since: None,
            files: Vec::new(),
            pod_prefixes: BTreeSet::new(),
            synced: false,
            streams: 0,
        };
        Arc::new(Self { inner: Mutex::new(inner), generation: watch::Sender::new(0), metrics })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while compiling one resource must not stop configuration for everybody.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes events in. Endpoints that are gone are published at once; the rest waits for [`publish`](Self::publish).
    ///
    /// Returns the barriers among the events, to be answered when everything before them is published.
    pub(crate) fn apply(&self, events: Vec<Event>, now: Instant) -> Vec<Barrier> {
        let mut barriers = Vec::new();
        let mut inner = self.lock();
        let mut urgent = Affected::default();
        for event in events {
            let (kind, affected) = match event {
                Event::Apply(loaded) => {
                    let reference = loaded.reference();
                    inner.expect_pods_beside(&loaded.object);
                    let affected = inner.objects.apply(loaded.object.clone());
                    let kind = reference.kind.clone();
                    inner.loaded.insert(reference, loaded);
                    (kind, affected)
                }
                Event::Moved(loaded) => {
                    inner.loaded.insert(loaded.reference(), loaded);
                    continue;
                }
                Event::Remove(reference) => {
                    inner.loaded.remove(&reference);
                    let affected = inner.objects.remove(&reference.kind, &reference.key);
                    (reference.kind, affected)
                }
                Event::Files(problems) => {
                    inner.files = problems;
                    continue;
                }
                Event::Synced => {
                    inner.synced = true;
                    // Streams wait for it as for a publication.
                    self.generation.send_modify(|generation| *generation += 1);
                    continue;
                }
                Event::Barrier(barrier) => {
                    barriers.push(barrier);
                    continue;
                }
            };
            if is_lifecycle(&kind) {
                urgent.merge(affected.clone());
            }
            inner.pending.merge(affected);
        }
        self.metrics.objects.set(inner.loaded.len() as u64);
        if !inner.pending.is_empty() {
            inner.pending_since.get_or_insert(now);
        }
        if !urgent.is_empty() {
            let Inner { objects, published, .. } = &mut *inner;
            published.refresh_urgent(objects, &urgent, now);
        }
        barriers
    }

    /// Compiles what pending changes touch, and tells the streams.
    pub(crate) fn publish(&self) {
        let begun = Instant::now();
        let mut inner = self.lock();
        let affected = std::mem::take(&mut inner.pending);
        let since = inner.pending_since.take().unwrap_or(begun);
        let Inner { objects, published, .. } = &mut *inner;
        let compiled = published.refresh(objects, &affected, since);
        self.metrics.published.set(published.len() as u64);
        drop(inner);
        self.metrics.compiled.add(compiled as u64);
        self.metrics.compile_seconds.observe(begun.elapsed());
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Whether the source has delivered everything that there was at the start.
    pub(crate) fn is_synced(&self) -> bool {
        self.lock().synced
    }

    /// Changes with every publication.
    pub(crate) fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The identity of a pod; `None` while it is not known. Nothing is known before the source has delivered everything
    /// that there was: a half-read mesh would tell proxies that the other half is gone.
    pub(crate) fn identity_of(&self, uid: &str) -> Option<SpiffeId> {
        let inner = self.lock();
        match inner.objects.compile("", &ResourceName::Inbound(uid.into())).filter(|_| inner.synced)? {
            Resource::Inbound(inbound) => Some(inbound.identity.clone()),
            _ => None,
        }
    }

    /// The pod's `<namespace>, <name>`, for people.
    pub(crate) fn pod_of(&self, uid: &str) -> Option<(String, String)> {
        match self.lock().objects.compile("", &ResourceName::Inbound(uid.into()))? {
            Resource::Inbound(inbound) => Some((inbound.identity.namespace().to_owned(), inbound.workload.pod.clone())),
            _ => None,
        }
    }

    /// Registers a stream.
    pub(crate) fn open(&self, view: View, mailbox: Arc<Mailbox>) -> StreamId {
        let mut inner = self.lock();
        inner.streams += 1;
        let stream = StreamId(inner.streams);
        inner.published.open(stream, view, mailbox);
        stream
    }

    /// Ends a stream and its subscriptions.
    pub(crate) fn close<'a>(&self, stream: StreamId, names: impl Iterator<Item = &'a ResourceName>) {
        self.lock().published.close(stream, names);
    }

    pub(crate) fn subscribe(&self, stream: StreamId, name: &ResourceName) {
        let mut inner = self.lock();
        let Inner { objects, published, .. } = &mut *inner;
        published.subscribe(objects, stream, name);
    }

    pub(crate) fn unsubscribe(&self, stream: StreamId, name: &ResourceName) {
        self.lock().published.unsubscribe(stream, name);
    }

    /// The newest form of a resource that the stream's view subscribes to.
    pub(crate) fn get(&self, view: &View, name: &ResourceName) -> Option<Arc<Encoded>> {
        self.lock().published.get(view, name)
    }

    pub(crate) fn members(&self, view: &View, service: &ServiceName) -> Vec<Arc<str>> {
        self.lock().published.members(view, service)
    }

    /// Whether a resource exists for a view, subscribed or not.
    pub(crate) fn exists(&self, view: &View, name: &ResourceName) -> bool {
        self.lock().objects.compile(view, name).is_some()
    }

    /// Whether an address is said to be absent although it lies where pods are: one may just have started.
    pub(crate) fn may_appear(&self, view: &View, name: &ResourceName) -> bool {
        let ResourceName::Address(ip) = name else { return false };
        let inner = self.lock();
        inner.pod_prefixes.contains(&pod_prefix(*ip))
            && inner.objects.compile(view, name).is_some_and(|resource| is_absent(&resource))
    }

    /// All objects with their places, and what is wrong with files.
    pub(crate) fn loaded(&self) -> (Vec<Arc<Loaded>>, Vec<FileProblem>) {
        let inner = self.lock();
        (inner.loaded.values().cloned().collect(), inner.files.clone())
    }

    /// The compiler's problems with one object.
    pub(crate) fn validate(&self, object: &ObjectRef) -> Vec<Problem> {
        self.lock().objects.validate(object)
    }

    fn has_pending(&self) -> bool {
        !self.lock().pending.is_empty()
    }
}

impl Inner {
    fn expect_pods_beside(&mut self, object: &AnyObject) {
        let AnyObject::Pod(pod) = object else { return };
        let status = &pod.spec.status;
        let texts = status.pod_ips.iter().map(|one| &one.ip).chain([&status.pod_ip]);
        for ip in texts.filter_map(|text| text.parse::<IpAddr>().ok()) {
            if self.pod_prefixes.len() < POD_PREFIXES_MAX {
                self.pod_prefixes.insert(pod_prefix(ip));
            }
        }
    }
}

fn pod_prefix(ip: IpAddr) -> IpNet {
    let length = if ip.is_ipv4() { POD_PREFIX_V4 } else { POD_PREFIX_V6 };
    IpNet::new(ip, length).expect("invariant: both lengths fit their family").trunc()
}

/// Kinds whose changes say that a workload ends or no longer serves.
fn is_lifecycle(kind: &str) -> bool {
    matches!(kind, "Pod" | "EndpointSlice" | "WorkloadEntry")
}
