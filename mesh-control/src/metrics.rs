//! What operators count, in Prometheus' text format. A handful of atomics; every name is in one table below.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_core::config::ResourceKind;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

/// A distribution of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// One counter per kind of resource.
#[derive(Debug, Default)]
pub(crate) struct ByKind([Counter; ResourceKind::ALL.len()]);

impl ByKind {
    pub(crate) fn of(&self, kind: ResourceKind) -> &Counter {
        // Kinds are numbered in the order of ALL.
        &self.0[kind as usize]
    }
}

/// All metrics of the control plane.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// From a change's arrival to its acknowledgement by a proxy.
    pub(crate) convergence_seconds: Histogram,
    /// One publication: everything that a batch of changes touches.
    pub(crate) compile_seconds: Histogram,
    pub(crate) compiled: Counter,
    pub(crate) objects: Gauge,
    pub(crate) published: Gauge,
    pub(crate) proxies: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) pushes: ByKind,
    pub(crate) resources: ByKind,
    pub(crate) rejects: ByKind,
    pub(crate) streams_refused: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) ca_issued: Counter,
    pub(crate) ca_refused: Counter,
    /// Seconds since 1970.
    pub(crate) ca_expiry: Gauge,
}

impl Metrics {
    /// The whole page.
    pub(crate) fn render(&self) -> String {
        let mut page = String::new();
        let out = &mut page;
        histogram(out, "mesh_config_convergence_seconds", "Change seen until acknowledged.", &self.convergence_seconds);
        histogram(out, "mesh_compile_duration_seconds", "Compiling what a batch touches.", &self.compile_seconds);
        let one = |value: u64| BTreeMap::from([(String::new(), value)]);
        let kinds = |counters: &ByKind| {
            let label = |kind: ResourceKind| format!("{{type=\"{}\"}}", kind.as_str());
            ResourceKind::ALL.into_iter().map(|kind| (label(kind), counters.of(kind).value())).collect()
        };
        type Row<'a> = (&'a str, &'a str, &'a str, BTreeMap<String, u64>);
        let rows: [Row<'_>; 13] = [
            ("mesh_compiled_resources_total", "counter", "Resources compiled again.", one(self.compiled.value())),
            ("mesh_objects", "gauge", "Objects read.", one(self.objects.value())),
            ("mesh_published_resources", "gauge", "Resources that proxies hold.", one(self.published.value())),
            ("mesh_connected_proxies", "gauge", "Proxies with a stream.", one(self.proxies.value())),
            ("mesh_connections", "gauge", "Connections on the xDS port.", one(self.connections.value())),
            ("mesh_xds_pushes_total", "counter", "Responses sent.", kinds(&self.pushes)),
            ("mesh_xds_resources_total", "counter", "Resources sent and removed.", kinds(&self.resources)),
            ("mesh_xds_rejects_total", "counter", "Responses that proxies rejected.", kinds(&self.rejects)),
            ("mesh_xds_refused_total", "counter", "Streams refused.", one(self.streams_refused.value())),
            ("mesh_handshakes_failed_total", "counter", "TLS handshakes failed.", one(self.handshakes_failed.value())),
            ("mesh_ca_issued_total", "counter", "Certificates issued.", one(self.ca_issued.value())),
            ("mesh_ca_refused_total", "counter", "Certificate requests refused.", one(self.ca_refused.value())),
            ("mesh_ca_expiry_timestamp_seconds", "gauge", "When the authority ends.", one(self.ca_expiry.value())),
        ];
        for (name, kind, help, values) in rows {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        }
        page
    }
}

fn histogram(out: &mut String, name: &str, help: &str, histogram: &Histogram) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    let mut sum = 0;
    for (bound, bucket) in BOUNDS.iter().zip(&histogram.buckets) {
        sum += bucket.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {sum}");
    }
    let count = histogram.count.load(Ordering::Relaxed);
    let seconds = Duration::from_nanos(histogram.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {seconds}\n{name}_count {count}");
}
