//! Outlier ejection: endpoints that keep failing are left out for a while.
//!
//! Counted per destination and endpoint, in relaxed atomics that all workers of a proxy share. An ejection ends by
//! itself, by time; the sweep only forgets old ejections and corrects the count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::OutlierDetection;
use crate::time::Millis;

/// Longest ejection, unless the first one is configured longer (Envoy's default).
pub const EJECTION_TIME_MAX: Duration = Duration::from_secs(300);

/// What one proxy knows about one endpoint of one destination. Kept outside of configuration, by destination and
/// endpoint uid, so that a new configuration changes nothing about it.
#[derive(Debug, Default)]
pub struct EndpointState {
    active: AtomicU32,
    ejected_until: AtomicU64,
    ejections: AtomicU32,
    consecutive_5xx: AtomicU32,
    consecutive_gateway: AtomicU32,
    consecutive_local: AtomicU32,
}

/// A request (or connection) that an endpoint is working on.
#[derive(Debug)]
#[must_use = "dropping it says that the work has ended"]
pub struct Active(Arc<EndpointState>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

impl EndpointState {
    /// Counts a request (or connection) in, until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Relaxed);
        Active(Arc::clone(self))
    }

    /// Requests (or connections) that it is working on for this proxy.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Whether it is left out now.
    #[must_use]
    pub fn is_ejected(&self, now: Millis) -> bool {
        self.ejected_until.load(Relaxed) > now.0
    }

    /// Until when it is left out, if it is.
    #[must_use]
    pub fn ejected_until(&self, now: Millis) -> Option<Millis> {
        Some(Millis(self.ejected_until.load(Relaxed))).filter(|until| *until > now)
    }

    fn reset_counts(&self) {
        self.consecutive_5xx.store(0, Relaxed);
        self.consecutive_gateway.store(0, Relaxed);
        self.consecutive_local.store(0, Relaxed);
    }
}

/// How many endpoints of one destination are left out; shared like [`EndpointState`].
#[derive(Debug, Default)]
pub struct Pool {
    ejected: AtomicU32,
}

impl Pool {
    /// How many are left out, or were until a moment ago.
    #[must_use]
    pub fn ejected(&self) -> u32 {
        self.ejected.load(Relaxed)
    }
}

/// How an attempt ended, as far as an endpoint's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this HTTP status.
    Status(u16),
    /// An answer with this gRPC status (in trailers, or without body).
    Grpc(u8),
    /// A connection's end without failure.
    Done,
    /// Connect failed, timed out, reset before an answer: no answer of the application.
    LocalFailure,
}

/// Why an endpoint was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `consecutive5xxErrors`.
    Consecutive5xx,
    /// `consecutiveGatewayErrors`.
    ConsecutiveGatewayErrors,
    /// `consecutiveLocalOriginFailures`.
    ConsecutiveLocalFailures,
}

/// An endpoint was left out just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Why.
    pub cause: Cause,
    /// Until when.
    pub until: Millis,
}

/// Takes note of an attempt's end. `total` is the number of the destination's endpoints.
///
/// At most `max_ejection_percent` of them are left out at once, but one always may be.
pub fn observe(
    config: &OutlierDetection,
    state: &EndpointState,
    pool: &Pool,
    outcome: Outcome,
    total: usize,
    now: Millis,
) -> Option<Ejection> {
    let cause = count(config, state, outcome)?;
    if state.is_ejected(now) {
        return None;
    }
    let share = u64::try_from(total).unwrap_or(u64::MAX).saturating_mul(u64::from(config.max_ejection_percent)) / 100;
    let most = u32::try_from(share).unwrap_or(u32::MAX).max(1);
    if pool.ejected.fetch_update(Relaxed, Relaxed, |ejected| (ejected < most).then_some(ejected + 1)).is_err() {
        return None;
    }
    let times = state.ejections.fetch_add(1, Relaxed).saturating_add(1);
    let longest = EJECTION_TIME_MAX.max(config.base_ejection_time);
    let until = now.plus(config.base_ejection_time.saturating_mul(times).min(longest));
    state.ejected_until.store(until.0, Relaxed);
    state.reset_counts();
    Some(Ejection { cause, until })
}

/// Counts, and says which threshold was reached.
fn count(config: &OutlierDetection, state: &EndpointState, outcome: Outcome) -> Option<Cause> {
    let status = match outcome {
        Outcome::Status(status) => status,
        Outcome::Grpc(status) => http_status_of_grpc(status),
        Outcome::Done => 200,
        Outcome::LocalFailure if config.split_local_errors => {
            let reached = reached(&state.consecutive_local, config.consecutive_local_failures);
            return reached.then_some(Cause::ConsecutiveLocalFailures);
        }
        // Not split, our own failures count as the 503 that the client gets.
        Outcome::LocalFailure => 503,
    };
    if config.split_local_errors {
        state.consecutive_local.store(0, Relaxed);
    }
    let gateway = matches!(status, 502..=504);
    if !gateway {
        state.consecutive_gateway.store(0, Relaxed);
    }
    if !(500..600).contains(&status) {
        state.consecutive_5xx.store(0, Relaxed);
        return None;
    }
    let gateway_reached = gateway && reached(&state.consecutive_gateway, config.consecutive_gateway_errors);
    let any_reached = reached(&state.consecutive_5xx, config.consecutive_5xx);
    match (any_reached, gateway_reached) {
        (true, _) => Some(Cause::Consecutive5xx),
        (false, true) => Some(Cause::ConsecutiveGatewayErrors),
        (false, false) => None,
    }
}

/// One more; 0 as threshold is off.
fn reached(counter: &AtomicU32, threshold: u32) -> bool {
    let counted = counter.fetch_add(1, Relaxed).saturating_add(1);
    threshold > 0 && counted >= threshold
}

/// The HTTP status that stands for a gRPC status (Envoy's table).
#[must_use]
pub const fn http_status_of_grpc(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// Every `interval`: corrects the count of ejected endpoints, and forgets one earlier ejection of each endpoint that is
/// not left out any more.
pub fn sweep<'a>(states: impl IntoIterator<Item = &'a EndpointState>, pool: &Pool, now: Millis) {
    let mut ejected = 0;
    for state in states {
        if state.is_ejected(now) {
            ejected += 1;
            continue;
        }
        // An ejection that has just ended is remembered until the next sweep.
        if state.ejected_until.swap(0, Relaxed) > 0 {
            // What ended meanwhile must not eject it again at its first failure.
            state.reset_counts();
        } else {
            let _ = state.ejections.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        }
    }
    pool.ejected.store(ejected, Relaxed);
}

#[cfg(test)]
mod tests;
