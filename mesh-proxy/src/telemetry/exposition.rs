//! Prometheus' text format: all series of a proxy, merged over its workers.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::histogram::{BOUNDS, Histogram, Snapshot};
use super::labels;
use super::own::Own;
use super::series::{Family, HttpNumbers, Series, TcpNumbers};

/// All numbers of one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) http: Arc<Family<HttpNumbers>>,
    pub(crate) tcp: Arc<Family<TcpNumbers>>,
    pub(crate) own: Own,
}

impl Metrics {
    /// Numbers for so many workers.
    pub(crate) fn new(workers: usize, series_max: usize) -> Arc<Self> {
        Arc::new(Self {
            http: Arc::new(Family::new(workers, series_max)),
            tcp: Arc::new(Family::new(workers, series_max)),
            own: Own::default(),
        })
    }

    /// Writes everything.
    pub(crate) fn write(&self, out: &mut String) {
        let http = rendered(self.http.snapshot());
        let tcp = rendered(self.tcp.snapshot());
        write_http(out, &http);
        write_tcp(out, &tcp);
        self.own.write(out);
        let lost = self.http.overflown.load(Ordering::Relaxed) + self.tcp.overflown.load(Ordering::Relaxed);
        let name = "mesh_series_dropped_total";
        let _ = writeln!(out, "# HELP {name} Samples counted as other: too many series.\n# TYPE {name} counter");
        let _ = writeln!(out, "{name} {lost}");
        let name = "istio_build";
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(out, "# HELP {name} Version of the proxy.\n# TYPE {name} gauge");
        let _ = writeln!(out, "{name}{{component=\"proxy\",tag=\"mesh-{version}\"}} 1");
    }
}

/// Series with their labels written out, in a stable order.
type Rendered<N> = Vec<(String, Arc<Series<N>>)>;

fn rendered<N>(series: Vec<Arc<Series<N>>>) -> Rendered<N> {
    let mut all: Rendered<N> = series
        .into_iter()
        .map(|series| {
            let mut text = String::new();
            labels::write(&mut text, &series.key);
            (text, series)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn write_http(out: &mut String, all: &Rendered<HttpNumbers>) {
    let counters: [Counter<HttpNumbers>; 3] = [
        ("istio_requests_total", "Requests.", |n| n.requests.load(Ordering::Relaxed)),
        ("istio_request_messages_total", "gRPC messages sent by clients.", |n| {
            n.request_messages.load(Ordering::Relaxed)
        }),
        ("istio_response_messages_total", "gRPC messages sent by servers.", |n| {
            n.response_messages.load(Ordering::Relaxed)
        }),
    ];
    for counter in counters {
        write_counter(out, counter, all);
    }
    let histograms: [Distribution; 3] = [
        ("istio_request_duration_milliseconds", "Duration of requests.", |n| &n.duration_ms),
        ("istio_request_bytes", "Size of requests.", |n| &n.request_bytes),
        ("istio_response_bytes", "Size of responses.", |n| &n.response_bytes),
    ];
    for (name, help, histogram) in histograms {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (text, series) in all {
            let mut total = Snapshot::default();
            series.shards.iter().for_each(|shard| histogram(shard).add_to(&mut total));
            write_histogram(out, name, text, &total);
        }
    }
}

fn write_tcp(out: &mut String, all: &Rendered<TcpNumbers>) {
    let counters: [Counter<TcpNumbers>; 4] = [
        ("istio_tcp_connections_opened_total", "TCP connections opened.", |n| n.opened.load(Ordering::Relaxed)),
        ("istio_tcp_connections_closed_total", "TCP connections closed.", |n| n.closed.load(Ordering::Relaxed)),
        ("istio_tcp_sent_bytes_total", "Bytes sent in responses.", |n| n.sent_bytes.load(Ordering::Relaxed)),
        ("istio_tcp_received_bytes_total", "Bytes received in requests.", |n| n.received_bytes.load(Ordering::Relaxed)),
    ];
    for counter in counters {
        write_counter(out, counter, all);
    }
}

/// Name, help and where in a shard it is.
type Distribution = (&'static str, &'static str, fn(&HttpNumbers) -> &Histogram);
/// Name, help and how to read a shard.
type Counter<N> = (&'static str, &'static str, fn(&N) -> u64);

fn write_counter<N>(out: &mut String, (name, help, read): Counter<N>, all: &Rendered<N>) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
    for (text, series) in all {
        let total: u64 = series.shards.iter().map(read).sum();
        let _ = writeln!(out, "{name}{{{text}}} {total}");
    }
}

fn write_histogram(out: &mut String, name: &str, text: &str, total: &Snapshot) {
    let mut count = 0;
    for (index, bucket) in total.buckets.iter().enumerate() {
        count += bucket;
        let _ = match BOUNDS.get(index) {
            Some(bound) => writeln!(out, "{name}_bucket{{{text},le=\"{bound}\"}} {count}"),
            None => writeln!(out, "{name}_bucket{{{text},le=\"+Inf\"}} {count}"),
        };
    }
    let _ = writeln!(out, "{name}_sum{{{text}}} {}\n{name}_count{{{text}}} {count}", total.sum);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::labels::{Outcome, Protocol, Reporter, Route, Security};
    use super::super::peer::Peer;
    use super::super::series::{Recorder, RequestSample};
    use super::*;

    #[test]
    fn a_request_is_counted_with_all_of_istios_labels() {
        let metrics = Metrics::new(1, 500);
        let recorder = Recorder::new(Arc::clone(&metrics.http), 0);
        let peer = |name: &str| Arc::new(Peer { workload: name.into(), ..Peer::unknown() });
        let route = recorder.route(Route {
            reporter: Reporter::Destination,
            source: peer("web\"\n"),
            destination: peer("reviews-v1"),
            service: "reviews.bookinfo.svc.cluster.local".into(),
            service_name: "reviews".into(),
            service_namespace: "bookinfo".into(),
            protocol: Protocol::Http,
            security: Security::MutualTls,
        });
        let sample = RequestSample {
            duration: Duration::from_millis(7),
            request_bytes: 10,
            response_bytes: 20,
            request_messages: 0,
            response_messages: 0,
        };
        let outcome = Outcome { code: Some(200), grpc: None, flags: "" };
        recorder.with(&route, outcome, |numbers| numbers.add(&sample));
        let mut text = String::new();
        metrics.write(&mut text);
        let expected = "istio_requests_total{reporter=\"destination\",source_workload=\"web\\\"\\n\",\
            source_workload_namespace=\"unknown\",source_principal=\"unknown\",source_app=\"unknown\",\
            source_version=\"unknown\",source_cluster=\"unknown\",source_canonical_service=\"unknown\",\
            source_canonical_revision=\"unknown\",destination_workload=\"reviews-v1\",\
            destination_workload_namespace=\"unknown\",destination_principal=\"unknown\",destination_app=\"unknown\",\
            destination_version=\"unknown\",destination_cluster=\"unknown\",destination_canonical_service=\"unknown\",\
            destination_canonical_revision=\"unknown\",destination_service=\"reviews.bookinfo.svc.cluster.local\",\
            destination_service_name=\"reviews\",destination_service_namespace=\"bookinfo\",request_protocol=\"http\",\
            response_code=\"200\",grpc_response_status=\"\",response_flags=\"-\",\
            connection_security_policy=\"mutual_tls\"} 1\n";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.contains(",le=\"5\"} 0\n") && text.contains(",le=\"10\"} 1\n") && text.contains(",le=\"+Inf\"} 1\n")
        );
    }
}
