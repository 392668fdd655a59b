//! Asking another service for JSON.

use std::time::Duration;

use http::{HeaderMap, Uri};

use crate::http_client::{Answer, Plan, call};

/// Bytes of an answer that are read; a longer one is an error.
const ANSWER_MAX: usize = 1024 * 1024;

/// A service that this one asks.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    base: String,
    time_max: Duration,
}

impl Upstream {
    pub(super) fn new(host: &str, port: u16, time_max: Duration) -> Upstream {
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        Upstream { base: format!("http://{host}:{port}"), time_max }
    }

    /// Where this service is, for people.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Gets `path`, once, on a connection of its own.
    ///
    /// The error is the words for the log: the step that failed, or the status when it is not 200.
    pub(super) async fn get(&self, path: &str, headers: HeaderMap) -> Result<Answer, String> {
        let url: Uri =
            format!("{}{path}", self.base).parse().map_err(|error| format!("{}{path}: {error}", self.base))?;
        let plan = Plan { headers, ..Plan::get(url) };
        match call(&plan, ANSWER_MAX, self.time_max).await {
            Ok(answer) if answer.status.as_u16() == 200 => Ok(answer),
            Ok(answer) => {
                Err(format!("{}: {}: {}", plan.url, answer.status, String::from_utf8_lossy(&answer.body).trim()))
            }
            Err(failure) => Err(failure.to_string()),
        }
    }
}
