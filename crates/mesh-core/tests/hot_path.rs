//! What a request costs in decisions: no allocation, and values that fit a few registers or cache lines.
//!
//! Budgets are tests: whoever makes a decision allocate, or a decision's value grow, meets this file.

#![allow(unsafe_code)] // A counting allocator can only be written with it; it forwards to the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::mem::size_of;
use std::sync::Arc;

use mesh_core::authz::{CompiledPolicies, Connection, Verdict};
use mesh_core::balance::{LoadBalancer, Picked, Plan, RequestHash, request_hash};
use mesh_core::config::{
    AuthzAction, AuthzPolicy, AuthzRule, Balancer, Condition, Destination, Endpoint, HashKey, HashSpec, HashTable,
    HeaderEdits, HeaderMatch, Health, HostPattern, HttpAction, HttpMatch, HttpRule, Locality, Operation, Origin,
    OutlierDetection, PathNormalization, ProxyKind, QueryMatch, RetryPolicy, RouteTable, ServiceName, Source,
    StringMatch, Term, TrafficPolicy, ValueMatch, WeightedDestination, Workload,
};
use mesh_core::limits::{Budget, Circuit, Guard, Limit, RetryPermit};
use mesh_core::outlier::{EndpointState, Outcome, observe};
use mesh_core::request::RequestHead;
use mesh_core::retry::{Attempt, Next, Retry, Unsent, Verdict as Ended};
use mesh_core::route::{CompiledRoutes, Decision, L4Decision, Routed};
use mesh_core::time::Millis;
use mesh_core::{path, sniff};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded unchanged to the system's allocator; counting touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `work` runs, after one run to warm up (regular expressions make their caches).
fn allocations(mut work: impl FnMut()) -> usize {
    work();
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..100 {
        work();
    }
    ALLOCATIONS.with(Cell::get) - before
}

fn rule(matches: Vec<HttpMatch>, hosts: &[&str]) -> HttpRule {
    let to = |host: &&str| WeightedDestination {
        destination: Destination { service: ServiceName::new("ns", host), subset: Some("v1".into()), port: Some(80) },
        weight: 50,
        headers: HeaderEdits::default(),
    };
    HttpRule {
        name: "r".into(),
        matches,
        action: HttpAction::Route(hosts.iter().map(to).collect()),
        rewrite: None,
        headers: HeaderEdits::default(),
        timeout: None,
        retry: RetryPolicy::default(),
        fault: None,
    }
}

fn routes() -> CompiledRoutes {
    let header = |value, invert| HeaderMatch { name: "end-user".into(), value, invert };
    let jason = HttpMatch {
        path: Some(StringMatch::Regex("/api/v[0-9]+/.*".into())),
        method: Some(StringMatch::Exact("GET".into())),
        headers: vec![header(StringMatch::Exact("jason".into()), false), header(StringMatch::Exact("x".into()), true)],
        query: vec![QueryMatch { name: "page".into(), value: StringMatch::Regex("[0-9]+".into()) }],
        ..HttpMatch::default()
    };
    let never = HttpMatch { path: Some(StringMatch::Prefix("/never".into())), ..HttpMatch::default() };
    let table = RouteTable {
        name: ServiceName::new("ns", "reviews"),
        hosts: vec![HostPattern::Any],
        origin: None,
        implicit: true,
        http: vec![rule(vec![never], &["n"]), rule(vec![jason], &["a", "b"]), rule(vec![], &["c"])],
        tls: vec![],
        tcp: vec![],
    };
    CompiledRoutes::compile(&table, &BTreeMap::new()).0
}

const HEADERS: [(&str, &str); 3] = [("host", "reviews:9080"), ("end-user", "jason"), ("cookie", "a=1; s=2")];

fn head<'a>() -> RequestHead<'a> {
    RequestHead {
        method: "GET",
        path: "/api/v1/products",
        query: Some("x=1&page=7"),
        authority: "reviews:9080",
        scheme: "http",
        headers: &HEADERS,
    }
}

#[test]
fn deciding_where_a_request_goes_allocates_nothing() {
    let routes = routes();
    let mut rng = fastrand::Rng::with_seed(1);
    let counted = allocations(|| {
        let Decision::Route(routed) = routes.decide(&head(), 9080, &mut rng) else { panic!() };
        black_box(&*routed.destination.destination.service.host);
    });
    assert_eq!(counted, 0);
}

#[test]
fn deciding_who_may_allocates_nothing() {
    let exact = |text: &str| ValueMatch::Exact(text.into());
    let rule = |path: &str| AuthzRule {
        from: vec![Source {
            terms: vec![Term::Principal { not: false, values: vec![exact("cluster.local/ns/shop/sa/web")] }],
        }],
        to: vec![Operation {
            terms: vec![
                Term::Path { not: false, values: vec![exact(path), ValueMatch::Template("/api/{*}/products".into())] },
                Term::Host { not: true, values: vec![ValueMatch::Suffix(".Example.com".into())] },
            ],
        }],
        when: vec![Condition {
            terms: vec![Term::Header { name: "end-user".into(), not: false, values: vec![exact("jason")] }],
        }],
    };
    let policy = |action, rules| AuthzPolicy { origin: Origin::default(), action, dry_run: false, rules };
    let other_port = Term::DestinationPort { not: false, values: vec![1] };
    let denying = AuthzRule { to: vec![Operation { terms: vec![other_port] }], ..AuthzRule::default() };
    let policies = [
        policy(AuthzAction::Audit, vec![rule("/a")]),
        policy(AuthzAction::Allow, vec![rule("/x"), rule("/a")]),
        policy(AuthzAction::Deny, vec![denying]),
    ];
    let (compiled, problems) = CompiledPolicies::compile(&policies, &["cluster.local".into()]);
    assert!(problems.is_empty());
    let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let connection = Connection {
        identity: Some(&identity),
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
        port: 9080,
        sni: None,
    };
    let counted = allocations(|| {
        assert!(black_box(compiled.request(&connection, &head())).is_allowed());
        assert!(!black_box(compiled.connection(&connection)).is_allowed());
    });
    assert_eq!(counted, 0, "a denial with its nearest miss included");
}

