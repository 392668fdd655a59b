//! The task that feeds the index and decides when changes are published.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::Index;
use crate::publish::Debounce;
use crate::watch::Event;

/// Applies events until the source ends.
pub(crate) async fn run(index: Arc<Index>, mut events: mpsc::Receiver<Vec<Event>>) {
    let mut debounce = Debounce::default();
    loop {
        let due = debounce.due();
        let wait = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            batch = events.recv() => {
                let Some(batch) = batch else { return };
                let barriers = index.apply(batch, Instant::now());
                if index.has_pending() {
                    debounce.changed();
                    if !barriers.is_empty() {
                        index.publish();
                        debounce.published(Instant::now());
                    }
                }
                for barrier in barriers {
                    // Whoever asked may have gone.
                    let _ = barrier.send(());
                }
            }
            () = wait => {
                index.publish();
                debounce.published(Instant::now());
            }
        }
    }
}
