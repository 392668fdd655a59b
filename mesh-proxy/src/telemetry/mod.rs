//! What operators see of the traffic: Istio's standard metrics, the proxy's own, and the access log.
//!
//! Nothing here may slow a request: counters are per worker and are merged when somebody scrapes; a label set is
//! resolved to a handle once per destination; a log line is formatted into a reused buffer and written by another
//! thread, or dropped and counted. In the order in which a request meets them: [`peer`] says who talks, [`labels`] name
//! a series, [`histogram`] and [`series`] hold the numbers, [`own`] holds the proxy's own, [`exposition`] writes them out,
//! [`access`] and [`sink`] are the log, [`record`] follows one request and [`passed`]
//! one opaque connection through all of it
//! ([`grpc`] counts its messages).

pub(crate) mod access;
pub(crate) mod exposition;
pub(crate) mod grpc;
pub(crate) mod histogram;
pub(crate) mod labels;
pub(crate) mod own;
pub(crate) mod passed;
pub(crate) mod peer;
pub(crate) mod record;
pub(crate) mod series;
pub(crate) mod sink;

use std::sync::Arc;

use exposition::Metrics;
use sink::Sink;

/// What all threads count in and log to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Telemetry {
    /// The numbers.
    pub(crate) metrics: Arc<Metrics>,
    /// The access log's writer.
    pub(crate) sink: Sink,
}

impl Telemetry {
    /// Starts the log's writer; numbers are kept for so many workers.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub(crate) fn start(workers: usize) -> std::io::Result<Self> {
        let metrics = Metrics::new(workers, series::SERIES_MAX);
        let sink = Sink::start(Arc::clone(&metrics))?;
        Ok(Self { metrics, sink })
    }
}
