//! DestinationRules: hosts, merging, subsets, and what of a policy is not built.

use std::collections::BTreeSet;

use mesh_core::config::{ClientTls, ServiceName};
use mesh_crd::Object;
use mesh_crd::networking::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, HashAlgorithm, HashKey, LoadBalancerPolicy,
    LoadBalancerSettings, OutlierDetection, TrafficPolicy,
};

use crate::objects::selects;
use crate::policy::{HASH_TABLE_MAX, client_tls, is_prime};
use crate::problem::{Code, Problems};
use crate::service::Shape;
use crate::view::Definition;
use crate::{Objects, hosts};

impl Objects {
    pub(super) fn check_destination_rule(&self, object: &Object<DestinationRule>, problems: &mut Problems) {
        let spec = &object.spec;
        let host = self.rule_host(object);
        if spec.host.is_empty() {
            problems.error(
                Code::InvalidValue,
                "spec.host",
                "there is no host, so the rule does not act",
                "name the host",
            );
            return;
        }
        if spec.workload_selector.is_some() {
            let message = "rules for some clients only are not built: the rule does not act at all";
            let fix = "remove the selector, to use the rule for all clients of the namespace";
            problems.error(Code::NotActing, "spec.workloadSelector", message, fix);
        }
        let definers: Vec<_> = match host.starts_with('*') {
            true => Vec::new(),
            false => {
                hosts::patterns(&host).flat_map(|pattern| self.definers_of(&pattern).collect::<Vec<_>>()).collect()
            }
        };
        let under = || self.index.definers.keys().any(|known| hosts::covers(&host, known));
        if definers.is_empty() && !(host.starts_with('*') && under()) {
            let message = format!("no Service or ServiceEntry has the host {host}");
            let fix = self.full_name(&spec.host).map_or_else(
                || "create it, or correct the name".to_owned(),
                |full| format!("write {full}: names with a dot are not completed"),
            );
            problems.warning(Code::MissingHost, "spec.host", message, fix);
        }
        self.check_merge(object, &host, problems);
        if let Some(policy) = &spec.traffic_policy {
            check_policy(policy, "spec.trafficPolicy", &host, &definers, problems);
        }
        let mut names = BTreeSet::new();
        for (index, subset) in spec.subsets.iter().enumerate() {
            let at = format!("spec.subsets[{index}]");
            if subset.name.is_empty() {
                problems.error(Code::InvalidValue, &at, "the subset has no name", "name it");
            } else if !names.insert(&subset.name) {
                let message = format!("the subset {:?} is defined twice; the first counts", subset.name);
                problems.error(Code::Conflict, &at, message, "remove one of them");
            }
            if let Some(policy) = &subset.traffic_policy {
                check_policy(policy, &format!("{at}.trafficPolicy"), &host, &definers, problems);
            }
            let empty = definers.iter().all(|definition| !self.has_member(*definition, &host, &subset.labels));
            if !definers.is_empty() && empty {
                let message = format!(
                    "no endpoint of {host} has the labels {:?}; requests to it are answered with 503",
                    subset.labels
                );
                problems.warning(
                    Code::SelectsNothing,
                    &format!("{at}.labels"),
                    message,
                    "correct the labels, or deploy the version",
                );
            }
        }
    }

    fn has_member(
        &self,
        definition: Definition<'_>,
        host: &str,
        labels: &std::collections::BTreeMap<String, String>,
    ) -> bool {
        let members = self.compile_endpoints(&ServiceName::new(definition.namespace(), host));
        members.into_iter().flatten().any(|endpoint| selects(labels, &endpoint.labels))
    }

