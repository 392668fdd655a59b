//! The law of the whole way: after any history of objects, a proxy that acknowledged everything holds, for every name,
//! exactly what compiling the present objects from nothing gives its namespace. It holds incremental compilation, the
//! fast lane, sharing and the session to account together, without sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::proto::discovery::DeltaDiscoveryRequest;
use mesh_api::{encode, type_url};
use mesh_compile::{Objects, Options, Resource};
use mesh_core::config::{ResourceKind, ResourceName};
use mesh_crd::parse_documents;
use proptest::prelude::*;

use super::ads::Held;
use super::session::Session;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::publish::{Mailbox, View};
use crate::testing::{namespace, pod, service, slice};
use crate::watch::{Event, Loaded};

const WEB: &str = "web.a.svc.cluster.local";
const API: &str = "api.b.svc.cluster.local";

/// Objects by slot; each slot has several contents, the first of which is absence.
fn slots() -> Vec<Vec<String>> {
    let none = String::new;
    let istio = |kind: &str, group: &str, place: &str, spec: &str| {
        format!("---\napiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{{place}}}\nspec: {spec}\n")
    };
    let networking = |kind: &str, place: &str, spec: &str| istio(kind, "networking", place, spec);
    let exported = |to: &str| {
        service("a", "web", "10.96.0.1")
            .replace("namespace: a}", &format!("namespace: a, annotations: {{networking.istio.io/exportTo: '{to}'}}}}"))
    };
    let (p1, p2) = (("w1", "uid-w1", "10.244.0.1", true), ("w2", "uid-w2", "10.244.0.2", true));
    let unready = ("w2", "uid-w2", "10.244.0.2", false);
    let subsets =
        "{host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v1}}]}";
    let route =
        |host: &str| format!("{{hosts: [{host}], http: [{{route: [{{destination: {{host: {host}, subset: v1}}}}]}}]}}");
    let entry = "{hosts: [ext.example], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 443, name: tls, protocol: TLS}], endpoints: [{address: 192.0.2.1}]}";
    let sidecar = "{egress: [{hosts: ['./*']}]}";
    let strict = "{mtls: {mode: STRICT}}";
    let deny = "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}";
    vec![
        vec![none(), service("a", "web", "10.96.0.1"), service("a", "web", "10.96.0.2"), exported(".")],
        vec![none(), service("b", "api", "10.96.1.1")],
        vec![none(), pod("a", "w1", "uid-w1", "web", "10.244.0.1"), pod("a", "w1", "uid-w1", "web", "10.244.0.9")],
        vec![none(), pod("a", "w2", "uid-w2", "web", "10.244.0.2")],
        vec![none(), pod("b", "me", "uid-me", "me", "10.244.0.3")],
        vec![none(), slice("a", "web", &[p1]), slice("a", "web", &[p1, p2]), slice("a", "web", &[p1, unready])],
        vec![none(), networking("DestinationRule", "name: web, namespace: a", subsets)],
        vec![
            none(),
            networking(
                "DestinationRule",
                "name: web, namespace: b",
                "{host: web.a.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}",
            ),
        ],
        vec![none(), networking("VirtualService", "name: web, namespace: a", &route("web"))],
        vec![none(), networking("VirtualService", "name: web, namespace: b", &route(WEB))],
        vec![none(), networking("ServiceEntry", "name: ext, namespace: a", entry)],
        vec![none(), networking("Sidecar", "name: default, namespace: b", sidecar)],
        vec![none(), istio("PeerAuthentication", "security", "name: default, namespace: mesh-system", strict)],
        vec![none(), istio("PeerAuthentication", "security", "name: default, namespace: a", "{mtls: {mode: DISABLE}}")],
        vec![none(), istio("AuthorizationPolicy", "security", "name: deny, namespace: b", deny)],
        vec![none(), namespace("a")],
    ]
}

