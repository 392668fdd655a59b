//! Retries as written, and what stands in when nothing is.

use std::time::Duration;

use mesh_core::config::{RetryOn, RetryPolicy};
use mesh_crd::networking::HttpRetry;

use super::Rules;
use crate::problem::{Code, Problems};

/// The most retries of one request.
const ATTEMPTS_MAX: u32 = 20;

impl Rules<'_, '_> {
    /// The retries of a rule: its own, else the mesh's default, else ours.
    pub(super) fn retry(&self, written: Option<&HttpRetry>, at: &str, problems: &mut Problems) -> RetryPolicy {
        let default = RetryPolicy::default();
        let Some(retry) = written.or(self.view.objects.mesh.default_http_retry_policy.as_ref()) else { return default };
        let attempts = u32::try_from(retry.attempts).unwrap_or_else(|_| {
            problems.error(Code::InvalidValue, at, "attempts is negative; nothing is retried", "write 0 or more");
            0
        });
        let backoff = retry.backoff.filter(|pause| *pause > Duration::ZERO);
        RetryPolicy {
            attempts: attempts.min(ATTEMPTS_MAX),
            per_try_timeout: retry.per_try_timeout.filter(|timeout| *timeout > Duration::ZERO),
            on: retry_on(&retry.retry_on, at, problems),
            backoff: backoff.unwrap_or(default.backoff),
        }
    }
}

fn retry_on(text: &str, at: &str, problems: &mut Problems) -> RetryOn {
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" | "reset-before-request" => on.reset = true,
            "connect-failure" | "refused-stream" => on.connect_failure = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "retriable-status-codes" => {}
            "cancelled" => on.grpc.push(1),
            "deadline-exceeded" => on.grpc.push(4),
            "resource-exhausted" => on.grpc.push(8),
            "internal" => on.grpc.push(13),
            "unavailable" => on.grpc.push(14),
            number => match number.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => on.statuses.push(status),
                _ => {
                    let field = format!("{at}.retryOn");
                    let message = format!("{word:?} is no condition that is built; it is left out");
                    problems.warning(Code::Unsupported, &field, message, "use 5xx, gateway-error, reset or a status");
                }
            },
        }
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    on.grpc.sort_unstable();
    on.grpc.dedup();
    on
}
