//! What several parts of a dump have in common.

use std::time::{Duration, SystemTime};

use mesh_core::config::{self, Protocol};
use serde::Serialize;

/// The object that somebody wrote.
#[derive(Serialize)]
pub(in crate::admin) struct Origin {
    kind: String,
    /// Empty for what is not namespaced.
    namespace: String,
    name: String,
    /// `metadata.generation`; for files a hash of the object's spec.
    generation: u64,
}

impl From<&config::Origin> for Origin {
    fn from(origin: &config::Origin) -> Self {
        let config::Origin { kind, namespace, name, generation } = origin;
        Self { kind: kind.clone(), namespace: namespace.clone(), name: name.clone(), generation: *generation }
    }
}

/// Where something runs; empty parts are unknown.
#[derive(Serialize)]
pub(in crate::admin) struct Locality {
    region: String,
    zone: String,
    subzone: String,
}

impl From<&config::Locality> for Locality {
    fn from(locality: &config::Locality) -> Self {
        let config::Locality { region, zone, subzone } = locality;
        Self { region: region.clone(), zone: zone.clone(), subzone: subzone.clone() }
    }
}

/// What a workload is called.
#[derive(Serialize)]
pub(in crate::admin) struct Workload {
    name: String,
    namespace: String,
    pod: String,
    app: String,
    version: String,
    canonical_service: String,
    canonical_revision: String,
    cluster: String,
}

impl From<&config::Workload> for Workload {
    fn from(workload: &config::Workload) -> Self {
        let config::Workload { name, namespace, canonical_service, canonical_revision, app, version, cluster, pod } =
            workload.clone();
        Self { name, namespace, pod, app, version, canonical_service, canonical_revision, cluster }
    }
}

/// Name of a declared protocol.
pub(in crate::admin) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Unspecified => "unspecified",
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
        Protocol::Tls => "tls",
        Protocol::Udp => "udp",
    }
}

/// Whole milliseconds.
pub(in crate::admin) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A limit; `null` is without limit.
pub(in crate::admin) fn limit(max: u32) -> Option<u32> {
    (max != u32::MAX).then_some(max)
}

/// RFC 3339, in UTC.
pub(in crate::admin) fn moment(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "unknown".to_owned(), |time| time.to_string())
}

/// `service` as `<namespace>/<host>`, for a list of them.
pub(in crate::admin) fn names<'a>(services: impl IntoIterator<Item = &'a config::ServiceName>) -> Vec<String> {
    services.into_iter().map(ToString::to_string).collect()
}
