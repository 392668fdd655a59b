//! A mistake anywhere in an object never makes it wider, and nothing that can be written makes the compiler panic.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use mesh_core::authz::{CompiledPolicies, Connection};
use mesh_core::config::MtlsMode;
use mesh_core::identity::SpiffeId;
use mesh_core::request::RequestHead;
use mesh_core::route::{CompiledRoutes, Decision};
use mesh_crd::{AnyObject, Source, read_object};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{compiled, two_and};
use crate::{ObjectRef, Objects};

/// How a value is spoiled.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    /// Its key gets another letter.
    Misspelt,
    /// It becomes a number.
    Number,
    /// It becomes an object with a field that nobody knows.
    Object,
}

/// Maps whose keys are the author's own words: another key is another meaning, not a mistake.
const OWN_KEYS: [&str; 9] = [
    "headers",
    "withoutHeaders",
    "queryParams",
    "sourceLabels",
    "matchLabels",
    "labels",
    "set",
    "add",
    "portLevelMtls",
];

/// Spoils the `index`-th node under `spec` (in document order); none where there are not so many, or the mistake would
/// be none.
fn spoil(object: &Value, index: usize, mistake: Mistake) -> Option<Value> {
    let mut spoilt = object.clone();
    let mut left = index;
    let found = spoil_in(spoilt.get_mut("spec")?, "spec", &mut left, mistake);
    (found && spoilt != *object).then_some(spoilt)
}

fn spoil_in(value: &mut Value, key: &str, left: &mut usize, mistake: Mistake) -> bool {
    match value {
        Value::Object(map) => {
            for name in map.keys().cloned().collect::<Vec<_>>() {
                if *left == 0 {
                    let old = map.remove(&name).expect("the key was just read");
                    let (name, new) = match mistake {
                        Mistake::Misspelt if OWN_KEYS.contains(&key) => (name, old),
                        Mistake::Misspelt => (format!("{name}z"), old),
                        Mistake::Number if old.is_number() => (name, old),
                        Mistake::Number => (name, json!(5)),
                        Mistake::Object => (name, json!({"qq": 1})),
                    };
                    map.insert(name, new);
                    return true;
                }
                *left -= 1;
                let inner = map.get_mut(&name).expect("the key was just read");
                if spoil_in(inner, &name, left, mistake) {
                    return true;
                }
            }
            false
        }
        Value::Array(items) => items.iter_mut().any(|item| spoil_in(item, "", left, mistake)),
        _ => false,
    }
}

fn any_mistake() -> impl Strategy<Value = Mistake> {
    prop_oneof![Just(Mistake::Misspelt), Just(Mistake::Number), Just(Mistake::Object)]
}

fn object(text: &str) -> Value {
    mesh_crd::yaml::read(text, 1).unwrap().0
}

fn with(value: &Value) -> Objects {
    static TWO: LazyLock<Objects> = LazyLock::new(|| two_and(""));
    let mut objects = TWO.clone();
    objects.apply(read_object(value, Source::default()).unwrap());
    objects
}

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: one}
spec:
  hosts: [a]
  gateways: [mesh]
  exportTo: ['.']
  http:
  - name: r0
    match:
    - {uri: {exact: /exact}, method: {exact: GET}}
    - {uri: {prefix: /p}, headers: {x: {exact: '1'}, y: {regex: 'a.*'}}, withoutHeaders: {no: {exact: '1'}}, queryParams: {q: {exact: '1'}}, port: 80, scheme: {exact: http}, authority: {exact: a}, sourceLabels: {app: a}}
    - {uri: {exact: /two}, sourceNamespace: two}
    - {uri: {exact: /gateway}, gateways: [g]}
    route: [{destination: {host: a, subset: v1, port: {number: 80}}, weight: 10, headers: {request: {set: {x: y}}}}]
    timeout: 1s
    retries: {attempts: 1, retryOn: 5xx}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 1}}}
  - name: r1
    match: [{headers: {x: {}}, ignoreUriCase: true}]
    rewrite: {uri: /x}
    route: [{destination: {host: a}}, {destination: {host: b.two.svc.cluster.local}, weight: 5}]
  - name: r2
    match: [{uri: {exact: /redirect}}]
    redirect: {uri: /there, redirectCode: 302}
  - name: r3
    match: [{uri: {exact: /direct}}]
    directResponse: {status: 200, body: {string: x}}
  - name: r4
    route: [{destination: {host: a}}]
";

/// Which rule acts on a request, if any does (a rule that is broken does not act).
fn acting(objects: &Objects, namespace: &str, path: &str, headers: &[(&str, &str)]) -> Option<String> {
    let table = compiled!(RouteTable, objects, namespace, "routes/one/a.one.svc.cluster.local");
    let labels = BTreeMap::from([("app".to_owned(), "a".to_owned())]);
    let (routes, problems) = CompiledRoutes::compile(&table, &labels);
    assert!(problems.is_empty(), "{problems:?}");
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let head = RequestHead { method: "GET", path, query, authority: "a", scheme: "http", headers: &headers };
    match routes.decide(&head, 80, &mut fastrand::Rng::with_seed(1)) {
        Decision::Route(routed) => Some(routed.rule.name.to_string()),
        Decision::Redirect { rule, .. } | Decision::Direct { rule, .. } => Some(rule.name.to_string()),
        Decision::Implicit => Some("implicit".to_owned()),
        Decision::Invalid { .. } | Decision::NotFound => None,
    }
}