fn names() -> Vec<ResourceName> {
    let mut names: Vec<String> = ["settings", "inbound/uid-me", "host/ext.example:443", "host/web.a:80", "host/api:80"]
        .map(str::to_owned)
        .to_vec();
    for ip in ["10.96.0.1", "10.96.0.2", "10.96.1.1", "10.244.0.1", "10.244.0.2", "10.244.0.9", "192.0.2.1"] {
        names.push(format!("address/{ip}"));
    }
    for (namespace, host) in [("a", WEB), ("b", API), ("a", "ext.example")] {
        for head in ["service", "routes"] {
            names.push(format!("{head}/{namespace}/{host}"));
        }
        names.push(format!("endpoints/{namespace}/{host}/*"));
    }
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn load(text: &str) -> Vec<Arc<Loaded>> {
    let (parsed, errors) = parse_documents(text, "test.yaml");
    assert!(errors.is_empty(), "{errors:?} in {text}");
    let loaded = |one: mesh_crd::Parsed| Loaded { object: one.object, positions: one.positions, digest: [0; 32] };
    parsed.into_iter().map(|one| Arc::new(loaded(one))).collect()
}

/// Every name's version (members of collections included) as compiled from nothing.
fn from_nothing(slots: &[Vec<String>], state: &[usize], view: &str) -> BTreeMap<String, String> {
    use mesh_api::Resource as Wire;
    let mut objects = Objects::new(Options::default());
    for (slot, content) in slots.iter().zip(state) {
        for loaded in load(&slot[*content]) {
            objects.apply(loaded.object.clone());
        }
    }
    let mut versions = BTreeMap::new();
    let mut put = |resource: Wire| {
        let encoded = encode(&resource);
        versions.insert(encoded.name.to_string(), encoded.version.to_string());
    };
    for name in names() {
        match objects.compile(view, &name) {
            None | Some(Resource::Endpoint(_)) => {}
            Some(Resource::MeshSettings(value)) => put(Wire::MeshSettings(Arc::new(value))),
            Some(Resource::Inbound(value)) => put(Wire::Inbound(Arc::from(value))),
            Some(Resource::Address(value)) => put(Wire::Address(Arc::new(value))),
            Some(Resource::Host(value)) => put(Wire::Host(Arc::new(value))),
            Some(Resource::Service(value)) => put(Wire::Service(Arc::from(value))),
            Some(Resource::RouteTable(value)) => put(Wire::RouteTable(Arc::from(value))),
            Some(Resource::Endpoints(members)) => {
                let ResourceName::Endpoints(service) = &name else { continue };
                if objects.compile(view, &ResourceName::Service(service.clone())).is_none() {
                    continue; // not visible
                }
                put(Wire::EndpointsComplete(service.clone(), u32::try_from(members.len()).unwrap()));
                members.into_iter().for_each(|one| put(Wire::Endpoint(service.clone(), Arc::new(one))));
            }
        }
    }
    versions
}

struct Bench {
    index: Arc<Index>,
    slots: Vec<Vec<String>>,
    state: Vec<usize>,
    mailbox: Arc<Mailbox>,
    session: Session,
    config: Held,
    held: BTreeMap<String, String>,
}

impl Bench {
    fn new(view: &str) -> Self {
        let index = Index::new(Options::default(), Arc::new(Metrics::default()));
        let (mailbox, view): (Arc<Mailbox>, View) = (Arc::default(), view.into());
        let stream = index.open(view.clone(), mailbox.clone());
        let config = Held { index: index.clone(), stream, view, uid: "uid-me".into() };
        let slots = slots();
        let state = vec![0; slots.len()];
        let mut bench =
            Self { index, slots, state, mailbox, session: Session::default(), config, held: BTreeMap::new() };
        for kind in ResourceKind::ALL {
            let of_kind = names().into_iter().filter(|name| name.kind() == kind);
            bench.request(DeltaDiscoveryRequest {
                type_url: type_url(kind).to_owned(),
                resource_names_subscribe: of_kind.map(|name| name.to_string()).collect(),
                ..Default::default()
            });
        }
        bench
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) {
        self.session.request(request, &self.config, Instant::now()).unwrap();
    }

    fn set(&mut self, slot: usize, content: usize) {
        let content = content % self.slots[slot].len();
        let before = load(&self.slots[slot][self.state[slot]]);
        let after = load(&self.slots[slot][content]);
        let mut events = Vec::new();
        if after.is_empty() {
            events.extend(before.iter().map(|loaded| Event::Remove(loaded.reference())));
        }
        events.extend(after.into_iter().map(Event::Apply));
        self.state[slot] = content;
        self.index.apply(events, Instant::now());
    }

    /// Sends and acknowledges everything that there is to say.
    fn drain(&mut self) {
        self.session.changed(self.mailbox.take(), &self.config);
        // Long after every wait for a pod.
        let later = Instant::now() + Duration::from_secs(60);
        while let Some((_, response)) = self.session.respond(&self.config, later) {
            for resource in response.resources {
                self.held.insert(resource.name, resource.version);
            }
            for name in &response.removed_resources {
                self.held.remove(name);
            }
            let (type_url, response_nonce) = (response.type_url, response.nonce);
            self.request(DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_held_is_what_compiling_from_nothing_gives(
        view in prop_oneof![Just("a"), Just("b")],
        history in proptest::collection::vec((0..16usize, 0..4usize, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let mut bench = Bench::new(view);
        for (slot, content, publish, drain) in history {
            bench.set(slot, content);
            if publish {
                bench.index.publish();
            }
            if drain {
                bench.drain();
            }
        }
        bench.index.publish();
        bench.drain();
        prop_assert_eq!(&bench.held, &from_nothing(&bench.slots, &bench.state, view));
    }
}
