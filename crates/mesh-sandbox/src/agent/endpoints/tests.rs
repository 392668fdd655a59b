//! Endpoints from a world of Services and pods, written as short lines.

use hickory_proto::rr::{Name, RecordType};
use std::str::FromStr as _;
use tokio::sync::watch;

use super::*;
use crate::objects::manifest;
use crate::pod::lifecycle::initial_status;
use crate::pod::status::Phase;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}, {name: admin, port: 81, targetPort: 9000}]
---
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: written, namespace: shop}
spec: {ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: written-1, namespace: shop, labels: {kubernetes.io/service-name: written}}
addressType: IPv4
ports: [{port: 15432}]
endpoints: [{addresses: [10.244.7.7]}, {addresses: [10.244.7.8], conditions: {ready: false}}]
";

/// A world with one pod per line: `name address port state`, the state being `ready`, `starting` or `ending`.
fn world(pods: &str) -> World {
    let mut world = World::new(false);
    let (objects, mistakes) = manifest::parse("test", SERVICES, "default");
    assert!(mistakes.is_empty(), "{mistakes:?}");
    for object in objects {
        world.apply(object);
    }
    for line in pods.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let &[name, address, port, state] = words.as_slice() else { panic!("{line}") };
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"hostname": name, "subdomain": "bare", "containers": [
                {"name": "c", "ports": [{"name": "http", "containerPort": port.parse::<u16>().unwrap()}]}]},
        });
        let spec: crate::objects::spec::PodSpec = serde_json::from_value(object["spec"].clone()).unwrap();
        let mut status = initial_status(&spec, &[address.parse().unwrap()]);
        (status.pid, status.phase, status.initialized) = (Some(1), Phase::Running, true);
        status.containers[0].ready = state != "starting";
        let mut entry = PodEntry {
            namespace: "shop".into(),
            name: name.into(),
            object,
            spec,
            status,
            owner: None,
            written: None,
            deletion: None,
            stop: watch::Sender::new(None),
            netns: None,
            rules: None,
            ignored: Vec::new(),
        };
        if state == "ending" {
            entry.terminate(Some(1));
        }
        world.pods.insert(name.into(), entry);
    }
    world
}

/// The rules as `service-port -> backends`.
fn rules(pods: &str) -> Vec<String> {
    let ports = virtual_ports(&world(pods));
    let text = |p: &VirtualPort| {
        let backends: Vec<String> = p.backends.iter().map(ToString::to_string).collect();
        format!("{} -> {}", p.port, backends.join(" "))
    };
    ports.iter().map(text).collect()
}

#[test]
fn named_ports_follow_each_pod() {
    let pods = "a 10.244.0.1 8080 ready\n b 10.244.0.2 8081 ready";
    assert_eq!(
        rules(pods),
        ["80 -> 10.244.0.1:8080 10.244.0.2:8081", "81 -> 10.244.0.1:9000 10.244.0.2:9000", "5432 -> 10.244.7.7:15432"]
    );
    let slices = slices(&world(pods));
    let web: Vec<_> =
        slices.iter().filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "web").collect();
    assert_eq!(web.len(), 2, "one slice for each set of numbers");
    assert_eq!(web[0]["ports"][0], json!({"name": "http", "port": 8080, "protocol": "TCP"}));
    assert_eq!(web[0]["endpoints"][0]["targetRef"]["uid"], "a");
}

#[test]
fn only_ready_pods_get_connections_and_ending_ones_when_there_is_no_other() {
    assert_eq!(rules("a 10.244.0.1 8080 starting\n b 10.244.0.2 8080 ready")[0], "80 -> 10.244.0.2:8080");
    assert_eq!(rules("a 10.244.0.1 8080 ending\n b 10.244.0.2 8080 ready")[0], "80 -> 10.244.0.2:8080");
    assert_eq!(rules("a 10.244.0.1 8080 ending\n b 10.244.0.2 8080 starting")[0], "80 -> 10.244.0.1:8080");
    assert_eq!(rules("a 10.244.0.1 8080 starting")[0], "80 -> ");
}

#[test]
fn conditions_tell_ending_from_failing() {
    let slices = slices(&world("a 10.244.0.1 8080 ending"));
    let conditions = &slices[0]["endpoints"][0]["conditions"];
    assert_eq!(*conditions, json!({"ready": false, "serving": true, "terminating": true}));
}

#[test]
fn names_follow_endpoints() {
    let world = world("a 10.244.0.1 8080 ready\n b 10.244.0.2 8080 starting");
    let zone = zone(&world, "cluster.local");
    let ask = |name: &str, kind| {
        let answer = zone.answer(&Name::from_str(name).unwrap(), kind);
        answer.records.iter().map(|r| r.data.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ask("bare.shop.svc.cluster.local.", RecordType::A), ["10.244.0.1"]);
    assert_eq!(ask("a.bare.shop.svc.cluster.local.", RecordType::A), ["10.244.0.1"]);
    assert!(ask("b.bare.shop.svc.cluster.local.", RecordType::A).is_empty());
    assert_eq!(ask("web.shop.svc.cluster.local.", RecordType::A).len(), 1);
    assert_eq!(
        ask("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV),
        ["0 100 80 web.shop.svc.cluster.local."]
    );
}