const REQUESTS: [(&str, &[(&str, &str)]); 9] = [
    ("/exact", &[]),
    ("/p?q=1", &[("x", "1"), ("y", "ab")]),
    ("/p?q=1", &[("x", "1"), ("y", "ab"), ("no", "1")]),
    ("/p", &[("y", "ab")]),
    ("/two", &[]),
    ("/gateway", &[]),
    ("/redirect", &[]),
    ("/direct", &[]),
    ("/other", &[]),
];

/// Whether rule `name` of [`ROUTES`], alone, is for a request.
fn is_for(namespace: &str, name: &str, path: &str, headers: &[(&str, &str)]) -> bool {
    static ALONE: LazyLock<BTreeMap<String, Objects>> = LazyLock::new(|| {
        let all = object(ROUTES);
        let names =
            all["spec"]["http"].as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap().to_owned());
        let alone = |name: String| {
            let mut alone = all.clone();
            alone["spec"]["http"].as_array_mut().unwrap().retain(|rule| rule["name"] == *name);
            (name, with(&alone))
        };
        names.map(alone).collect()
    });
    ALONE.get(name).is_some_and(|alone| acting(alone, namespace, path, headers).is_some_and(|acting| acting == name))
}

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: one}
spec:
  selector: {matchLabels: {app: a}}
  action: ACTION
  rules:
  - from:
    - source: {principals: [cluster.local/ns/two/sa/x], notNamespaces: [three], ipBlocks: [10.0.0.0/8]}
    - source: {serviceAccounts: [two/y], trustDomains: [cluster.local]}
    to: [{operation: {methods: [GET], paths: [/a*, '/t/{*}'], notPaths: [/admin], ports: ['8080'], hosts: [a]}}]
    when: [{key: 'request.headers[x]', values: ['1'], notValues: ['2']}, {key: source.namespace, values: [two]}]
  - from: [{source: {namespaces: [two]}}]
    to: [{operation: {paths: [/ok]}}]
";

/// Which of some requests from `two/x` and `two/y` are let in.
fn let_in(objects: &Objects) -> Vec<bool> {
    let inbound = compiled!(Inbound, objects, "one", "inbound/uid-a");
    let (policies, problems) = CompiledPolicies::compile(&inbound.policies, &["cluster.local".to_owned()]);
    assert!(problems.is_empty(), "{problems:?}");
    let mut out = Vec::new();
    for account in ["two/sa/x", "two/sa/y", "three/sa/x"] {
        let identity: SpiffeId = format!("spiffe://cluster.local/ns/{account}").parse().unwrap();
        let address = IpAddr::from(Ipv4Addr::new(10, 0, 0, 9));
        for identity in [Some(&identity), None] {
            for (path, x) in [("/a", "1"), ("/a", "2"), ("/admin", "1"), ("/t/1", "1"), ("/ok", ""), ("/b", "1")] {
                let connection = Connection { identity, source: address, destination: address, port: 8080, sni: None };
                let headers = [("x", x)];
                let head =
                    RequestHead { method: "GET", path, query: None, authority: "a", scheme: "http", headers: &headers };
                out.push(policies.request(&connection, &head).is_allowed());
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_mistake_never_makes_a_rule_match_more(index in 0usize..90, mistake in any_mistake()) {
        let Some(broken) = spoil(&object(ROUTES), index, mistake) else { return Ok(()) };
        let objects = with(&broken);
        for namespace in ["one", "two"] {
            // In `two` nothing acts: the object is exported to its own namespace only.
            for (path, headers) in REQUESTS {
                let Some(name) = acting(&objects, namespace, path, headers) else { continue };
                // Without the object (or its `http`), requests go to the service itself.
                let same = name == "implicit" || is_for(namespace, &name, path, headers);
                // A misspelt gateways, exportTo or hosts is reported; it bounds where the rules act, not what they match.
                let about_bounds = broken["spec"].get("exportToz").is_some();
                prop_assert!(same || about_bounds, "{} acts on {} {:?} for {}: {}", name, path, headers, namespace, broken);
            }
        }
        let reference = ObjectRef { kind: "VirtualService".into(), key: mesh_crd::ObjectKey::new("one", "v") };
        prop_assert!(!objects.validate(&reference).is_empty(), "nothing is said about {}", broken);
    }

    #[test]
    fn a_mistake_never_lets_more_in(index in 0usize..60, mistake in any_mistake(), deny in any::<bool>()) {
        let written = object(&POLICY.replace("ACTION", if deny { "DENY" } else { "ALLOW" }));
        let Some(broken) = spoil(&written, index, mistake) else { return Ok(()) };
        let (before, objects) = (let_in(&with(&written)), with(&broken));
        for (number, (before, after)) in before.iter().zip(let_in(&objects)).enumerate() {
            prop_assert!(*before || !after, "request {} is let in by {}", number, broken);
        }
        let reference = ObjectRef { kind: "AuthorizationPolicy".into(), key: mesh_crd::ObjectKey::new("one", "p") };
        prop_assert!(!objects.validate(&reference).is_empty(), "nothing is said about {}", broken);
    }

    #[test]
    fn a_mistake_never_weakens_mutual_tls(index in 0usize..12, mistake in any_mistake()) {
        let written = object("
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p, namespace: one}
spec: {selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}, portLevelMtls: {'8080': {mode: STRICT}, '9000': {mode: STRICT}}}
");
        let Some(broken) = spoil(&written, index, mistake) else { return Ok(()) };
        let inbound = compiled!(Inbound, &with(&broken), "one", "inbound/uid-a");
        prop_assert_eq!(inbound.mtls, MtlsMode::Strict, "{}", broken);
        prop_assert!(inbound.ports.values().all(|port| port.mtls == MtlsMode::Strict), "{}", broken);
    }

    #[test]
    fn nothing_that_is_written_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, any_value()), 1..6),
    ) {
        static POOL: LazyLock<(Vec<mesh_crd::Parsed>, Objects)> = LazyLock::new(|| {
            let (parsed, _) = mesh_crd::parse_documents(include_str!("pool.yaml"), "pool.yaml");
            let mut objects = Objects::default();
            parsed.iter().for_each(|parsed| drop(objects.apply(parsed.object.clone())));
            (parsed, objects)
        });
        let (parsed, mut objects) = (&POOL.0, POOL.1.clone());
        for (which, place, value) in changes {
            let mut document = which.get(parsed).document.clone();
            let mut left = place;
            replace(&mut document, &mut left, &value);
            if let Ok(object) = read_object(&document, Source::default()) {
                let reference = ObjectRef { kind: object.kind().to_owned(), key: object.key() };
                objects.apply(object);
                objects.validate(&reference);
            }
        }
        objects.validate_all();
        super::change::compile_all(&objects);
    }
}