    /// Other rules of the same namespace for the same host, with which this one is merged.
    fn check_merge(&self, object: &Object<DestinationRule>, host: &str, problems: &mut Problems) {
        let all = self.rules_at(host);
        let all: Vec<_> = all.into_iter().filter(|rule| rule.meta.namespace == object.meta.namespace).collect();
        let Some(at) = all.iter().position(|rule| rule.key() == object.key()) else { return };
        let before = &all[..at];
        let first = before.iter().find(|rule| rule.spec.traffic_policy.is_some());
        if let (Some(first), true) = (first, object.spec.traffic_policy.is_some()) {
            let message =
                format!("DestinationRule {} for the same host is older, so its trafficPolicy counts", first.key());
            problems.error(Code::Conflict, "spec.trafficPolicy", message, "merge the rules into one object");
        }
        for (index, subset) in object.spec.subsets.iter().enumerate() {
            let has = |rule: &&&std::sync::Arc<Object<DestinationRule>>| {
                rule.spec.subsets.iter().any(|other| other.name == subset.name)
            };
            if let Some(other) = before.iter().find(has) {
                let message = format!(
                    "DestinationRule {} for the same host is older and defines {:?} too; its definition counts",
                    other.key(),
                    subset.name
                );
                problems.error(
                    Code::Conflict,
                    &format!("spec.subsets[{index}]"),
                    message,
                    "merge the rules into one object",
                );
            }
        }
    }
}

