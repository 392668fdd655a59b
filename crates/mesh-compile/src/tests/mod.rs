//! One helper per boundary: YAML in, resources out.

mod address;
mod authz;
mod change;
mod endpoint;
mod inbound;
mod mistakes;
mod route;
mod samples;
mod service;
mod settings;
mod validate;

use mesh_core::config::ResourceName;
use mesh_crd::parse_documents;

use crate::{Objects, Options, Resource};

/// A world from YAML documents, which must all be objects.
fn world(text: &str) -> Objects {
    let mut objects = Objects::new(Options::default());
    let (parsed, errors) = parse_documents(text, "test.yaml");
    assert!(errors.is_empty(), "{errors:?}");
    for parsed in parsed {
        objects.apply(parsed.object);
    }
    objects
}

/// Two services in two namespaces with one pod each: `a` (meshed) in `one`, `b` (not meshed) in `two`.
const TWO: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: one}
spec:
  clusterIP: 10.96.0.10
  selector: {app: a}
  ports: [{name: http, port: 80, targetPort: web}, {name: tcp-x, port: 9000}]
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: two}
spec: {clusterIP: 10.96.0.20, selector: {app: b}, ports: [{name: grpc, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: a-1
  namespace: one
  uid: uid-a
  labels: {app: a, version: v1, security.istio.io/tlsMode: istio, pod-template-hash: abc}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a-abc, controller: true}]
spec:
  serviceAccountName: sa-a
  initContainers: [{name: mesh-proxy}]
  containers: [{name: app, ports: [{name: web, containerPort: 8080}]}]
status: {phase: Running, podIP: 10.244.0.1, podIPs: [{ip: 10.244.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b-1, namespace: two, uid: uid-b, labels: {app: b}}
spec: {containers: [{name: app}]}
status: {phase: Running, podIP: 10.244.0.2}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-s, namespace: one, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp-x, port: 9000}]
endpoints:
- {addresses: [10.244.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: a-1, namespace: one}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: b-s, namespace: two, labels: {kubernetes.io/service-name: b}}
addressType: IPv4
ports: [{name: grpc, port: 81}]
endpoints:
- {addresses: [10.244.0.2], conditions: {ready: false}, targetRef: {kind: Pod, name: b-1, namespace: two}}
";

/// [`TWO`] and more.
fn two_and(more: &str) -> Objects {
    world(&format!("{TWO}\n---\n{more}"))
}

/// A resource by its name on the wire, as clients in `namespace` see it.
fn compile(objects: &Objects, namespace: &str, name: &str) -> Option<Resource> {
    objects.compile(namespace, &name.parse::<ResourceName>().unwrap())
}

macro_rules! compiled {
    ($kind:ident, $objects:expr, $namespace:expr, $name:expr) => {
        match crate::tests::compile($objects, $namespace, $name) {
            Some(crate::Resource::$kind(resource)) => resource,
            other => panic!("{} is {other:?}", $name),
        }
    };
}
use compiled;