/// Puts a value in the `left`-th place of a document, except at its identity.
fn replace(document: &mut Value, left: &mut usize, value: &Value) -> bool {
    let children: Vec<&mut Value> = match document {
        Value::Object(map) => {
            let keys = ["apiVersion", "kind", "name", "namespace"];
            map.iter_mut().filter(|(key, _)| !keys.contains(&key.as_str())).map(|(_, child)| child).collect()
        }
        Value::Array(items) => items.iter_mut().collect(),
        _ => return false,
    };
    for child in children {
        if *left == 0 {
            *child = value.clone();
            return true;
        }
        *left -= 1;
        if replace(child, left, value) {
            return true;
        }
    }
    false
}

fn any_value() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "*",
        "~",
        ".",
        "*.x",
        "/",
        "0",
        "-1",
        "99999999999",
        "10.0.0.1",
        "::1",
        "10.0.0.0/8",
        "1s",
        "(",
        "é",
        "a.b.svc.cluster.local",
    ];
    prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        prop::sample::select(texts.to_vec()).prop_map(|text| json!(text)),
        "\\PC{0,12}".prop_map(|text| json!(text)),
        Just(json!(null)),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{}])),
        Just(json!([null, 5, "x", {"a": "b"}])),
        Just(json!({"a": {"b": "c"}, "": []})),
    ]
}

#[test]
fn the_unspoilt_rules_act() {
    let objects = with(&object(ROUTES));
    let names: Vec<_> =
        REQUESTS.iter().map(|(path, headers)| acting(&objects, "one", path, headers).unwrap()).collect();
    assert_eq!(names, ["r0", "r0", "r1", "r4", "r4", "r4", "r2", "r3", "r4"]);
    let (allow, deny) = (POLICY.replace("ACTION", "ALLOW"), POLICY.replace("ACTION", "DENY"));
    let count = |text: &str| let_in(&with(&object(text))).into_iter().filter(|let_in| *let_in).count();
    assert_eq!((count(&allow), count(&deny)), (6, 30));
}

/// [`AnyObject`] is what reading gives; the compiler takes all of them.
#[test]
fn kinds_that_are_not_read_change_nothing() {
    let mut objects = two_and("");
    let other = object("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a, namespace: one}\n");
    let read = read_object(&other, Source::default()).unwrap();
    assert!(matches!(read, AnyObject::Other(_)));
    assert!(objects.apply(read.clone()).is_empty());
    assert!(objects.remove(read.kind(), &read.key()).is_empty());
    compiled!(Service, &objects, "one", "service/one/a.one.svc.cluster.local");
}
