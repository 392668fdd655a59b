//! DestinationRules: which of them apply for a client, and what they come to per port and subset.
//!
//! Looked up in the client's namespace, then the service's, then the root namespace; the first that has any for the
//! host wins, and within it the most specific host. Rules of one namespace for one host are merged, the oldest first.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_core::config::{
    Balancer, CircuitLimits, ClientTls, ConnectionPool, HashKey, HashSpec, HashTable, LocalityFailover, Origin,
    OutlierDetection, ServiceName, TcpKeepalive, TrafficPolicy,
};
use mesh_crd::Object;
use mesh_crd::networking::{
    self, ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, H2UpgradePolicy, HashAlgorithm,
    LoadBalancerPolicy, LoadBalancerSettings, LocalityLoadBalancerSetting, SimpleLb,
};

use crate::Objects;
use crate::hosts;
use crate::objects::origin;
use crate::view::{View, export_list, exports};

/// Smallest ring of a consistent hash that asks for none.
const RING_SIZE_DEFAULT: u64 = 1024;
/// Largest ring or table, so that one rule cannot fill the memory of every proxy.
pub(crate) const HASH_TABLE_MAX: u64 = 1 << 20;
/// Table of Maglev hashing that asks for none; a prime.
const MAGLEV_SIZE_DEFAULT: u64 = 65_537;
/// Share of active requests that may be retries, percent.
const RETRY_BUDGET_PERCENT: u32 = 20;
/// Retries that are always affordable.
const RETRY_MIN_CONCURRENCY: u32 = 3;

/// The DestinationRules that shape a service for a client, merged.
pub(crate) struct Rules<'o> {
    pub(crate) objects: Vec<&'o Object<DestinationRule>>,
}

impl<'o> View<'o> {
    /// The rules for a service.
    pub(crate) fn rules_for(&self, service: &ServiceName) -> Rules<'o> {
        let root = self.objects.options.root_namespace.as_str();
        let levels = [self.namespace, &service.namespace, root];
        for (level, namespace) in levels.into_iter().enumerate() {
            let own = level == 0;
            let applies = |rule: &&'o Object<DestinationRule>| {
                let spec = &rule.spec;
                // In the root namespace, only what is kept to it is its clients' own; the rest is mesh-wide.
                let local = spec.export_to.iter().all(|entry| entry == ".") && !spec.export_to.is_empty();
                rule.meta.namespace == namespace
                    && match own {
                        true => namespace != root || local,
                        false => self.sees_rule(rule),
                    }
            };
            for pattern in hosts::patterns(&service.host) {
                let objects: Vec<_> =
                    self.objects.rules_at(&pattern).into_iter().map(|rule| &**rule).filter(applies).collect();
                if !objects.is_empty() {
                    return Rules { objects };
                }
            }
        }
        Rules { objects: Vec::new() }
    }

    fn sees_rule(&self, rule: &Object<DestinationRule>) -> bool {
        let default = &self.objects.mesh.default_destination_rule_export_to;
        exports(export_list(&rule.spec.export_to, rule), default, &rule.meta.namespace, self.namespace)
    }
}

impl<'o> Rules<'o> {
    pub(crate) fn origins(&self) -> Vec<Origin> {
        self.objects.iter().map(|rule| origin(rule)).collect()
    }

    /// The subsets; of two with one name the first counts. One whose labels could not be read is left out, because it
    /// would hold more endpoints than its author meant.
    pub(crate) fn subsets(&self) -> Vec<&'o networking::Subset> {
        let mut found: Vec<&networking::Subset> = Vec::new();
        for rule in &self.objects {
            for (index, subset) in rule.spec.subsets.iter().enumerate() {
                let at = format!("spec.subsets[{index}]");
                let broken = rule.issues.iter().any(|issue| subset_is_spoiled(&issue.path, &at));
                let known = found.iter().any(|other| other.name == subset.name);
                if !known && !broken && !subset.name.is_empty() {
                    found.push(subset);
                }
            }
        }
        found
    }

    /// What applies to a port, of the whole service or of a subset.
    pub(crate) fn effective(&self, port: u32, subset: Option<&'o networking::Subset>) -> Effective<'o> {
        let top = self.objects.iter().find_map(|rule| Some((*rule, rule.spec.traffic_policy.as_ref()?)));
        let mut effective = Effective::default();
        if let Some((rule, policy)) = top {
            effective.overlay(policy, port, true);
            effective.broken_tls = broken_tls(rule, "spec.trafficPolicy");
        }
        if let Some(subset) = subset {
            for rule in &self.objects {
                let found = rule.spec.subsets.iter().position(|other| std::ptr::eq(other, subset));
                let Some(index) = found else { continue };
                let at = format!("spec.subsets[{index}].trafficPolicy");
                effective.broken_tls = effective.broken_tls.take().or_else(|| broken_tls(rule, &at));
            }
            if let Some(policy) = &subset.traffic_policy {
                effective.overlay(policy, port, false);
            }
        }
        effective
    }
}

