//! The two laws: what is compiled does not depend on the order of arrival, and compiling again only what a change
//! touches gives the same as compiling everything.

use std::collections::BTreeMap;

use mesh_core::config::ResourceName;
use mesh_crd::{AnyObject, parse_documents};
use proptest::prelude::*;

use crate::{Objects, Options, Resource};

/// Objects that meet each other in every way; several share a kind and key, so that one replaces the other.
const POOL: &str = include_str!("pool.yaml");

const NAMES: &[&str] = &[
    "settings",
    "inbound/uid-a",
    "inbound/uid-b",
    "address/10.96.0.10",
    "address/10.96.0.11",
    "address/10.96.0.20",
    "address/10.244.0.1",
    "address/10.244.0.2",
    "address/10.1.0.1",
    "address/10.1.0.2",
    "address/203.0.113.7",
    "host/a:80",
    "host/a.one:80",
    "host/a.one.svc.cluster.local:80",
    "host/b.two.svc.cluster.local:81",
    "host/db.internal:80",
    "host/x.example.com:443",
    "host/only.routes:80",
    "service/one/a.one.svc.cluster.local",
    "service/two/b.two.svc.cluster.local",
    "service/one/db.internal",
    "service/two/db.internal",
    "service/one/*.example.com",
    "service/two/a.one.svc.cluster.local",
    "endpoints/one/a.one.svc.cluster.local/*",
    "endpoints/two/b.two.svc.cluster.local/*",
    "endpoints/one/db.internal/*",
    "endpoints/two/db.internal/*",
    "endpoints/two/a.one.svc.cluster.local/*",
    "routes/one/a.one.svc.cluster.local",
    "routes/two/b.two.svc.cluster.local",
    "routes/one/db.internal",
    "routes/one/only.routes",
    "routes/two/only.routes",
    "routes/one/x.example.com",
    "routes/one/*.example.com",
];

const NAMESPACES: [&str; 3] = ["one", "two", "mesh-system"];

fn pool() -> Vec<AnyObject> {
    let (parsed, errors) = parse_documents(POOL, "pool.yaml");
    assert!(errors.is_empty(), "{errors:?}");
    parsed.into_iter().map(|parsed| parsed.object).collect()
}

pub(super) type Compiled = BTreeMap<(&'static str, &'static str), Option<Resource>>;

pub(super) fn compile_all(objects: &Objects) -> Compiled {
    let mut all = BTreeMap::new();
    for namespace in NAMESPACES {
        for name in NAMES {
            all.insert((namespace, *name), objects.compile(namespace, &name.parse().unwrap()));
        }
    }
    all
}

fn names() -> Vec<(&'static str, ResourceName)> {
    NAMES.iter().map(|name| (*name, name.parse().unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn compiling_what_a_change_touches_equals_compiling_everything(
        steps in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.3)), 1..60),
        seed in any::<u64>(),
    ) {
        let pool = pool();
        let names = names();
        let mut objects = Objects::new(Options::default());
        let mut held = compile_all(&objects);
        let mut present: BTreeMap<(String, mesh_crd::ObjectKey), AnyObject> = BTreeMap::new();
        for (index, remove) in steps {
            let object = index.get(&pool).clone();
            let id = (object.kind().to_owned(), object.key());
            let affected = if remove {
                present.remove(&id);
                objects.remove(&id.0, &id.1)
            } else {
                present.insert(id.clone(), object.clone());
                objects.apply(object)
            };
            for namespace in NAMESPACES {
                for (text, name) in names.iter().filter(|(_, name)| affected.touches(name)) {
                    held.insert((namespace, text), objects.compile(namespace, name));
                }
            }
            let all = compile_all(&objects);
            for (key, full) in &all {
                prop_assert_eq!(full, &held[key], "{:?} after {} {} {}", key, if remove { "removing" } else { "applying" }, id.0, id.1);
            }
        }
        // The same objects, in another order.
        let mut rest: Vec<_> = present.into_values().collect();
        let mut other = Objects::new(Options::default());
        let mut state = seed | 1;
        while !rest.is_empty() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % rest.len();
            other.apply(rest.swap_remove(at));
        }
        prop_assert_eq!(compile_all(&other), held);
        prop_assert_eq!(other.validate_all(), objects.validate_all());
    }
}

#[test]
fn the_pool_reaches_every_resource() {
    let (mut last, mut first) = (Objects::new(Options::default()), Objects::new(Options::default()));
    pool().into_iter().for_each(|object| drop(last.apply(object)));
    pool().into_iter().rev().for_each(|object| drop(first.apply(object)));
    let mut alone = Objects::new(Options::default());
    let own = pool().into_iter().rev().filter(|object| object.meta().namespace == "one");
    own.for_each(|object| drop(alone.apply(object)));
    let compiles = |name: &ResourceName| {
        let by = |objects: &Objects| NAMESPACES.iter().any(|namespace| objects.compile(namespace, name).is_some());
        by(&last) || by(&first) || by(&alone)
    };
    let missing: Vec<_> = names().into_iter().filter(|(_, name)| !compiles(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_pod_change_does_not_touch_other_services() {
    let mut objects = super::two_and("");
    let (mut parsed, _) = parse_documents(super::TWO, "x");
    let affected = objects.apply(parsed.remove(2).object);
    assert!(affected.touches(&"endpoints/one/a.one.svc.cluster.local/*".parse().unwrap()));
    assert!(affected.touches(&"inbound/uid-a".parse().unwrap()));
    for other in [
        "endpoints/two/b.two.svc.cluster.local/*",
        "inbound/uid-b",
        "service/one/a.one.svc.cluster.local",
        "routes/one/a.one.svc.cluster.local",
    ] {
        assert!(!affected.touches(&other.parse().unwrap()), "{other}");
    }
}
