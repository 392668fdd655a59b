//! How clients treat a port: a merged TrafficPolicy.

use std::collections::BTreeMap;

use mesh_core::config::{self, ClientTls, HashKey, HashTable};
use serde::Serialize;

use super::common::{limit, ms};

/// All of it; every default is written out.
#[derive(Serialize)]
pub(super) struct Policy {
    balancer: Balancer,
    connect_timeout_ms: u64,
    /// 0 is never.
    tcp_idle_timeout_ms: u64,
    http_idle_timeout_ms: u64,
    max_connection_duration_ms: Option<u64>,
    keepalive: Option<Keepalive>,
    /// 0 is without limit.
    requests_per_connection_max: u32,
    upgrade_to_http2: bool,
    use_client_protocol: bool,
    limits: Limits,
    /// `null`: no endpoint is ever left out.
    outlier: Option<Outlier>,
    tls: Tls,
    locality: LocalityFailover,
    retry_budget_percent: u32,
    retry_min_concurrency: u32,
}

/// Which endpoint gets a request.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Balancer {
    LeastRequest,
    RoundRobin,
    Random,
    Passthrough,
    ConsistentHash {
        /// `header`, `cookie`, `source_ip` or `query`.
        by: &'static str,
        /// Of the header, cookie or parameter.
        name: Option<String>,
        /// `ring` or `maglev`.
        table: &'static str,
        table_size: u64,
    },
}

/// Probes of an idle connection; 0 is the system's default.
#[derive(Serialize)]
struct Keepalive {
    probes: u32,
    time_ms: u64,
    interval_ms: u64,
}

/// Circuit limits; `null` is without limit.
#[derive(Serialize)]
struct Limits {
    connections_max: Option<u32>,
    pending_max: Option<u32>,
    requests_max: Option<u32>,
    retries_max: Option<u32>,
}

/// When an endpoint is left out; a count of 0 is off.
#[derive(Serialize)]
struct Outlier {
    consecutive_5xx: u32,
    consecutive_gateway_errors: u32,
    consecutive_local_failures: u32,
    split_local_errors: bool,
    interval_ms: u64,
    base_ejection_time_ms: u64,
    max_ejection_percent: u32,
    min_health_percent: u32,
}

/// TLS towards the endpoints.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tls {
    Auto,
    Disable,
    Mutual { subject_alt_names: Vec<String>, sni: Option<String> },
    Simple { sni: Option<String>, subject_alt_names: Vec<String>, insecure_skip_verify: bool },
    Unsupported { reason: String },
}

/// Locality preferences.
#[derive(Serialize)]
struct LocalityFailover {
    disabled: bool,
    failover: BTreeMap<String, String>,
    priority: Vec<String>,
    distribute: BTreeMap<String, BTreeMap<String, u32>>,
}

impl From<&config::TrafficPolicy> for Policy {
    fn from(policy: &config::TrafficPolicy) -> Self {
        let config::TrafficPolicy { balancer, pool, outlier, tls, locality, .. } = policy;
        Self {
            balancer: balancer.into(),
            connect_timeout_ms: ms(pool.connect_timeout),
            tcp_idle_timeout_ms: ms(pool.tcp_idle_timeout),
            http_idle_timeout_ms: ms(pool.http_idle_timeout),
            max_connection_duration_ms: pool.max_connection_duration.map(ms),
            keepalive: pool.keepalive.map(|keepalive| Keepalive {
                probes: keepalive.probes,
                time_ms: ms(keepalive.time),
                interval_ms: ms(keepalive.interval),
            }),
            requests_per_connection_max: pool.requests_per_connection_max,
            upgrade_to_http2: pool.upgrade_to_http2,
            use_client_protocol: pool.use_client_protocol,
            limits: Limits {
                connections_max: limit(pool.limits.connections_max),
                pending_max: limit(pool.limits.pending_max),
                requests_max: limit(pool.limits.requests_max),
                retries_max: limit(pool.limits.retries_max),
            },
            outlier: outlier.as_ref().map(Outlier::from),
            tls: tls.into(),
            locality: LocalityFailover {
                disabled: locality.disabled,
                failover: locality.failover.clone(),
                priority: locality.priority.clone(),
                distribute: locality.distribute.clone(),
            },
            retry_budget_percent: policy.retry_budget_percent,
            retry_min_concurrency: policy.retry_min_concurrency,
        }
    }
}

impl From<&config::Balancer> for Balancer {
    fn from(balancer: &config::Balancer) -> Self {
        let spec = match balancer {
            config::Balancer::LeastRequest => return Self::LeastRequest,
            config::Balancer::RoundRobin => return Self::RoundRobin,
            config::Balancer::Random => return Self::Random,
            config::Balancer::Passthrough => return Self::Passthrough,
            config::Balancer::ConsistentHash(spec) => spec,
        };
        let (by, name) = match &spec.key {
            HashKey::Header(name) => ("header", Some(name.clone())),
            HashKey::Cookie { name, .. } => ("cookie", Some(name.clone())),
            HashKey::SourceIp => ("source_ip", None),
            HashKey::Query(name) => ("query", Some(name.clone())),
        };
        let (table, table_size) = match spec.table {
            HashTable::Ring(size) => ("ring", size),
            HashTable::Maglev(size) => ("maglev", size),
        };
        Self::ConsistentHash { by, name, table, table_size }
    }
}

impl From<&config::OutlierDetection> for Outlier {
    fn from(outlier: &config::OutlierDetection) -> Self {
        Self {
            consecutive_5xx: outlier.consecutive_5xx,
            consecutive_gateway_errors: outlier.consecutive_gateway_errors,
            consecutive_local_failures: outlier.consecutive_local_failures,
            split_local_errors: outlier.split_local_errors,
            interval_ms: ms(outlier.interval),
            base_ejection_time_ms: ms(outlier.base_ejection_time),
            max_ejection_percent: outlier.max_ejection_percent,
            min_health_percent: outlier.min_health_percent,
        }
    }
}

impl From<&ClientTls> for Tls {
    fn from(tls: &ClientTls) -> Self {
        match tls.clone() {
            ClientTls::Auto => Self::Auto,
            ClientTls::Disable => Self::Disable,
            ClientTls::Mutual { subject_alt_names, sni } => Self::Mutual { subject_alt_names, sni },
            ClientTls::Simple { sni, subject_alt_names, insecure_skip_verify } => {
                Self::Simple { sni, subject_alt_names, insecure_skip_verify }
            }
            ClientTls::Unsupported(reason) => Self::Unsupported { reason },
        }
    }
}