#[test]
fn picking_an_endpoint_allocates_nothing() {
    let endpoint = |last: u8| Endpoint {
        uid: format!("uid-{last}").into(),
        addresses: vec![[10, 0, 0, last].into()],
        hostname: None,
        network: String::new(),
        locality: Locality::default(),
        identity: None,
        labels: BTreeMap::new(),
        ports: BTreeMap::from([(80, 8080)]),
        health: Health::Healthy,
        weight: u32::from(last),
        proxy: ProxyKind::Mesh,
        mesh_tls: true,
        plaintext_ports: Vec::new(),
        workload: Workload::default(),
    };
    let endpoints: Vec<Arc<Endpoint>> = (1..9).map(|last| Arc::new(endpoint(last))).collect();
    let outlier = OutlierDetection {
        consecutive_5xx: 1,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        split_local_errors: false,
        interval: std::time::Duration::from_secs(10),
        base_ejection_time: std::time::Duration::from_secs(30),
        max_ejection_percent: 50,
        min_health_percent: 0,
    };
    let key = HashKey::SourceIp;
    let hashed = |table| Balancer::ConsistentHash(HashSpec { key: key.clone(), table });
    let balancers = [
        Balancer::LeastRequest,
        Balancer::RoundRobin,
        Balancer::Random,
        hashed(HashTable::Ring(1024)),
        hashed(HashTable::Maglev(1009)),
    ];
    for balancer in balancers {
        let policy = TrafficPolicy { balancer, outlier: Some(outlier), ..TrafficPolicy::default() };
        let (labels, locality) = (BTreeMap::new(), Locality::default());
        let plan = Plan {
            endpoints: &endpoints,
            port: 80,
            subset: &labels,
            policy: &policy,
            locality: &locality,
            labels: &labels,
            prefer_v6: false,
            seed: 3,
        };
        let balancer = LoadBalancer::build(&plan, Arc::default(), |_| Arc::default());
        let mut rng = fastrand::Rng::with_seed(1);
        let counted = allocations(|| {
            let RequestHash::Of(hash) = request_hash(&key, Some(&head()), [10, 1, 1, 1].into()) else { panic!() };
            let picked = balancer.pick(Some(hash), &[0, 3], Millis(5), &mut rng).unwrap();
            let state = &picked.member.state;
            let _active = state.begin();
            black_box(observe(&outlier, state, balancer.pool(), Outcome::Status(500), 8, Millis(5)));
        });
        assert_eq!(counted, 0, "{:?}", policy.balancer);
    }
}

#[test]
fn the_rest_of_a_requests_way_allocates_nothing() {
    let (retry, budget) = (Retry::default(), Budget::of(&TrafficPolicy::default()));
    let circuit = Arc::new(Circuit::default());
    let limits = TrafficPolicy::default().pool.limits;
    let mut rng = fastrand::Rng::with_seed(1);
    let counted = allocations(|| {
        black_box(sniff::sniff(b"GET /api/v1/products HTTP/1.1\r\nhost: a\r\n"));
        black_box(path::normalize("/api/v1/products", PathNormalization::Base).unwrap());
        let _request = circuit.enter(Limit::Requests, &limits).unwrap();
        let attempt = Attempt { number: 1, replayable: true, idempotent: false, remaining: None };
        let next = retry.after(Ended::Unsent(Unsent::ConnectFailed), &attempt, &budget, &circuit, &mut rng);
        assert!(matches!(next, Next::RetryAfter(..)));
    });
    assert_eq!(counted, 0);
}

#[test]
fn values_of_the_request_path_stay_small() {
    for (name, size, most) in [
        ("RequestHead", size_of::<RequestHead<'_>>(), 96),
        ("Decision", size_of::<Decision<'_>>(), 48),
        ("Routed", size_of::<Routed<'_>>(), 48),
        ("L4Decision", size_of::<L4Decision<'_>>(), 24),
        ("Verdict", size_of::<Verdict<'_>>(), 112),
        ("Picked", size_of::<Picked<'_>>(), 16),
        ("EndpointState", size_of::<EndpointState>(), 32),
        ("Circuit", size_of::<Circuit>(), 20),
        ("Guard", size_of::<Guard>(), 16),
        ("RetryPermit", size_of::<RetryPermit>(), 32),
        ("Next", size_of::<Next>(), 48),
        ("Budget", size_of::<Budget>(), 24),
        ("Reason", size_of::<mesh_core::reason::Reason>(), 1),
        ("detect::Inbound", size_of::<mesh_core::detect::Inbound>(), 2),
        ("destination::Outbound", size_of::<mesh_core::destination::Outbound<'_>>(), 32),
    ] {
        assert!(size <= most, "{name} has {size} bytes, {most} were enough");
    }
}