/// Whether an issue at `path` makes the subset at `at` wider: in its name or labels, or a field nobody knows.
fn subset_is_spoiled(path: &str, at: &str) -> bool {
    mesh_crd::path::is_within(path, at) && !mesh_crd::path::is_within(path, &format!("{at}.trafficPolicy"))
        || mesh_crd::path::is_within(at, path)
}

/// Why TLS as written under `at` cannot be trusted: something in it could not be read.
fn broken_tls(rule: &Object<DestinationRule>, at: &str) -> Option<String> {
    let in_tls = |path: &str| mesh_crd::path::is_within(path, at) && (path.contains(".tls") || path.len() == at.len());
    let direct = |path: &str| mesh_crd::path::parent(path) == Some(at);
    let issue = rule.issues.iter().find(|issue| in_tls(&issue.path) || direct(&issue.path))?;
    Some(format!("{} of DestinationRule {}: {}", issue.path, rule.key(), issue.message))
}

/// The settings that remain for one port, each as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effective<'o> {
    balancer: Option<&'o LoadBalancerSettings>,
    pool: Option<&'o ConnectionPoolSettings>,
    outlier: Option<&'o networking::OutlierDetection>,
    tls: Option<&'o ClientTlsSettings>,
    tunnel: bool,
    proxy_protocol: bool,
    retry_budget: Option<&'o networking::RetryBudget>,
    broken_tls: Option<String>,
}

impl<'o> Effective<'o> {
    /// Lays a policy over what is there. A port's own settings replace all four, also where they leave one out.
    fn overlay(&mut self, policy: &'o networking::TrafficPolicy, port: u32, base: bool) {
        let of_port = |of: &&networking::PortTrafficPolicy| of.port.as_ref().is_some_and(|p| p.number == port);
        if let Some(own) = policy.port_level_settings.iter().find(of_port) {
            self.balancer = own.load_balancer.as_ref();
            self.pool = own.connection_pool.as_ref();
            self.outlier = own.outlier_detection.as_ref();
            self.tls = own.tls.as_ref();
            return;
        }
        self.balancer = policy.load_balancer.as_ref().or(self.balancer);
        self.pool = policy.connection_pool.as_ref().or(self.pool);
        self.outlier = policy.outlier_detection.as_ref().or(self.outlier);
        self.tls = policy.tls.as_ref().or(self.tls);
        if base {
            self.tunnel = policy.tunnel.is_some();
            self.proxy_protocol = policy.proxy_protocol.is_some();
            self.retry_budget = policy.retry_budget.as_ref();
        }
    }

    /// The policy in the mesh's words; `names` are the ServiceEntry's `subjectAltNames`.
    pub(crate) fn compile(&self, objects: &Objects, names: &[String], service: &ServiceName) -> TrafficPolicy {
        let mesh = &objects.mesh;
        let locality = self.balancer.and_then(|lb| lb.locality_lb_setting.as_ref());
        let budget = self.retry_budget;
        let percent = budget.and_then(|budget| budget.percent).map(|percent| percent.0.clamp(0.0, 100.0) as u32);
        let concurrency = budget.map(|budget| budget.min_retry_concurrency).filter(|least| *least > 0);
        TrafficPolicy {
            balancer: self.balancer.map_or_else(Balancer::default, balancer),
            pool: pool(self.pool, mesh),
            outlier: self.outlier.map(outlier),
            tls: self.client_tls(names, service),
            locality: locality.or(mesh.locality_lb_setting.as_ref()).map_or_else(Default::default, locality_failover),
            retry_budget_percent: percent.unwrap_or(RETRY_BUDGET_PERCENT),
            retry_min_concurrency: concurrency.unwrap_or(RETRY_MIN_CONCURRENCY),
        }
    }

