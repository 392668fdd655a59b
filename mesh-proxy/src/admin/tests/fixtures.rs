//! A configuration with something of everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::Resource;
use mesh_core::config::{
    AccessLog, AccessLogFormat, Address, AddressAnswer, AuthzAction, AuthzPolicy, AuthzRule, Destination, Endpoint,
    HeaderEdits, Health, HostPattern, HttpAction, HttpMatch, HttpRule, Inbound, InboundPort, Locality, MeshSettings,
    MtlsMode, Origin, OutboundPolicy, PathNormalization, Protocol, ProxyKind, Resolution, RetryPolicy, RouteTable,
    Service, ServiceName, ServicePort, StringMatch, Subset, TrafficPolicy, WeightedDestination, Workload,
};

fn origin(kind: &str, name: &str) -> Origin {
    Origin { kind: kind.into(), namespace: "shop".into(), name: name.into(), generation: 3 }
}

fn cart() -> ServiceName {
    ServiceName::new("shop", "cart.shop.svc.cluster.local")
}

pub(super) fn settings() -> Resource {
    Resource::MeshSettings(Arc::new(MeshSettings {
        mesh_prefixes: vec!["10.96.0.0/16".parse().unwrap()],
        outbound_policy: OutboundPolicy::RegistryOnly,
        hosts_without_addresses: false,
        trust_domain: "cluster.local".into(),
        trust_domain_aliases: vec![],
        cluster_domain: "cluster.local".into(),
        root_namespace: "mesh-system".into(),
        path_normalization: PathNormalization::Base,
        access_log: Some(AccessLog { file: "/dev/stdout".into(), format: AccessLogFormat::Json }),
    }))
}

pub(super) fn inbound() -> Resource {
    let port = InboundPort {
        protocol: Protocol::Http,
        mtls: MtlsMode::Strict,
        mtls_origin: Some(origin("PeerAuthentication", "strict")),
        service: Some((cart(), 80)),
    };
    let policy = AuthzPolicy {
        origin: origin("AuthorizationPolicy", "viewers"),
        action: AuthzAction::Allow,
        dry_run: false,
        rules: vec![AuthzRule::default(), AuthzRule::default()],
    };
    Resource::Inbound(Arc::new(Inbound {
        uid: "uid-1".into(),
        identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
        addresses: vec!["10.244.0.5".parse().unwrap()],
        labels: BTreeMap::new(),
        workload: Workload { name: "web".into(), ..Workload::default() },
        locality: Locality::default(),
        ports: BTreeMap::from([(8080, port)]),
        mtls: MtlsMode::Permissive,
        mtls_origin: None,
        policies: vec![policy],
        access_log: Some(None),
        draining: false,
    }))
}

pub(super) fn address() -> Resource {
    let answer = AddressAnswer::Services(vec![cart()]);
    Resource::Address(Arc::new(Address { address: "10.96.0.1".parse().unwrap(), answer }))
}

pub(super) fn service() -> Resource {
    let policy = TrafficPolicy::default();
    let subset = Subset {
        labels: BTreeMap::from([("version".into(), "v1".into())]),
        policies: BTreeMap::from([(80, policy.clone())]),
    };
    Resource::Service(Arc::new(Service {
        name: cart(),
        origin: origin("Service", "cart"),
        rules: vec![origin("DestinationRule", "cart")],
        addresses: vec!["10.96.0.1".parse().unwrap()],
        resolution: Resolution::Endpoints,
        external: false,
        ports: BTreeMap::from([(
            80,
            ServicePort { number: 80, name: "http".into(), protocol: Protocol::Http, policy },
        )]),
        subsets: BTreeMap::from([("v1".into(), subset)]),
    }))
}

pub(super) fn endpoints() -> [Resource; 2] {
    let endpoint = Endpoint {
        uid: "cart-1".into(),
        addresses: vec!["10.244.0.9".parse().unwrap()],
        hostname: None,
        network: String::new(),
        locality: Locality { region: "r".into(), zone: "z".into(), subzone: String::new() },
        identity: Some("spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap()),
        labels: BTreeMap::from([("version".into(), "v1".into())]),
        ports: BTreeMap::from([(80, 8080)]),
        health: Health::Draining,
        weight: 1,
        proxy: ProxyKind::Mesh,
        mesh_tls: true,
        plaintext_ports: vec![],
        workload: Workload { pod: "cart-1".into(), ..Workload::default() },
    };
    [Resource::Endpoint(cart(), Arc::new(endpoint)), Resource::EndpointsComplete(cart(), 1)]
}

pub(super) fn routes() -> Resource {
    let to = |subset: Option<&str>, weight| WeightedDestination {
        destination: Destination { service: cart(), subset: subset.map(str::to_owned), port: Some(80) },
        weight,
        headers: HeaderEdits::default(),
    };
    let rule = HttpRule {
        name: "api".into(),
        matches: vec![HttpMatch { path: Some(StringMatch::Prefix("/api".into())), ..HttpMatch::default() }],
        action: HttpAction::Route(vec![to(Some("v1"), 90), to(None, 10)]),
        rewrite: None,
        headers: HeaderEdits::default(),
        timeout: Some(Duration::from_secs(5)),
        retry: RetryPolicy::default(),
        fault: None,
    };
    Resource::RouteTable(Arc::new(RouteTable {
        name: cart(),
        hosts: vec![HostPattern::Exact("cart".into()), HostPattern::Suffix(".cart".into())],
        origin: Some(origin("VirtualService", "cart")),
        implicit: false,
        http: vec![rule],
        tls: vec![],
        tcp: vec![],
    }))
}
