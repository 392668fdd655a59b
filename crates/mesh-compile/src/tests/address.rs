//! Addresses, hosts and what is visible.

use mesh_core::config::{AddressAnswer, HiddenReason, HostAnswer};

use super::{compiled, two_and};

/// What is at an address, in short.
fn at(objects: &crate::Objects, namespace: &str, ip: &str) -> String {
    match compiled!(Address, objects, namespace, &format!("address/{ip}")).answer {
        AddressAnswer::Absent => "absent".to_owned(),
        AddressAnswer::Services(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        AddressAnswer::Workload { endpoint, services } => format!("{} of {} services", endpoint.uid, services.len()),
        AddressAnswer::Hidden { endpoint, reason } => {
            format!("hidden {reason:?} {}", endpoint.map(|e| e.uid.to_string()).unwrap_or_default())
        }
    }
}

fn host(objects: &crate::Objects, namespace: &str, name: &str) -> String {
    match compiled!(Host, objects, namespace, &format!("host/{name}")).answer {
        HostAnswer::Absent => "absent".to_owned(),
        HostAnswer::Service(name) => name.to_string(),
        HostAnswer::Routes(name) => format!("routes {name}"),
    }
}

#[test]
fn addresses_are_services_workloads_or_absent() {
    let objects = two_and("");
    assert_eq!(at(&objects, "two", "10.96.0.10"), "one/a.one.svc.cluster.local");
    assert_eq!(at(&objects, "two", "10.244.0.1"), "uid-a of 1 services");
    assert_eq!(at(&objects, "two", "10.244.0.9"), "absent");
}

#[test]
fn export_to_hides_services_and_their_pods() {
    let hidden = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: one, annotations: {networking.istio.io/exportTo: '.'}}\nspec: {clusterIP: 10.96.0.10, selector: {app: a}, ports: [{port: 80}]}\n";
    let objects = two_and(hidden);
    assert_eq!(at(&objects, "one", "10.96.0.10"), "one/a.one.svc.cluster.local");
    assert_eq!(at(&objects, "two", "10.96.0.10"), format!("hidden {:?} ", HiddenReason::ExportTo));
    assert_eq!(at(&objects, "two", "10.244.0.1"), "hidden ExportTo uid-a");
    assert_eq!(host(&objects, "two", "a.one:80"), "absent");
    assert!(super::compile(&objects, "two", "service/one/a.one.svc.cluster.local").is_none());
}

#[test]
fn a_sidecar_bounds_what_its_namespace_sees() {
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: two}\nspec: {egress: [{hosts: ['./*', 'mesh-system/*']}]}\n";
    let objects = two_and(sidecar);
    assert_eq!(at(&objects, "two", "10.96.0.10"), "hidden Sidecar ");
    assert_eq!(at(&objects, "two", "10.96.0.20"), "two/b.two.svc.cluster.local");
    assert_eq!(at(&objects, "one", "10.96.0.20"), "two/b.two.svc.cluster.local");
    assert_eq!(host(&objects, "two", "a.one:80"), "absent");
}

#[test]
fn short_names_are_completed_in_the_clients_namespace() {
    let objects = two_and("");
    let full = "one/a.one.svc.cluster.local";
    for name in ["a:80", "A:80", "a.one:80", "a.one.svc:80", "a.one.svc.cluster.local:80"] {
        assert_eq!(host(&objects, "one", name), full, "{name}");
    }
    assert_eq!(host(&objects, "two", "a:80"), "absent");
    assert_eq!(host(&objects, "one", "a:81"), "absent");
}

#[test]
fn wildcards_ranges_and_routes_are_found() {
    let objects = two_and(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: one}
spec: {hosts: ['*.example.com'], addresses: [203.0.113.0/24], ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: one}
spec: {hosts: [special.example.com, only.routes], http: [{route: [{destination: {host: a}}]}]}
",
    );
    assert_eq!(host(&objects, "two", "x.example.com:443"), "one/*.example.com");
    assert_eq!(host(&objects, "two", "special.example.com:443"), "routes one/special.example.com");
    assert_eq!(host(&objects, "two", "only.routes:80"), "routes one/only.routes");
    assert_eq!(at(&objects, "two", "203.0.113.7"), "one/*.example.com");
    compiled!(RouteTable, &objects, "two", "routes/one/only.routes");
}

#[test]
fn a_service_entry_cannot_take_a_services_host_over_from_another_namespace() {
    let objects = two_and("
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: evil, namespace: two, creationTimestamp: '2000-01-01T00:00:00Z'}
spec: {hosts: [a.one.svc.cluster.local], addresses: [10.96.0.10], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 6.6.6.6}]}
");
    assert_eq!(host(&objects, "three", "a.one.svc.cluster.local:80"), "one/a.one.svc.cluster.local");
    assert_eq!(at(&objects, "three", "10.96.0.10"), "one/a.one.svc.cluster.local");
    assert_eq!(host(&objects, "two", "a.one.svc.cluster.local:80"), "two/a.one.svc.cluster.local");
}