    fn client_tls(&self, names: &[String], service: &ServiceName) -> ClientTls {
        if let Some(reason) = &self.broken_tls {
            return ClientTls::Unsupported(reason.clone());
        }
        if self.tunnel {
            return ClientTls::Unsupported("trafficPolicy.tunnel is not built".to_owned());
        }
        if self.proxy_protocol {
            return ClientTls::Unsupported("trafficPolicy.proxyProtocol is not built".to_owned());
        }
        self.tls.map_or(ClientTls::Auto, |tls| client_tls(tls, names, service))
    }
}

/// TLS to the endpoints. What is not built fails instead of going out in another form.
pub(crate) fn client_tls(tls: &ClientTlsSettings, names: &[String], service: &ServiceName) -> ClientTls {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let subject_alt_names = match tls.subject_alt_names.is_empty() {
        true => names.to_vec(),
        false => tls.subject_alt_names.clone(),
    };
    match tls.mode {
        ClientTlsMode::Disable => ClientTls::Disable,
        ClientTlsMode::IstioMutual => ClientTls::Mutual {
            subject_alt_names: tls.subject_alt_names.iter().chain(names).cloned().collect(),
            sni: filled(&tls.sni),
        },
        ClientTlsMode::Mutual => ClientTls::Unsupported("tls.mode MUTUAL is not built".to_owned()),
        ClientTlsMode::Simple => {
            let own_roots = !matches!(tls.ca_certificates.as_str(), "" | "system");
            let unbuilt = [
                ("caCertificates", own_roots),
                ("caCrl", !tls.ca_crl.is_empty()),
                ("credentialName", !tls.credential_name.is_empty()),
                ("clientCertificate", !tls.client_certificate.is_empty()),
            ];
            if let Some((field, _)) = unbuilt.iter().find(|(_, set)| *set) {
                return ClientTls::Unsupported(format!("tls.{field} is not built"));
            }
            // A wildcard is no name to ask for: then the proxy asks for the request's own host.
            let host = if service.host.starts_with('*') { "" } else { &service.host };
            ClientTls::Simple {
                sni: filled(&tls.sni).or_else(|| filled(host)),
                subject_alt_names,
                insecure_skip_verify: tls.insecure_skip_verify == Some(true),
            }
        }
    }
}

fn balancer(settings: &LoadBalancerSettings) -> Balancer {
    match &settings.policy {
        None => Balancer::default(),
        Some(LoadBalancerPolicy::Simple(simple)) => match simple {
            SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest => Balancer::LeastRequest,
            SimpleLb::Random => Balancer::Random,
            SimpleLb::Passthrough => Balancer::Passthrough,
            SimpleLb::RoundRobin => Balancer::RoundRobin,
        },
        Some(LoadBalancerPolicy::ConsistentHash(hash)) => {
            let Some(key) = hash.hash_key.as_ref().and_then(hash_key) else { return Balancer::default() };
            let ring = |size: u64| HashTable::Ring(size.clamp(1, HASH_TABLE_MAX));
            let table = match &hash.hash_algorithm {
                Some(HashAlgorithm::RingHash(own)) if own.minimum_ring_size > 0 => ring(own.minimum_ring_size),
                Some(HashAlgorithm::Maglev(own)) => match own.table_size {
                    0 => HashTable::Maglev(MAGLEV_SIZE_DEFAULT),
                    size if size <= HASH_TABLE_MAX && is_prime(size) => HashTable::Maglev(size),
                    _ => HashTable::Maglev(MAGLEV_SIZE_DEFAULT),
                },
                _ => ring(hash.minimum_ring_size.filter(|size| *size > 0).unwrap_or(RING_SIZE_DEFAULT)),
            };
            Balancer::ConsistentHash(HashSpec { key, table })
        }
    }
}

fn hash_key(key: &networking::HashKey) -> Option<HashKey> {
    match key {
        networking::HashKey::HttpHeaderName(name) => Some(HashKey::Header(name.to_ascii_lowercase())),
        networking::HashKey::HttpCookie(cookie) => {
            Some(HashKey::Cookie { name: cookie.name.clone(), path: cookie.path.clone(), ttl: cookie.ttl })
        }
        networking::HashKey::UseSourceIp(true) => Some(HashKey::SourceIp),
        networking::HashKey::UseSourceIp(false) => None,
        networking::HashKey::HttpQueryParameterName(name) => Some(HashKey::Query(name.clone())),
    }
}