fn check_policy(policy: &TrafficPolicy, at: &str, host: &str, definers: &[Definition<'_>], problems: &mut Problems) {
    check_four(
        policy.load_balancer.as_ref(),
        policy.connection_pool.as_ref(),
        policy.outlier_detection.as_ref(),
        policy.tls.as_ref(),
        (at, host),
        problems,
    );
    for (set, field) in [(policy.tunnel.is_some(), "tunnel"), (policy.proxy_protocol.is_some(), "proxyProtocol")] {
        if set {
            let message = "this is not built: requests to the destination fail instead of going out without it";
            problems.error(Code::Unsupported, &format!("{at}.{field}"), message, "remove it");
        }
    }
    if policy.retry_budget.as_ref().is_some_and(|budget| budget.budget_interval.is_some()) {
        problems.unsupported(&format!("{at}.retryBudget.budgetInterval"), "the budget is counted over active requests");
    }
    let ports: Vec<_> = definers.iter().flat_map(|definition| Shape::of(*definition).ports).map(|(n, ..)| n).collect();
    for (index, own) in policy.port_level_settings.iter().enumerate() {
        let at = format!("{at}.portLevelSettings[{index}]");
        let number = own.port.as_ref().map_or(0, |port| port.number);
        if !ports.is_empty() && !ports.iter().any(|port| u32::from(*port) == number) {
            let message = format!("{host} has no port {number}, only {ports:?}; these settings do not act");
            problems.warning(Code::MissingPort, &format!("{at}.port"), message, "name a port of the Service");
        }
        let four = (own.load_balancer.as_ref(), own.connection_pool.as_ref(), own.outlier_detection.as_ref());
        check_four(four.0, four.1, four.2, own.tls.as_ref(), (&at, host), problems);
    }
}

fn check_four(
    balancer: Option<&LoadBalancerSettings>,
    pool: Option<&ConnectionPoolSettings>,
    outlier: Option<&OutlierDetection>,
    tls: Option<&ClientTlsSettings>,
    (at, host): (&str, &str),
    problems: &mut Problems,
) {
    if let Some(balancer) = balancer {
        check_balancer(balancer, &format!("{at}.loadBalancer"), outlier.is_some(), problems);
    }
    if pool.and_then(|pool| pool.tcp.as_ref()).is_some_and(|tcp| tcp.tcp_keepalive.is_some()) {
        let field = format!("{at}.connectionPool.tcp.tcpKeepalive");
        problems.unsupported(&field, "the proxy's own keepalive probes are sent");
    }
    if pool.and_then(|pool| pool.tcp.as_ref()).is_some_and(|tcp| tcp.max_connections != 0) {
        let field = format!("{at}.connectionPool.tcp.maxConnections");
        problems.unsupported(&field, "it limits opaque connections; HTTP is limited by http2MaxRequests only");
    }
    if let Some(http) = pool.and_then(|pool| pool.http.as_ref()) {
        if http.http2_keep_alive.is_some() {
            problems.unsupported(&format!("{at}.connectionPool.http.http2KeepAlive"), "no PINGs are sent");
        }
        if http.max_concurrent_streams != 0 {
            let field = format!("{at}.connectionPool.http.maxConcurrentStreams");
            problems.unsupported(&field, "the server's own limit of streams holds");
        }
    }
    if outlier.is_some_and(|outlier| !outlier.outlier_detection_http_error_codes.is_empty()) {
        let field = format!("{at}.outlierDetection.outlierDetectionHttpErrorCodes");
        problems.unsupported(&field, "5xx answers count as errors");
    }
    if let Some(tls) = tls {
        let compiled = client_tls(tls, &[], &ServiceName::new("", host));
        let unbuilt = match compiled {
            ClientTls::Unsupported(why) => Some(why),
            // The model has it; the proxy does not make such connections yet.
            ClientTls::Simple { .. } => Some("tls.mode SIMPLE is not built".to_owned()),
            ClientTls::Auto | ClientTls::Disable | ClientTls::Mutual { .. } => None,
        };
        if let Some(why) = unbuilt {
            let message = format!("{why}: requests to the destination fail instead of going out in another form");
            let fix = "use DISABLE or ISTIO_MUTUAL, or let the application encrypt";
            problems.error(Code::Unsupported, &format!("{at}.tls"), message, fix);
        }
        if tls.insecure_skip_verify == Some(true) {
            let message = "the server is not verified: anybody on the way can answer in its place";
            problems.warning(Code::InvalidValue, &format!("{at}.tls.insecureSkipVerify"), message, "remove it");
        }
    }
}

fn check_balancer(settings: &LoadBalancerSettings, at: &str, outlier: bool, problems: &mut Problems) {
    if settings.warmup.is_some() || settings.warmup_duration_secs.is_some() {
        problems.unsupported(&format!("{at}.warmup"), "new endpoints get their full share at once");
    }
    if settings.zone_aware_lb_setting.is_some() {
        problems.unsupported(&format!("{at}.zoneAwareLbSetting"), "zones are not preferred by it");
    }
    if settings.locality_lb_setting.as_ref().is_some_and(|setting| setting.distribute.is_empty()) && !outlier {
        let message = "failover by locality acts only together with outlierDetection";
        problems.info(Code::NotActing, &format!("{at}.localityLbSetting"), message, "add outlierDetection");
    }
    let Some(LoadBalancerPolicy::ConsistentHash(hash)) = &settings.policy else { return };
    let at = format!("{at}.consistentHash");
    if matches!(hash.hash_key, None | Some(HashKey::UseSourceIp(false))) {
        let message = "nothing says what is hashed; the default balancing acts instead";
        problems.error(Code::InvalidValue, &at, message, "name a header, cookie, query parameter or useSourceIp");
    }
    if matches!(&hash.hash_key, Some(HashKey::HttpCookie(cookie)) if cookie.ttl.is_some()) {
        let effect = "no cookie is made; a client that has none is balanced without it";
        problems.unsupported(&format!("{at}.httpCookie.ttl"), effect);
    }
    if matches!(&hash.hash_key, Some(HashKey::HttpCookie(cookie)) if !cookie.attributes.is_empty()) {
        problems.unsupported(&format!("{at}.httpCookie.attributes"), "the cookie is made without them");
    }
    match &hash.hash_algorithm {
        Some(HashAlgorithm::Maglev(own))
            if own.table_size != 0 && (own.table_size > HASH_TABLE_MAX || !is_prime(own.table_size)) =>
        {
            let message = format!("the table's size must be a prime up to {HASH_TABLE_MAX}; 65537 is used");
            problems.error(Code::InvalidValue, &format!("{at}.maglev.tableSize"), message, "write such a prime");
        }
        Some(HashAlgorithm::RingHash(own)) if own.minimum_ring_size > HASH_TABLE_MAX => {
            let message = format!("a ring may have at most {HASH_TABLE_MAX} points; this many are used");
            problems.warning(Code::InvalidValue, &format!("{at}.ringHash.minimumRingSize"), message, "write less");
        }
        _ => {}
    }
}
