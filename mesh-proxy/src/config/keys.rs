//! The keys that a proxy holds: `address/<ip>` and `host/<name>:<port>`, and how it forgets them.
//!
//! Keys unused for ten minutes go, and beyond [`KEYS_MAX`] the least recently used; never one that a connection or pool
//! holds, and none while the control plane is away (then nobody could be asked again).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mesh_core::config::ResourceName;

/// Keys held at most, absences included.
pub(crate) const KEYS_MAX: usize = mesh_api::limits::KEYS_MAX;
/// Unused for so long, a key is forgotten.
pub(crate) const KEY_UNUSED_MAX: Duration = Duration::from_secs(600);

/// What a proxy asks the control plane about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// What is behind an address.
    Address(IpAddr),
    /// What a host name means on a port: lower case, no port, no trailing dot.
    Host(Arc<str>, u16),
}

impl Key {
    /// The key of a resource, if it is one.
    pub(crate) fn of(name: &ResourceName) -> Option<Self> {
        match name {
            ResourceName::Address(address) => Some(Self::Address(*address)),
            ResourceName::Host(host, port) => Some(Self::Host(Arc::clone(host), *port)),
            _ => None,
        }
    }

    /// The resource to subscribe to.
    pub(crate) fn resource(&self) -> ResourceName {
        match self {
            Self::Address(address) => ResourceName::Address(*address),
            Self::Host(host, port) => ResourceName::Host(Arc::clone(host), *port),
        }
    }
}

/// When a key was last used, and by how many it is held. Shared by all workers.
pub(crate) struct KeyUsage {
    /// Against which `last_used_ms` counts.
    start: Instant,
    last_used_ms: AtomicU64,
    holders: AtomicU32,
}

/// Keeps a key from being forgotten as long as it lives.
pub(crate) struct KeyHold(Arc<KeyUsage>);

impl KeyUsage {
    pub(super) fn new(start: Instant) -> Arc<Self> {
        let usage = Self { start, last_used_ms: AtomicU64::new(0), holders: AtomicU32::new(0) };
        usage.touch();
        Arc::new(usage)
    }

    /// Notes a use.
    pub(crate) fn touch(&self) {
        self.last_used_ms.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub(super) fn hold(this: &Arc<Self>) -> KeyHold {
        this.holders.fetch_add(1, Ordering::Relaxed);
        KeyHold(Arc::clone(this))
    }

    /// How long nobody used or held it; zero while held.
    pub(super) fn unused_for(&self, now: Instant) -> Duration {
        if self.holders.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let last = self.start + Duration::from_millis(self.last_used_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(last)
    }
}

impl Drop for KeyHold {
    fn drop(&mut self) {
        self.0.touch();
        self.0.holders.fetch_sub(1, Ordering::Relaxed);
    }
}