/// Whether a number up to [`HASH_TABLE_MAX`] is a prime.
pub(crate) fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

fn pool(settings: Option<&ConnectionPoolSettings>, mesh: &mesh_crd::MeshConfig) -> ConnectionPool {
    let default = ConnectionPool::default();
    let tcp = settings.and_then(|pool| pool.tcp.as_ref());
    let http = settings.and_then(|pool| pool.http.as_ref());
    // 0, as for all of protobuf's numbers, means that nothing is set.
    let limit = |value: i32| u32::try_from(value).ok().filter(|value| *value > 0).unwrap_or(u32::MAX);
    let keepalive = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()).or(mesh.tcp_keepalive.as_ref());
    let upgrade = http.map_or(H2UpgradePolicy::Default, |http| http.h2_upgrade_policy);
    let upgrade = if upgrade == H2UpgradePolicy::Default { mesh.h2_upgrade_policy } else { upgrade };
    let connect = tcp.and_then(|tcp| tcp.connect_timeout).or(mesh.connect_timeout);
    ConnectionPool {
        connect_timeout: connect.filter(|timeout| *timeout > Duration::ZERO).unwrap_or(default.connect_timeout),
        tcp_idle_timeout: tcp.and_then(|tcp| tcp.idle_timeout).unwrap_or(default.tcp_idle_timeout),
        max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration).filter(|life| *life > Duration::ZERO),
        keepalive: keepalive.map(|keepalive| TcpKeepalive {
            probes: keepalive.probes,
            time: keepalive.time.unwrap_or_default(),
            interval: keepalive.interval.unwrap_or_default(),
        }),
        http_idle_timeout: http.and_then(|http| http.idle_timeout).unwrap_or(default.http_idle_timeout),
        requests_per_connection_max: http.map_or(0, |http| http.max_requests_per_connection.max(0) as u32),
        upgrade_to_http2: upgrade == H2UpgradePolicy::Upgrade,
        use_client_protocol: http.is_some_and(|http| http.use_client_protocol),
        limits: CircuitLimits {
            connections_max: limit(tcp.map_or(0, |tcp| tcp.max_connections)),
            pending_max: limit(http.map_or(0, |http| http.http1_max_pending_requests)),
            requests_max: limit(http.map_or(0, |http| http.http2_max_requests)),
            retries_max: limit(http.map_or(0, |http| http.max_retries)),
        },
    }
}

fn outlier(settings: &networking::OutlierDetection) -> OutlierDetection {
    let percent = |value: i32, default: u32| match u32::try_from(value) {
        Ok(0) | Err(_) => default,
        Ok(value) => value.min(100),
    };
    let time = |value: Option<Duration>, default| {
        value.filter(|time| *time > Duration::ZERO).unwrap_or(Duration::from_secs(default))
    };
    // The deprecated consecutiveErrors means 5xx, where the newer field is absent.
    let older = settings.consecutive_errors.and_then(|errors| u32::try_from(errors).ok());
    OutlierDetection {
        consecutive_5xx: settings.consecutive_5xx_errors.or(older).unwrap_or(5),
        consecutive_gateway_errors: settings.consecutive_gateway_errors.unwrap_or(0),
        consecutive_local_failures: settings.consecutive_local_origin_failures.unwrap_or(5),
        split_local_errors: settings.split_external_local_origin_errors,
        interval: time(settings.interval, 10),
        base_ejection_time: time(settings.base_ejection_time, 30),
        max_ejection_percent: percent(settings.max_ejection_percent, 10),
        min_health_percent: percent(settings.min_health_percent, 0),
    }
}

fn locality_failover(setting: &LocalityLoadBalancerSetting) -> LocalityFailover {
    let distribute = setting.distribute.iter().map(|from| (from.from.clone(), from.to.clone()));
    let failover = setting.failover.iter().map(|pair| (pair.from.clone(), pair.to.clone()));
    LocalityFailover {
        disabled: setting.enabled == Some(false),
        failover: failover.collect::<BTreeMap<_, _>>(),
        priority: setting.failover_priority.clone(),
        distribute: distribute.collect(),
    }
}
