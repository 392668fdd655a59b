//! Time as the mesh's decisions see it: milliseconds since a moment that the caller chose once.
//!
//! An `Instant` cannot be kept in an atomic, and state that workers share (ejection, …) must be. The proxy takes one
//! `Instant` at its start and hands in what has elapsed; a simulation counts.

use std::time::Duration;

/// Milliseconds since the process began (or since the simulation did). Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// What has elapsed since the beginning, in whole milliseconds.
    #[must_use]
    pub fn since_start(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment `later` after this one; stops at the end of time.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(Self::since_start(later).0))
    }
}