#[test]
fn the_smallest_range_wins_and_pods_keep_their_addresses() {
    let entry = |name: &str, namespace: &str, address: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{hosts: [{name}.example], addresses: [{address}], ports: [{{number: 80, name: http, protocol: HTTP}}]}}\n---\n"
        )
    };
    let objects = two_and(
        &(entry("wide", "one", "203.0.0.0/8")
            + &entry("zarrow", "one", "203.0.113.0/24")
            + &entry("evil", "two", "10.244.0.1")),
    );
    assert_eq!(at(&objects, "one", "203.0.113.7"), "one/zarrow.example");
    assert_eq!(at(&objects, "one", "203.0.1.7"), "one/wide.example");
    assert_eq!(at(&objects, "three", "10.244.0.1"), "uid-a of 1 services");
    assert_eq!(at(&objects, "two", "10.244.0.1"), "two/evil.example");
}

/// Entries of `two` for a's host, for the wildcard above it and for a's address, with a port that `a` does not have.
const GRAB: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: grab, namespace: two, creationTimestamp: '2000-01-01T00:00:00Z'}
spec: {hosts: [a.one.svc.cluster.local, '*.one.svc.cluster.local'], addresses: [10.96.0.10], ports: [{number: 80, name: http, protocol: HTTP}, {number: 8443, name: x, protocol: TCP}], resolution: STATIC, endpoints: [{address: 6.6.6.6}]}
";

#[test]
fn a_service_entry_takes_over_neither_a_port_that_a_service_lacks_nor_a_hidden_service() {
    let objects = two_and(GRAB);
    for name in ["a.one.svc.cluster.local:8443", "a.one:8443"] {
        assert_eq!(host(&objects, "three", name), "absent", "{name}");
    }
    let hidden = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: one, annotations: {networking.istio.io/exportTo: '.'}}\nspec: {clusterIP: 10.96.0.10, selector: {app: a}, ports: [{port: 80}]}\n---\n";
    let objects = two_and(&format!("{hidden}{GRAB}"));
    assert_eq!(at(&objects, "three", "10.96.0.10"), "hidden ExportTo ");
    assert_eq!(host(&objects, "three", "a.one.svc.cluster.local:80"), "absent");
}

#[test]
fn of_several_claims_to_an_address_the_clients_own_and_then_the_oldest_counts() {
    let workload = |namespace: &str, created: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w, namespace: {namespace}, creationTimestamp: '{created}'}}\nspec: {{address: 10.1.0.7}}\n---\n"
        )
    };
    let objects = two_and(&(workload("aaa", "2026-02-02T00:00:00Z") + &workload("prod", "2026-01-01T00:00:00Z")));
    assert_eq!(at(&objects, "three", "10.1.0.7"), "workloadentry.prod.w of 0 services");
    assert_eq!(at(&objects, "aaa", "10.1.0.7"), "workloadentry.aaa.w of 0 services");
    let entry = |namespace: &str, created: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: {namespace}, creationTimestamp: '{created}'}}\nspec: {{hosts: [{namespace}.example], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{{address: 10.1.0.8}}]}}\n---\n"
        )
    };
    let objects = two_and(&(entry("aaa", "2026-02-02T00:00:00Z") + &entry("prod", "2026-01-01T00:00:00Z")));
    assert_eq!(at(&objects, "three", "10.1.0.8"), "serviceentry.prod.e.10.1.0.8 of 2 services");
}

#[test]
fn nobody_crowds_an_address_out() {
    let entry = |name: &str, created: &str, hosts: &str, fields: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: {name}, creationTimestamp: '{created}'}}\nspec: {{hosts: [{hosts}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, {fields}}}\n---\n"
        )
    };
    let crowd: Vec<String> = (0..1000).map(|n| format!("h{n}.example")).collect();
    let both = |fields: &str| {
        let old = entry("prod", "2026-01-01T00:00:00Z", "db.example", fields);
        two_and(&(old + &entry("aaa", "2026-02-02T00:00:00Z", &crowd.join(", "), fields)))
    };
    let at_address = |objects: &crate::Objects, ip: &str| match compiled!(
        Address,
        objects,
        "three",
        &format!("address/{ip}")
    )
    .answer
    {
        AddressAnswer::Services(services) | AddressAnswer::Workload { services, .. } => services,
        other => panic!("{other:?}"),
    };
    let listed = both("addresses: [203.0.113.7]");
    let endpoints = both("endpoints: [{address: 203.0.113.7}]");
    for objects in [listed, endpoints] {
        let services = at_address(&objects, "203.0.113.7");
        assert_eq!((services[0].to_string().as_str(), services.len()), ("prod/db.example", 64));
    }
}
