//! Who is connected, and how far each is: what `GET /v1/proxies` and `meshctl proxy-status` show.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mesh_api::Rejected;
use mesh_core::config::ResourceKind;
use mesh_core::identity::SpiffeId;

use super::session::Sync;
use crate::metrics::Metrics;
use crate::publish::StreamId;

/// Streams at once.
const STREAMS_MAX: usize = 16_384;
/// Streams of one pod at once: one, and those that have not noticed yet that they are dead.
const STREAMS_PER_POD_MAX: usize = 4;

/// A connected proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) uid: Arc<str>,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) identity: SpiffeId,
    pub(crate) address: Option<IpAddr>,
    pub(crate) connected_at: SystemTime,
    pub(crate) version: String,
    pub(crate) types: BTreeMap<ResourceKind, Sync>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) credential_expires: Option<SystemTime>,
}

/// All connected proxies.
pub(crate) struct Proxies {
    streams: Mutex<HashMap<StreamId, Proxy>>,
    metrics: Arc<Metrics>,
}

impl Proxies {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { streams: Mutex::default(), metrics })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamId, Proxy>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a proxy.
    ///
    /// # Errors
    /// Why it cannot be: a bound is reached.
    pub(super) fn add(&self, stream: StreamId, proxy: Proxy) -> Result<(), &'static str> {
        let mut streams = self.lock();
        if streams.len() >= STREAMS_MAX {
            return Err("too many proxies are connected to this control plane");
        }
        if streams.values().filter(|other| other.uid == proxy.uid).count() >= STREAMS_PER_POD_MAX {
            return Err("this pod has too many streams already");
        }
        streams.insert(stream, proxy);
        self.metrics.proxies.set(streams.len() as u64);
        Ok(())
    }

    pub(super) fn remove(&self, stream: StreamId) {
        let mut streams = self.lock();
        streams.remove(&stream);
        self.metrics.proxies.set(streams.len() as u64);
    }

    pub(super) fn update(&self, stream: StreamId, types: BTreeMap<ResourceKind, Sync>, rejected: Vec<Rejected>) {
        if let Some(proxy) = self.lock().get_mut(&stream) {
            (proxy.types, proxy.rejected) = (types, rejected);
        }
    }

    /// All of them, by namespace and pod.
    pub(crate) fn list(&self) -> Vec<Proxy> {
        let mut all: Vec<Proxy> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| (&a.namespace, &a.pod, a.connected_at).cmp(&(&b.namespace, &b.pod, b.connected_at)));
        all
    }
}
