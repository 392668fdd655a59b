//! Waiting for a condition, with a limit and a reason for failing.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Calls `look` until it returns `Ok(Some(value))`.
///
/// # Errors
/// What `look` last said (its error, or "not yet"), once `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    loop {
        let last = match look() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if begin.elapsed() > limit {
            bail!("waited {limit:?} for: {what}; last: {last}");
        }
        pause(LOOK_EVERY);
    }
}

/// Lets time pass where time itself is the point (an outage of so many seconds).
#[expect(clippy::disallowed_methods, reason = "a test's own thread; nothing else runs on it")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
