//! When changes are published: the first at once, those that follow closely together, in windows that grow while the
//! storm lasts.

use std::time::{Duration, Instant};

/// The windows, shortest first; under a storm each leads to the next.
const WINDOWS: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(100), Duration::from_millis(400)];

/// Decides when pending changes are published.
#[derive(Debug, Default)]
pub(crate) struct Debounce {
    published: Option<Instant>,
    level: usize,
    pending: bool,
}

impl Debounce {
    /// A change came in.
    pub(crate) fn changed(&mut self) {
        self.pending = true;
    }

    /// When to publish; `None` while nothing is pending. A time that has passed means now.
    pub(crate) fn due(&self) -> Option<Instant> {
        match (self.pending, self.published) {
            (false, _) => None,
            (true, None) => Some(Instant::now()),
            (true, Some(published)) => Some(published + WINDOWS[self.level]),
        }
    }

    /// Pending changes were published. The window grows if this publication had to wait, and falls back to the shortest
    /// once a whole window passed in silence.
    pub(crate) fn published(&mut self, now: Instant) {
        let waited = self.published.is_some_and(|before| now < before + 2 * WINDOWS[self.level]);
        self.level = if waited { (self.level + 1).min(WINDOWS.len() - 1) } else { 0 };
        self.published = Some(now);
        self.pending = false;
    }
}
