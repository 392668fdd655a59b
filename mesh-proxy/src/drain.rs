//! The end of a proxy's life, in steps that never go back.
//!
//! Three things can begin it: the control plane, which sees the pod's deletion first (`draining` in the own Inbound);
//! `mesh-proxy drain`, which is the container's preStop hook; and TERM. The first two begin only the *inbound* drain:
//! clients are told (Connection: close, GOAWAY) and listeners stay open. TERM, which a native sidecar gets only after the
//! last application container has ended, also ends outbound. What is in flight then gets the rest of the grace period,
//! less a second.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Serving.
    Running,
    /// Inbound tells its clients to go elsewhere; everything is still accepted and served.
    Draining,
    /// TERM came: nothing new is accepted once the listeners' queues are empty; in flight ends by the deadline.
    Stopping {
        /// When the process exits at the latest.
        deadline: Instant,
    },
}

/// Moves the stage forward. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Drain(watch::Sender<Stage>);

/// Sees the stage. Cheap to clone; for any thread.
#[derive(Clone)]
pub(crate) struct DrainWatch(watch::Receiver<Stage>);

/// Kept from the grace period for the exit itself.
const GRACE_RESERVE: Duration = Duration::from_secs(1);

impl Drain {
    /// A proxy that serves.
    pub(crate) fn new() -> (Self, DrainWatch) {
        let (sender, receiver) = watch::channel(Stage::Running);
        (Self(sender), DrainWatch(receiver))
    }

    /// Begins the inbound drain; says whether it was news.
    pub(crate) fn begin(&self) -> bool {
        self.advance(Stage::Draining)
    }

    /// TERM: ends everything within the grace period.
    pub(crate) fn stop(&self, grace: Duration, now: Instant) -> bool {
        self.advance(Stage::Stopping { deadline: now + grace.saturating_sub(GRACE_RESERVE) })
    }

    fn advance(&self, to: Stage) -> bool {
        self.0.send_if_modified(|stage| {
            let forward = *stage < to && !matches!(stage, Stage::Stopping { .. });
            if forward {
                *stage = to;
            }
            forward
        })
    }
}

impl DrainWatch {
    /// How far it has come.
    pub(crate) fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Whether clients are to be told to go elsewhere.
    pub(crate) fn is_draining(&self) -> bool {
        self.stage() >= Stage::Draining
    }

    /// Waits until the inbound drain begins (or more).
    pub(crate) async fn draining(&mut self) {
        // The sender lives as long as the process.
        let _ = self.0.wait_for(|stage| *stage >= Stage::Draining).await;
    }

    /// Waits for TERM; gives the moment by which everything must have ended.
    pub(crate) async fn stopping(&mut self) -> Instant {
        match self.0.wait_for(|stage| matches!(stage, Stage::Stopping { .. })).await.map(|stage| *stage) {
            Ok(Stage::Stopping { deadline }) => deadline,
            Ok(Stage::Running | Stage::Draining) | Err(_) => Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_only_go_forward() {
        let (drain, mut watch) = Drain::new();
        assert!(!watch.is_draining());
        assert!(drain.begin());
        assert!(!drain.begin(), "a second trigger is no news");
        assert!(watch.is_draining());
        let now = Instant::now();
        assert!(drain.stop(Duration::from_secs(30), now));
        assert!(!drain.begin() && !drain.stop(Duration::from_secs(90), now), "a later TERM does not prolong");
        assert_eq!(watch.stopping().await, now + Duration::from_secs(29));
    }
}
