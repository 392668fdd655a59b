//! To and from the saved copy.

use std::time::Instant;

use mesh_api::proto::Any;
use mesh_core::config::ResourceName;

use super::{Incoming, Key, Store};

impl Store {
    /// Takes in what an earlier run of this workload's proxy saved; publishes it. Its keys count for readiness.
    pub(in crate::config) fn restore(&mut self, incoming: Incoming, now: Instant) {
        let names = incoming.resources.iter().map(|(name, ..)| name).chain(&incoming.removed);
        let names: Vec<ResourceName> = names.filter_map(|name| name.parse().ok()).collect();
        for name in names {
            if let Some(key) = Key::of(&name) {
                self.key_state(key, true);
            }
            // What nothing leads to any more is dropped again by the publication.
            self.subscribed.insert(match name {
                ResourceName::Endpoint(service, _) => ResourceName::Endpoints(service),
                other => other,
            });
        }
        for rejected in self.apply(incoming, now) {
            tracing::warn!(name = rejected.name, reason = rejected.reason, "a saved resource cannot be used");
        }
        self.dirty.closure = true;
        self.publish(now);
    }

    /// What is to be saved.
    pub(in crate::config) fn snapshot(&self) -> Incoming {
        let resources = self.held.iter().map(|(name, saved)| {
            let any = Any { type_url: saved.type_url.clone(), value: saved.bytes.clone() };
            (name.to_string(), saved.version.clone(), any)
        });
        Incoming { resources: resources.collect(), removed: self.absent.iter().map(ToString::to_string).collect() }
    }
}
