//! Retry: whether a failed attempt is worth another.
//!
//! Only what is provably unsent is retried by itself, whatever the method (architecture, rule 11). Everything else needs
//! an idempotent method or an `Idempotency-Key`, the author's `retryOn`, and is paid for from a budget, because a retry
//! storm hurts more than a failed request. Nothing here sleeps; the caller does.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{RetryOn, RetryPolicy};
use crate::limits::{Budget, Circuit, RetryPermit};

/// A body up to this size is kept for replay, in bytes; beyond it there is no retry.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;
/// The pause grows up to this many times its first value.
pub const BACKOFF_GROWTH_MAX: u32 = 10;

/// How we know that no byte of a request was processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unsent {
    /// The connection was refused or could not be made.
    ConnectFailed,
    /// The connection was not made in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    TlsFailed,
    /// The connection was there, but no byte of the request was written.
    NothingWritten,
    /// HTTP/2 `RST_STREAM` with `REFUSED_STREAM`.
    RefusedStream,
    /// HTTP/2 `GOAWAY` with a last stream below ours.
    GoAwayBelow,
    /// A reused connection ended by FIN, and `TCP_INFO` says that no byte was acknowledged. (A reset proves nothing.)
    ReusedFinUnacknowledged,
    /// One of our proxies, verified, says so.
    PeerSaysUnsent,
}

/// How an attempt ended, seen at the moment its response's head is there or can no longer come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Provably not processed.
    Unsent(Unsent),
    /// The connection ended, or was reset, before a response; it may have been processed.
    Lost,
    /// The time for one attempt ran out.
    TryTimeout,
    /// A response's head came. `grpc` is the status of a response without body (trailers-only), where it is one.
    Answered {
        /// HTTP status.
        status: u16,
        /// `grpc-status`.
        grpc: Option<u8>,
    },
}

/// What is known about the attempt that ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// The whole request can be sent again: its body was kept ([`REPLAY_BYTES_MAX`]), and nothing of a response was
    /// passed on.
    pub replayable: bool,
    /// [`is_idempotent`].
    pub idempotent: bool,
    /// Time until the route's timeout, if it has one.
    pub remaining: Option<Duration>,
}

/// What to do after an attempt.
#[derive(Debug)]
pub enum Next {
    /// Pass on what there is: response or failure.
    Deliver,
    /// Try again after a pause (often zero), and keep the permit until that attempt has ended.
    RetryAfter(Duration, RetryPermit),
}

/// A compiled [`RetryPolicy`].
#[derive(Clone, Debug)]
pub struct Retry {
    attempts: u32,
    /// Time per attempt, if it differs from the rule's timeout.
    pub per_try_timeout: Option<Duration>,
    on: RetryOn,
    backoff: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self::compile(&RetryPolicy::default())
    }
}

/// Whether a request may be repeated although it may have been processed: its method says so (RFC 9110, section 9.2.2),
/// or its sender does by an `Idempotency-Key`.
#[must_use]
pub fn is_idempotent(method: &str, has_idempotency_key: bool) -> bool {
    has_idempotency_key || matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

impl Retry {
    /// Compiles the written form.
    #[must_use]
    pub fn compile(written: &RetryPolicy) -> Self {
        Self {
            attempts: written.attempts,
            per_try_timeout: written.per_try_timeout,
            on: written.on.clone(),
            backoff: written.backoff,
        }
    }

    /// Whether any request at all is tried again, so that its body must be kept.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.attempts > 0
    }

    /// Decides whether to try again.
    ///
    /// [`Next::Deliver`] once the attempts or the time are used up, the verdict is not covered, or the budget is empty.
    pub fn after(
        &self,
        verdict: Verdict,
        attempt: &Attempt,
        budget: &Budget,
        circuit: &Arc<Circuit>,
        rng: &mut fastrand::Rng,
    ) -> Next {
        if attempt.number > self.attempts || !attempt.replayable || !self.covers(verdict, attempt.idempotent) {
            return Next::Deliver;
        }
        let pause = self.pause(verdict, attempt.number, rng);
        if attempt.remaining.is_some_and(|remaining| pause >= remaining) {
            return Next::Deliver;
        }
        // Withdraw last: an attempt that we would not make must not cost anything.
        match budget.withdraw(circuit, matches!(verdict, Verdict::Unsent(_))) {
            Some(permit) => Next::RetryAfter(pause, permit),
            None => Next::Deliver,
        }
    }

    /// Whether an attempt that ended so may be repeated at all.
    #[must_use]
    pub fn covers(&self, verdict: Verdict, idempotent: bool) -> bool {
        match verdict {
            Verdict::Unsent(_) => true,
            Verdict::Lost => idempotent && (self.on.reset || self.on.server_error),
            Verdict::TryTimeout => idempotent && (self.on.server_error || self.on.gateway_error),
            Verdict::Answered { status, grpc } => idempotent && self.covers_answer(status, grpc),
        }
    }

    fn covers_answer(&self, status: u16, grpc: Option<u8>) -> bool {
        (self.on.server_error && (500..600).contains(&status))
            || (self.on.gateway_error && matches!(status, 502..=504))
            || (self.on.retriable_4xx && status == 409)
            || self.on.statuses.contains(&status)
            || grpc.is_some_and(|grpc| self.on.grpc.contains(&grpc))
    }

    /// The pause before the next attempt: fully jittered, its bound doubled each time. What another connection or
    /// endpoint can serve at once does not wait the first time.
    fn pause(&self, verdict: Verdict, number: u32, rng: &mut fastrand::Rng) -> Duration {
        use Unsent::{GoAwayBelow, NothingWritten, PeerSaysUnsent, RefusedStream, ReusedFinUnacknowledged};
        let elsewhere = matches!(
            verdict,
            Verdict::Unsent(NothingWritten | RefusedStream | GoAwayBelow | ReusedFinUnacknowledged | PeerSaysUnsent)
        );
        if elsewhere && number == 1 {
            return Duration::ZERO;
        }
        let growth = 1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX).min(BACKOFF_GROWTH_MAX);
        self.backoff.saturating_mul(growth).mul_f64(rng.f64())
    }
}

#[cfg(test)]
mod tests;
