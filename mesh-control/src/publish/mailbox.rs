//! How a stream learns that something changed: marks on names, not values, so that however slow the stream is, there is
//! at most one mark per name.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use mesh_core::config::ResourceName;
use tokio::sync::Notify;

/// Names that changed, with the time of the first change that the stream has not seen.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// What is sent before everything else.
    pub(crate) urgent: BTreeMap<ResourceName, Instant>,
    /// The rest.
    pub(crate) normal: BTreeMap<ResourceName, Instant>,
    /// Counts marking: two equal numbers mean that nothing was marked between.
    pub(crate) count: u64,
}

/// The marks of one stream. Bounded by what the stream subscribes to.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    marks: Mutex<Marks>,
    wake: Notify,
}

impl Mailbox {
    pub(super) fn mark(&self, names: &[ResourceName], changed: Instant, urgent: bool) {
        {
            let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let lane = if urgent { &mut marks.urgent } else { &mut marks.normal };
            for name in names {
                lane.entry(name.clone()).or_insert(changed);
            }
            marks.count += 1;
        }
        self.wake.notify_one();
    }

    /// Waits until something was marked since the last [`take`](Self::take); may wake without.
    pub(crate) async fn marked(&self) {
        self.wake.notified().await;
    }

    /// Takes all marks.
    pub(crate) fn take(&self) -> Marks {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let count = marks.count;
        std::mem::replace(&mut *marks, Marks { count, ..Marks::default() })
    }

    /// How often something was marked.
    pub(crate) fn count(&self) -> u64 {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}
