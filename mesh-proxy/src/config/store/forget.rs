//! Forgetting keys: those that nobody used for long, and the least recently used where there are too many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Store;
use crate::config::keys::{KEY_UNUSED_MAX, KEYS_MAX, Key};

/// How many go at once when room is needed, so that a proxy at its limit does not search for each new key.
const EVICTED_AT_ONCE: usize = 64;

impl Store {
    /// Forgets keys that were unused for [`KEY_UNUSED_MAX`]. Does nothing while the stream is down: nobody could be asked
    /// again.
    pub(in crate::config) fn forget_unused(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        let unused: Vec<Key> = self
            .keys
            .iter()
            .filter(|(_, state)| state.usage.unused_for(now) >= KEY_UNUSED_MAX)
            .map(|(key, _)| key.clone())
            .collect();
        self.forget(unused);
    }

    /// Makes room for one more key. `false`: all are in use.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        if self.keys.len() < KEYS_MAX {
            return true;
        }
        // While the stream is down, what has an answer stays; questions without one may go.
        let mut candidates: Vec<(Duration, Key)> = self
            .keys
            .iter()
            .filter(|(key, _)| self.connected || !self.in_view(key))
            .map(|(key, state)| (state.usage.unused_for(now), key.clone()))
            .filter(|(unused, _)| !unused.is_zero())
            .collect();
        candidates.sort_by_key(|(unused, _)| std::cmp::Reverse(*unused));
        candidates.truncate(EVICTED_AT_ONCE);
        let evicted: Vec<Key> = candidates.into_iter().map(|(_, key)| key).collect();
        let any = !evicted.is_empty();
        self.forget(evicted);
        any
    }

    fn forget(&mut self, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        for key in keys {
            self.keys.remove(&key);
            match &key {
                Key::Address(address) => {
                    self.addresses.remove(address);
                    Arc::make_mut(&mut self.view.addresses).remove(address);
                }
                Key::Host(name, port) => {
                    let host = (Arc::clone(name), *port);
                    self.hosts.remove(&host);
                    Arc::make_mut(&mut self.view.hosts).remove(&host);
                }
            }
        }
        self.dirty.closure = true;
        self.dirty.withdrawn = true;
    }
}
