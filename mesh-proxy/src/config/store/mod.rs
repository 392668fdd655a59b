//! The one writer: resources in, views out.
//!
//! The store holds what the control plane sent (bytes and versions, to be kept over restarts and named on reconnection),
//! knows what must be subscribed to (the keys and everything that they lead to), and builds the next [`View`]. It has no
//! IO and no clock: the caller brings responses, questions and `now`, and carries away subscriptions, rejections and the
//! view. After any change call [`Store::publish`].
//!
//! - [`intake`] takes a response in, resource by resource: one that cannot be used is rejected by name, its predecessor
//!   stays, the others are taken.
//! - [`closure`] says what a key or route table leads to, and whether all of that is known.
//! - [`publish`] moves what is complete into the view (make before break) and answers who waits.
//! - [`forget`] drops keys that nobody uses; [`snapshot`] is what is kept over a restart.

mod closure;
mod forget;
mod intake;
mod publish;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_core::config::{
    AddressAnswer, Endpoint, HostAnswer, Inbound, MeshSettings, ResourceName, RouteTable, Service, ServiceName,
};
use tokio::sync::oneshot;

use super::cluster::Place;
use super::discovery::DiscoveryError;
use super::keys::{Key, KeyUsage};
use super::view::{View, Views};

pub(super) use intake::Incoming;
pub(super) use publish::Published;

/// How long a working route table or answer is kept when its successor leads to something that is not there.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(60);

/// Everything that is held, and the view that is made of it.
pub(super) struct Store {
    /// Against which usage of keys is counted.
    start: Instant,
    /// The own workload's uid.
    uid: Arc<str>,
    /// Where we run and our labels: from the pod, then from the own Inbound.
    place: Arc<Place>,
    views: Views,
    /// The view as published last; changed in place (its maps are shared with readers and copied when written).
    view: View,

    /// What was taken in, as it came.
    held: HashMap<ResourceName, Saved>,
    /// What the control plane says does not exist.
    absent: HashSet<ResourceName>,
    settings: Option<Arc<MeshSettings>>,
    inbound: Option<Arc<Inbound>>,
    addresses: HashMap<IpAddr, Newest<AddressAnswer>>,
    hosts: HashMap<(Arc<str>, u16), Newest<HostAnswer>>,
    services: HashMap<ServiceName, Arc<Service>>,
    collections: HashMap<ServiceName, Collection>,
    tables: HashMap<ServiceName, Newest<Arc<RouteTable>>>,

    keys: HashMap<Key, KeyState>,
    /// What the stream was told to subscribe to.
    subscribed: BTreeSet<ResourceName>,
    /// Whether the stream to the control plane is up.
    connected: bool,
    dirty: Dirty,
}

/// A resource as it came: kept to be saved, and its version to be named on reconnection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) version: String,
    pub(super) type_url: String,
    pub(super) bytes: Bytes,
}

/// The newest value that came, perhaps not in use yet.
struct Newest<T> {
    value: T,
    /// When it came; bounds how long its predecessor is kept.
    since: Instant,
}

/// The members of a service's collection, as far as they came.
#[derive(Default)]
struct Collection {
    members: Arc<BTreeMap<Arc<str>, Arc<Endpoint>>>,
    /// Whether the first answer came to its end. Only then the members say anything.
    complete: bool,
}

/// A key that somebody asked about.
struct KeyState {
    usage: Arc<KeyUsage>,
    /// It was in the set that was kept over a restart; readiness waits for it.
    saved: bool,
    waiters: Vec<oneshot::Sender<Result<(), DiscoveryError>>>,
}

/// What the next [`Store::publish`] must look at.
#[derive(Default)]
struct Dirty {
    /// What is to be subscribed to may have changed.
    closure: bool,
    /// Something may have become complete.
    settle: bool,
    settings: bool,
    inbound: bool,
    /// Services whose description or endpoints changed.
    services: HashSet<ServiceName>,
    /// Something was taken out of the view.
    withdrawn: bool,
    /// The saved copy is behind.
    save: bool,
}

impl Store {
    /// An empty store for the workload with this uid and these labels.
    pub(super) fn new(uid: Arc<str>, labels: BTreeMap<String, String>, now: Instant) -> Self {
        let view = View::default();
        Self {
            start: now,
            uid,
            place: Arc::new(Place { labels, ..Place::default() }),
            views: Views::new(view.clone()),
            view,
            held: HashMap::new(),
            absent: HashSet::new(),
            settings: None,
            inbound: None,
            addresses: HashMap::new(),
            hosts: HashMap::new(),
            services: HashMap::new(),
            collections: HashMap::new(),
            tables: HashMap::new(),
            keys: HashMap::new(),
            subscribed: BTreeSet::new(),
            connected: false,
            dirty: Dirty { closure: true, ..Dirty::default() },
        }
    }

    /// The view as published last.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Whether the control plane says that the pod is ending.
    pub(super) fn is_draining(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| inbound.draining)
    }

    /// Where the views that it makes are read.
    pub(super) fn views(&self) -> Views {
        self.views.clone()
    }

    /// Notes whether the stream is up. While it is not, no key is forgotten.
    pub(super) fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    /// Asks for a key. `answered` gets its answer with a later [`publish`](Self::publish): `Ok` once the view holds the
    /// key and everything that it leads to.
    pub(super) fn ask(&mut self, key: Key, answered: oneshot::Sender<Result<(), DiscoveryError>>, now: Instant) {
        if !self.keys.contains_key(&key) && !self.make_room(now) {
            let _ = answered.send(Err(DiscoveryError::TooManyKeys));
            return;
        }
        let state = self.key_state(key, false);
        state.usage.touch();
        state.waiters.retain(|waiter| !waiter.is_closed());
        state.waiters.push(answered);
        self.dirty.closure = true;
        self.dirty.settle = true;
    }

    fn key_state(&mut self, key: Key, saved: bool) -> &mut KeyState {
        let start = self.start;
        self.keys.entry(key).or_insert_with(|| KeyState { usage: KeyUsage::new(start), saved, waiters: Vec::new() })
    }

    /// Keys kept over a restart that the view does not hold (yet): readiness waits for them.
    pub(super) fn saved_keys_missing(&self) -> usize {
        self.keys.iter().filter(|(key, state)| state.saved && !self.in_view(key)).count()
    }

    fn in_view(&self, key: &Key) -> bool {
        match key {
            Key::Address(address) => self.view.addresses.contains_key(address),
            Key::Host(name, port) => self.view.hosts.contains_key(&(Arc::clone(name), *port)),
        }
    }

    /// Everything subscribed to, for the first requests on a new stream.
    pub(super) fn subscribed(&self) -> &BTreeSet<ResourceName> {
        &self.subscribed
    }

    /// Names and versions of everything held, for the first requests on a new stream.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&ResourceName, &str)> {
        self.held.iter().map(|(name, saved)| (name, saved.version.as_str()))
    }
}
