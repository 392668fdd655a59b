//! Small configurations for the tests of this folder.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_api::proto::Any;
use mesh_api::{Encoded, Resource};
use mesh_core::config::{
    Address, AddressAnswer, Destination, Endpoint, HeaderEdits, Health, Host, HostAnswer, HttpAction, HttpMatch,
    HttpRule, Inbound, Locality, MeshSettings, MtlsMode, Origin, OutboundPolicy, PathNormalization, Protocol,
    ProxyKind, Resolution, RetryPolicy, RouteTable, Service, ServiceName, ServicePort, StringMatch, Subset,
    TrafficPolicy, WeightedDestination, Workload,
};

pub(crate) use super::keys::Key;
use super::store::{Incoming, Store};
use super::{Discovery, Views};

pub(crate) const UID: &str = "uid-1";

pub(crate) fn name(service: &str) -> ServiceName {
    ServiceName::new("shop", service)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn settings() -> Resource {
    Resource::MeshSettings(Arc::new(MeshSettings {
        mesh_prefixes: vec![],
        outbound_policy: OutboundPolicy::AllowAny,
        hosts_without_addresses: false,
        trust_domain: "cluster.local".to_owned(),
        trust_domain_aliases: vec![],
        cluster_domain: "cluster.local".to_owned(),
        root_namespace: "mesh-system".to_owned(),
        path_normalization: PathNormalization::Base,
        access_log: None,
    }))
}

pub(crate) fn inbound() -> Inbound {
    Inbound {
        uid: UID.into(),
        identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
        addresses: vec![ip("10.244.0.5")],
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        workload: Workload::default(),
        locality: Locality::default(),
        ports: BTreeMap::new(),
        mtls: MtlsMode::Strict,
        mtls_origin: None,
        policies: vec![],
        access_log: None,
        draining: false,
    }
}

pub(crate) fn own_inbound() -> Resource {
    Resource::Inbound(Arc::new(inbound()))
}

pub(crate) fn address(text: &str, answer: AddressAnswer) -> Resource {
    Resource::Address(Arc::new(Address { address: ip(text), answer }))
}

pub(crate) fn address_of(text: &str, service: &str) -> Resource {
    address(text, AddressAnswer::Services(vec![name(service)]))
}

pub(crate) fn host_of(host: &str, port: u16, service: &str) -> Resource {
    Resource::Host(Arc::new(Host { name: host.into(), port, answer: HostAnswer::Service(name(service)) }))
}

/// A service with port 80 and these subsets, by label `version`.
pub(crate) fn service(service: &str, subsets: &[&str]) -> Resource {
    let policies = BTreeMap::from([(80, TrafficPolicy::default())]);
    let subset = |version: &&str| {
        let labels = BTreeMap::from([("version".to_owned(), (*version).to_owned())]);
        ((*version).to_owned(), Subset { labels, policies: policies.clone() })
    };
    Resource::Service(Arc::new(Service {
        name: name(service),
        origin: Origin::default(),
        rules: vec![],
        addresses: vec![],
        resolution: Resolution::Endpoints,
        external: false,
        ports: BTreeMap::from([(
            80,
            ServicePort {
                number: 80,
                name: "http".to_owned(),
                protocol: Protocol::Http,
                policy: TrafficPolicy::default(),
            },
        )]),
        subsets: subsets.iter().map(subset).collect(),
    }))
}

pub(crate) fn endpoint(service: &str, uid: &str, version: &str) -> Resource {
    let endpoint = Endpoint {
        uid: uid.into(),
        addresses: vec![ip("10.244.0.9")],
        hostname: None,
        network: String::new(),
        locality: Locality::default(),
        identity: Some("spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap()),
        labels: BTreeMap::from([("version".to_owned(), version.to_owned())]),
        ports: BTreeMap::from([(80, 8080)]),
        health: Health::Healthy,
        weight: 1,
        proxy: ProxyKind::Mesh,
        mesh_tls: true,
        plaintext_ports: vec![],
        workload: Workload::default(),
    };
    Resource::Endpoint(name(service), Arc::new(endpoint))
}

pub(crate) fn complete(service: &str, members: u32) -> Resource {
    Resource::EndpointsComplete(name(service), members)
}

/// A table without rules.
pub(crate) fn implicit(service: &str) -> Resource {
    Resource::RouteTable(Arc::new(table(service, true, vec![])))
}

/// A table whose one rule leads to a subset of another service.
pub(crate) fn routes(service: &str, to: &str, subset: Option<&str>) -> Resource {
    let destination = Destination { service: name(to), subset: subset.map(str::to_owned), port: None };
    Resource::RouteTable(Arc::new(table(service, false, vec![rule(HttpMatch::default(), destination)])))
}

/// A table with a regular expression that does not compile.
pub(crate) fn broken_routes(service: &str, to: &str) -> Resource {
    let matches = HttpMatch { path: Some(StringMatch::Regex("(".to_owned())), ..HttpMatch::default() };
    let destination = Destination { service: name(to), subset: None, port: None };
    Resource::RouteTable(Arc::new(table(service, false, vec![rule(matches, destination)])))
}

fn rule(matches: HttpMatch, destination: Destination) -> HttpRule {
    HttpRule {
        name: "0".to_owned(),
        matches: vec![matches],
        action: HttpAction::Route(vec![WeightedDestination {
            destination,
            weight: 1,
            headers: HeaderEdits::default(),
        }]),
        rewrite: None,
        headers: HeaderEdits::default(),
        timeout: None,
        retry: RetryPolicy::default(),
        fault: None,
    }
}

fn table(service: &str, implicit: bool, http: Vec<HttpRule>) -> RouteTable {
    RouteTable { name: name(service), hosts: vec![], origin: None, implicit, http, tls: vec![], tcp: vec![] }
}

/// As it travels: name, version, message.
pub(crate) fn wire(resource: &Resource) -> (String, String, Any) {
    let Encoded { name, version, type_url, bytes } = mesh_api::encode(resource);
    (name.to_string(), version.to_string(), Any { type_url: type_url.to_string(), value: bytes })
}

/// What the data path is handed, holding these resources and the answers to these keys. Nobody answers other keys.
pub(crate) fn held(labels: &[(&str, &str)], resources: &[Resource], keys: &[Key]) -> (Views, Discovery) {
    let now = std::time::Instant::now();
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut store = Store::new(UID.into(), labels, now);
    store.set_connected(true);
    for key in keys {
        store.ask(key.clone(), tokio::sync::oneshot::channel().0, now);
    }
    store.publish(now);
    // What is subscribed to follows from what has come: as with a control plane, it takes a few turns.
    for _ in 0..4 {
        let resources = resources.iter().map(wire).collect();
        let rejected = store.apply(Incoming { resources, removed: vec![] }, now);
        assert!(rejected.is_empty(), "{rejected:?}");
        store.publish(now);
    }
    let (discovery, _asks) = Discovery::new(store.views());
    (store.views(), discovery)
}
