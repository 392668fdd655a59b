//! Circuit limits and the retry budget of one destination, shared by all workers of a proxy.
//!
//! Counters are relaxed atomics: a limit may be passed by as many as there are workers at the same instant, which costs
//! less than making every request wait for every other. What is counted is given back by dropping a guard, so that no
//! path of the code can forget it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::config::{CircuitLimits, TrafficPolicy};

/// What is going on towards one destination (service, subset and port).
#[derive(Debug, Default)]
pub struct Circuit {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
    paid_retries: AtomicU32,
}

/// One of the things that are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Connections at once.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests at once.
    Requests,
    /// Retries at once.
    Retries,
    /// Retries at once that are paid from the budget; not a limit of its own.
    PaidRetries,
}

/// A place within a limit; dropping it gives the place back.
#[derive(Debug)]
#[must_use = "dropping the guard gives the place back"]
pub struct Guard {
    circuit: Arc<Circuit>,
    limit: Limit,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.circuit.counter(self.limit).fetch_sub(1, Relaxed);
    }
}

impl Circuit {
    fn counter(&self, limit: Limit) -> &AtomicU32 {
        match limit {
            Limit::Connections => &self.connections,
            Limit::Pending => &self.pending,
            Limit::Requests => &self.requests,
            Limit::Retries => &self.retries,
            Limit::PaidRetries => &self.paid_retries,
        }
    }

    /// How many there are now.
    #[must_use]
    pub fn active(&self, limit: Limit) -> u32 {
        self.counter(limit).load(Relaxed)
    }

    /// Takes a place; `None`: the limit is reached (reason `overflow`, flag UO).
    pub fn enter(self: &Arc<Self>, limit: Limit, limits: &CircuitLimits) -> Option<Guard> {
        let max = match limit {
            Limit::Connections => limits.connections_max,
            Limit::Pending => limits.pending_max,
            Limit::Requests => limits.requests_max,
            Limit::Retries => limits.retries_max,
            Limit::PaidRetries => u32::MAX,
        };
        self.enter_below(limit, max)
    }

    fn enter_below(self: &Arc<Self>, limit: Limit, max: u32) -> Option<Guard> {
        let counter = self.counter(limit);
        if counter.fetch_add(1, Relaxed) >= max {
            counter.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Guard { circuit: Arc::clone(self), limit })
    }
}

/// A retry that is in flight; dropping it gives its places back.
#[derive(Debug)]
#[must_use = "dropping the permit gives its places back"]
pub struct RetryPermit {
    _retry: Guard,
    _paid: Option<Guard>,
}

/// How many retries a destination bears: a share of what is active, and a few in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    percent: u32,
    min: u32,
    limits: CircuitLimits,
}

impl Budget {
    /// Percentage of active requests that may be retries where nothing is configured.
    pub const DEFAULT_PERCENT: u32 = 20;
    /// Retries that may always be in flight where nothing is configured.
    pub const DEFAULT_MIN: u32 = 3;

    /// The budget of a destination. A policy in which both figures are 0 (as in its default value) means the defaults.
    #[must_use]
    pub fn of(policy: &TrafficPolicy) -> Self {
        let (percent, min) = match (policy.retry_budget_percent, policy.retry_min_concurrency) {
            (0, 0) => (Self::DEFAULT_PERCENT, Self::DEFAULT_MIN),
            written => written,
        };
        Self { percent, min, limits: policy.pool.limits }
    }

    /// How many paid retries may be in flight while this many requests are active.
    #[must_use]
    pub fn allowance(&self, active: u32) -> u32 {
        let share = u64::from(active) * u64::from(self.percent) / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.min)
    }

    /// Takes a retry's place. What is provably unsent costs the upstream nothing and is only bound by the circuit limit
    /// (and by its attempts); everything else is paid for from the budget.
    pub fn withdraw(&self, circuit: &Arc<Circuit>, unsent: bool) -> Option<RetryPermit> {
        let paid = match unsent {
            true => None,
            false => Some(circuit.enter_below(Limit::PaidRetries, self.allowance(circuit.active(Limit::Requests)))?),
        };
        let retry = circuit.enter(Limit::Retries, &self.limits)?;
        Some(RetryPermit { _retry: retry, _paid: paid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_by_dropping_its_guard() {
        let circuit = Arc::new(Circuit::default());
        let limits = CircuitLimits { requests_max: 2, ..CircuitLimits::default() };
        let first = circuit.enter(Limit::Requests, &limits);
        let second = circuit.enter(Limit::Requests, &limits);
        assert!(first.is_some() && second.is_some());
        assert!(circuit.enter(Limit::Requests, &limits).is_none());
        drop(first);
        assert_eq!(circuit.active(Limit::Requests), 1);
        assert!(circuit.enter(Limit::Requests, &limits).is_some());
    }

    #[test]
    fn the_budget_is_a_share_of_what_is_active_and_a_few_in_any_case() {
        let budget = Budget::of(&TrafficPolicy::default());
        assert_eq!((budget.allowance(0), budget.allowance(15), budget.allowance(100)), (3, 3, 20));
        let circuit = Arc::new(Circuit::default());
        let permits: Vec<_> = (0..3).map(|_| budget.withdraw(&circuit, false)).collect();
        assert!(permits.iter().all(Option::is_some));
        assert!(budget.withdraw(&circuit, false).is_none());
        assert!(budget.withdraw(&circuit, true).is_some(), "what is unsent is not paid for");
        drop(permits);
        assert_eq!((circuit.active(Limit::Retries), circuit.active(Limit::PaidRetries)), (0, 0));
    }
}
