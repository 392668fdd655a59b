//! Services and DestinationRules.

use std::time::Duration;

use mesh_core::config::{Balancer, ClientTls, HashKey, HashTable, Protocol, Resolution};

use super::{compile, compiled, two_and, world};

#[test]
fn a_service_has_its_ports_with_protocols() {
    let objects = two_and("");
    let service = compiled!(Service, &objects, "one", "service/one/a.one.svc.cluster.local");
    assert_eq!(service.addresses, ["10.96.0.10".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(service.resolution, Resolution::Endpoints);
    assert_eq!(service.ports[&80].protocol, Protocol::Http);
    assert_eq!(service.ports[&9000].protocol, Protocol::Tcp);
    assert_eq!(service.ports[&80].policy.tls, ClientTls::Auto);
    assert_eq!(service.ports[&80].policy.retry_budget_percent, 20);
}

fn rule(namespace: &str, name: &str, created: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \"{created}\"}}\nspec: {spec}\n---\n"
    )
}
const OLD: &str = "2020-01-01T00:00:00Z";
const NEW: &str = "2021-01-01T00:00:00Z";

/// The balancer of a.one:80 as clients in `namespace` see it, and which rules shaped it.
fn balancer(objects: &crate::Objects, namespace: &str) -> (Balancer, Vec<String>) {
    let service = compiled!(Service, objects, namespace, "service/one/a.one.svc.cluster.local");
    let names = service.rules.iter().map(|rule| format!("{}/{}", rule.namespace, rule.name)).collect();
    (service.ports[&80].policy.balancer.clone(), names)
}

#[test]
fn rules_are_looked_up_with_the_client_then_the_service_then_the_root() {
    let host = "a.one.svc.cluster.local";
    let lb = |lb: &str| format!("{{host: {host}, trafficPolicy: {{loadBalancer: {{simple: {lb}}}}}}}");
    let text = rule("two", "client", OLD, &lb("RANDOM"))
        + &rule("one", "service", OLD, "{host: a, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}")
        + &rule("mesh-system", "root", OLD, "{host: '*.local', trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}");
    let objects = two_and(&text);
    assert_eq!(balancer(&objects, "two"), (Balancer::Random, vec!["two/client".into()]));
    assert_eq!(balancer(&objects, "one"), (Balancer::RoundRobin, vec!["one/service".into()]));
    assert_eq!(balancer(&objects, "three"), (Balancer::RoundRobin, vec!["one/service".into()]));
    let b = compiled!(Service, &objects, "three", "service/two/b.two.svc.cluster.local");
    assert_eq!(b.ports[&81].policy.balancer, Balancer::Passthrough);
}

#[test]
fn export_to_keeps_a_rule_at_home() {
    let spec = "{host: a, exportTo: ['.'], trafficPolicy: {loadBalancer: {simple: RANDOM}}}";
    let objects = two_and(&rule("one", "local", OLD, spec));
    assert_eq!(balancer(&objects, "one").0, Balancer::Random);
    assert_eq!(balancer(&objects, "two").0, Balancer::LeastRequest);
}

#[test]
fn rules_for_one_host_are_merged_oldest_first() {
    let text = rule(
        "one",
        "x",
        NEW,
        "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: other}}, {name: v2, labels: {version: v2}}]}",
    ) + &rule(
        "one",
        "y",
        OLD,
        "{host: a.one.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, subsets: [{name: v1, labels: {version: v1}}]}",
    );
    let objects = two_and(&text);
    assert_eq!(balancer(&objects, "one"), (Balancer::RoundRobin, vec!["one/y".into(), "one/x".into()]));
    let service = compiled!(Service, &objects, "one", "service/one/a.one.svc.cluster.local");
    assert_eq!(service.subsets["v1"].labels["version"], "v1");
    assert_eq!(service.subsets["v2"].labels["version"], "v2");
}

#[test]
fn a_ports_settings_replace_all_four_and_subsets_overlay() {
    let spec = "
  host: a
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    connectionPool: {tcp: {connectTimeout: 3s, maxConnections: 7}}
    outlierDetection: {consecutive5xxErrors: 2}
    portLevelSettings: [{port: {number: 9000}, connectionPool: {tcp: {connectTimeout: 1s}}}]
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy: {connectionPool: {tcp: {connectTimeout: 2s}}}
";
    let objects = two_and(&rule("one", "r", OLD, spec));
    let service = compiled!(Service, &objects, "one", "service/one/a.one.svc.cluster.local");
    let http = &service.ports[&80].policy;
    assert_eq!((http.pool.connect_timeout, http.pool.limits.connections_max), (Duration::from_secs(3), 7));
    assert_eq!(http.outlier.unwrap().consecutive_5xx, 2);
    let tcp = &service.ports[&9000].policy;
    assert_eq!((&tcp.balancer, tcp.pool.connect_timeout), (&Balancer::LeastRequest, Duration::from_secs(1)));
    assert_eq!(tcp.outlier, None);
    let v1 = &service.subsets["v1"].policies;
    assert_eq!((&v1[&80].balancer, v1[&80].pool.connect_timeout), (&Balancer::Random, Duration::from_secs(2)));
    assert_eq!(v1[&80].pool.limits.connections_max, u32::MAX, "connectionPool is replaced as a whole");
    assert_eq!(v1[&9000].pool.connect_timeout, Duration::from_secs(2));
}

#[test]
fn tls_that_is_not_built_or_not_readable_fails_instead_of_going_out_otherwise() {
    let tls = |tls: &str| {
        let objects = two_and(&rule("one", "r", OLD, &format!("{{host: a, trafficPolicy: {{{tls}}}}}")));
        compiled!(Service, &objects, "one", "service/one/a.one.svc.cluster.local").ports[&80].policy.tls.clone()
    };
    assert_eq!(tls("tls: {mode: DISABLE}"), ClientTls::Disable);
    assert!(matches!(tls("tls: {mode: ISTIO_MUTUAL}"), ClientTls::Mutual { .. }));
    assert!(matches!(tls("tls: {mode: SIMPLE}"), ClientTls::Simple { sni: Some(_), .. }));
    assert!(matches!(tls("tls: {mode: SIMPLE, credentialName: x}"), ClientTls::Unsupported(_)));
    assert!(matches!(tls("tls: {mode: MUTUAL}"), ClientTls::Unsupported(_)));
    assert!(matches!(tls("tls: {mode: SIMPEL}"), ClientTls::Unsupported(_)));
    assert!(matches!(tls("tlss: {mode: SIMPLE}"), ClientTls::Unsupported(_)));
    assert!(matches!(tls("proxyProtocol: {}"), ClientTls::Unsupported(_)));
    assert_eq!(tls("connectionPool: {tcp: {nope: 1}}"), ClientTls::Auto);
}

#[test]
fn a_subset_with_unreadable_labels_does_not_exist() {
    let spec = "{host: a, subsets: [{name: v1, labels: {version: 1}}, {name: v2, lables: {version: v2}}, {name: v3}]}";
    let objects = two_and(&rule("one", "r", OLD, spec));
    let service = compiled!(Service, &objects, "one", "service/one/a.one.svc.cluster.local");
    assert_eq!(service.subsets.keys().collect::<Vec<_>>(), ["v3"]);
}

#[test]
fn consistent_hashing_is_read() {
    let spec = "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: X-User, maglev: {tableSize: 101}}}}}";
    let Balancer::ConsistentHash(hash) = balancer(&two_and(&rule("one", "r", OLD, spec)), "one").0 else { panic!() };
    assert_eq!((hash.key, hash.table), (HashKey::Header("x-user".into()), HashTable::Maglev(101)));
}

#[test]
fn a_service_entry_is_a_service_per_host() {
    let objects = world(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: one}
spec:
  hosts: [api.example.com, '*.example.org']
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  exportTo: ['.']
",
    );
    let service = compiled!(Service, &objects, "one", "service/one/api.example.com");
    assert_eq!(
        (service.external, service.resolution, service.ports[&443].protocol),
        (true, Resolution::Dns, Protocol::Tls)
    );
    compiled!(Service, &objects, "one", "service/one/*.example.org");
    assert_eq!(compile(&objects, "two", "service/one/api.example.com"), None);
}

#[test]
fn a_headless_service_says_so() {
    let objects = world(
        "apiVersion: v1\nkind: Service\nmetadata: {name: h, namespace: n}\nspec: {clusterIP: None, ports: [{port: 5}]}\n",
    );
    let service = compiled!(Service, &objects, "n", "service/n/h.n.svc.cluster.local");
    assert_eq!(service.resolution, Resolution::Headless);
    assert!(service.addresses.is_empty());
}
