//! Who is connected, and how far each is: what `GET /v1/proxies` and `meshctl proxy-status` show.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mesh_api::Rejected;
use mesh_core::config::ResourceKind;
use mesh_core::identity::SpiffeId;
use tokio_util::sync::CancellationToken;

use super::session::Sync;
use crate::metrics::Metrics;
use crate::publish::{Mailbox, StreamId};

/// Streams of one pod at once: one, and those that have not noticed yet that they are dead. A further one ends the
/// oldest.
const STREAMS_PER_POD_MAX: usize = 3;

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
    /// What was marked for it, and how much of that `types` knows.
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) seen: u64,
    pub(crate) credential_expires: Option<SystemTime>,
    /// Ends this stream.
    pub(crate) stop: CancellationToken,
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

    pub(super) fn add(&self, stream: StreamId, proxy: Proxy) {
        let mut streams = self.lock();
        let others = || streams.iter().filter(|(_, other)| other.uid == proxy.uid && !other.stop.is_cancelled());
        if others().count() >= STREAMS_PER_POD_MAX
            && let Some((_, oldest)) = others().min_by_key(|(id, _)| **id)
        {
            oldest.stop.cancel();
        }
        streams.insert(stream, proxy);
        self.metrics.proxies.set(streams.len() as u64);
    }

    pub(super) fn remove(&self, stream: StreamId) {
        let mut streams = self.lock();
        streams.remove(&stream);
        self.metrics.proxies.set(streams.len() as u64);
    }

    pub(super) fn update(
        &self,
        stream: StreamId,
        types: BTreeMap<ResourceKind, Sync>,
        rejected: Vec<Rejected>,
        seen: u64,
    ) {
        if let Some(proxy) = self.lock().get_mut(&stream) {
            (proxy.types, proxy.rejected, proxy.seen) = (types, rejected, seen);
        }
    }

    /// Whether every proxy has acknowledged everything that is published.
    pub(crate) fn in_sync(&self) -> bool {
        let waits = |proxy: &Proxy| proxy.types.values().any(|sync| matches!(sync, Sync::Pending));
        !self.lock().values().any(|proxy| waits(proxy) || proxy.seen != proxy.mailbox.count())
    }

    /// All of them, by namespace and pod.
    pub(crate) fn list(&self) -> Vec<Proxy> {
        let mut all: Vec<Proxy> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| (&a.namespace, &a.pod, a.connected_at).cmp(&(&b.namespace, &b.pod, b.connected_at)));
        all
    }
}
