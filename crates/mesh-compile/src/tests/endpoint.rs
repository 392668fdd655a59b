//! Endpoints and their identities.

use mesh_core::config::{Endpoint, Health, ProxyKind};

use super::{compiled, two_and, world};

fn endpoints(objects: &crate::Objects, service: &str) -> Vec<Endpoint> {
    compiled!(Endpoints, objects, "one", &format!("endpoints/{service}/*"))
}

#[test]
fn a_meshed_pod_has_its_service_accounts_identity() {
    let found = endpoints(&two_and(""), "one/a.one.svc.cluster.local");
    let [a] = &found[..] else { panic!("{found:?}") };
    assert_eq!(a.identity.as_ref().unwrap().as_str(), "spiffe://cluster.local/ns/one/sa/sa-a");
    assert_eq!((a.uid.as_ref(), a.proxy, a.mesh_tls, a.health), ("uid-a", ProxyKind::Mesh, true, Health::Healthy));
    assert_eq!(a.ports.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>(), [(80, 8080), (9000, 9000)]);
    assert_eq!((a.workload.name.as_str(), a.workload.canonical_service.as_str()), ("a", "a"));
    assert_eq!(a.workload.canonical_revision, "v1");
}

#[test]
fn a_pod_without_proxy_has_none_and_not_ready_is_unhealthy() {
    let found = endpoints(&two_and(""), "two/b.two.svc.cluster.local");
    assert_eq!((&found[0].identity, found[0].mesh_tls, found[0].health), (&None, false, Health::Unhealthy));
}

#[test]
fn a_pod_that_is_being_deleted_drains() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a-1, namespace: one, uid: uid-a, deletionTimestamp: '2026-01-01T00:00:00Z', labels: {app: a}}\nstatus: {phase: Running, podIP: 10.244.0.1}\n";
    assert_eq!(endpoints(&two_and(pod), "one/a.one.svc.cluster.local")[0].health, Health::Draining);
}

#[test]
fn an_endpoint_whose_pod_is_unknown_is_left_out() {
    let mut objects = two_and("");
    objects.remove("Pod", &mesh_crd::ObjectKey::new("one", "a-1"));
    assert!(endpoints(&objects, "one/a.one.svc.cluster.local").is_empty());
}

#[test]
fn a_slice_that_points_at_another_namespaces_pod_gets_that_pods_identity() {
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: evil, namespace: two, labels: {kubernetes.io/service-name: b}}
addressType: IPv4
ports: [{name: grpc, port: 81}]
endpoints: [{addresses: [10.244.0.1], targetRef: {kind: Pod, name: b-1, namespace: two}}]
";
    let found = endpoints(&two_and(slice), "two/b.two.svc.cluster.local");
    let a = found.iter().find(|endpoint| endpoint.uid.as_ref() == "uid-a").unwrap();
    assert_eq!(a.identity.as_ref().unwrap().as_str(), "spiffe://cluster.local/ns/one/sa/sa-a");
}

#[test]
fn disable_makes_ports_plaintext() {
    let disable = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p, namespace: one}
spec: {selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}, portLevelMtls: {9000: {mode: DISABLE}}}
";
    let a = &endpoints(&two_and(disable), "one/a.one.svc.cluster.local")[0];
    // The proxy's own open ports are plaintext always.
    assert_eq!((a.mesh_tls, a.plaintext_ports.as_slice()), (true, &[9000, 15020, 15021, 15090][..]));
    let never = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: one}\nspec: {mtls: {mode: DISABLE}}\n";
    assert!(!endpoints(&two_and(never), "one/a.one.svc.cluster.local")[0].mesh_tls);
}

#[test]
fn service_entries_list_select_and_resolve() {
    let objects = world("
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: listed, namespace: n}
spec:
  hosts: [db.internal]
  ports: [{number: 5432, name: tcp, protocol: TCP, targetPort: 5433}, {number: 80, name: web, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints:
  - {address: 10.1.0.1, ports: {web: 8080}, locality: r/z/s, weight: 3, serviceAccount: db, labels: {security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: selected, namespace: n}
spec:
  hosts: [vm.internal]
  ports: [{number: 80, name: web, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: n}
spec: {address: 10.1.0.2, labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named, namespace: n}
spec: {hosts: [api.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
");
    let listed = &endpoints(&objects, "n/db.internal")[0];
    assert_eq!(listed.ports.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>(), [(80, 8080), (5432, 5433)]);
    assert_eq!((listed.weight, listed.locality.to_string().as_str()), (3, "r/z/s"));
    assert_eq!(listed.identity.as_ref().unwrap().as_str(), "spiffe://cluster.local/ns/n/sa/db");
    assert!(listed.mesh_tls);
    assert_eq!(endpoints(&objects, "n/vm.internal")[0].uid.as_ref(), "workloadentry.n.vm-1");
    assert_eq!(endpoints(&objects, "n/api.example.com")[0].hostname.as_deref(), Some("api.example.com"));
}

#[test]
fn every_uid_fits_into_a_resource_name() {
    let objects = two_and("");
    for endpoint in endpoints(&objects, "one/a.one.svc.cluster.local") {
        let name = format!("endpoints/one/a.one.svc.cluster.local/{}", endpoint.uid);
        assert_eq!(*compiled!(Endpoint, &objects, "one", &name), endpoint);
    }
}

#[test]
fn whoever_lists_a_pods_address_must_meet_that_pod() {
    let objects = two_and(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: listed, namespace: two}
spec:
  hosts: [listed.example]
  ports: [{number: 80, name: web, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 10.244.0.1}, {address: '::ffff:10.244.0.1'}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: selected, namespace: two}
spec:
  hosts: [selected.example]
  ports: [{number: 80, name: web, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: w}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: w, namespace: two}
spec: {address: 10.244.0.1, serviceAccount: evil, labels: {app: w, security.istio.io/tlsMode: istio}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: evil, namespace: two, labels: {kubernetes.io/service-name: b}}
addressType: IPv6
ports: [{name: grpc, port: 81}]
endpoints: [{addresses: ['::ffff:10.244.0.1']}]
",
    );
    for service in ["two/listed.example", "two/selected.example", "two/b.two.svc.cluster.local"] {
        let found = endpoints(&objects, service);
        let a = found.iter().filter(|endpoint| endpoint.addresses == [std::net::IpAddr::from([10, 244, 0, 1])]);
        let mut count = 0;
        for endpoint in a {
            count += 1;
            let identity = endpoint.identity.as_ref().map(|id| id.as_str());
            assert_eq!(
                (identity, endpoint.mesh_tls),
                (Some("spiffe://cluster.local/ns/one/sa/sa-a"), true),
                "{service}"
            );
        }
        assert!(count > 0, "{service}: {found:?}");
    }
}
