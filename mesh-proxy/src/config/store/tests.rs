//! The store without a network: what comes in, what the view holds, what is asked for.

use std::time::Duration;

use mesh_api::{Rejected, Resource};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::config::keys::{KEY_UNUSED_MAX, KEYS_MAX};
use crate::config::testing::*;

/// A store with the two resources that every proxy has, and a clock.
struct Bench {
    store: Store,
    now: Instant,
}

type Answer = oneshot::Receiver<Result<(), DiscoveryError>>;

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let mut bench = Self { store: Store::new(UID.into(), BTreeMap::new(), now), now };
        let first = bench.publish();
        assert_eq!(names(&first.subscribe), [format!("inbound/{UID}"), "settings".to_owned()]);
        bench.store.set_connected(true);
        bench.give(&[settings(), own_inbound()]);
        bench
    }

    fn publish(&mut self) -> Published {
        self.store.publish(self.now)
    }

    fn give(&mut self, resources: &[Resource]) -> (Vec<Rejected>, Published) {
        let resources = resources.iter().map(wire).collect();
        let rejected = self.store.apply(Incoming { resources, removed: vec![] }, self.now);
        (rejected, self.publish())
    }

    fn remove(&mut self, names: &[&str]) -> Published {
        let removed = names.iter().map(|name| (*name).to_owned()).collect();
        let rejected = self.store.apply(Incoming { resources: vec![], removed }, self.now);
        assert!(rejected.is_empty(), "{rejected:?}");
        self.publish()
    }

    fn ask(&mut self, key: Key) -> (Answer, Published) {
        let (answered, answer) = oneshot::channel();
        self.store.ask(key, answered, self.now);
        (answer, self.publish())
    }

    fn view(&self) -> Arc<View> {
        self.store.views().load()
    }

    /// A proxy that knows `10.96.0.1` as the service `cart` with subset v1, one endpoint, and implicit routes.
    fn with_cart() -> Self {
        let mut bench = Self::new();
        let _ = bench.ask(cart());
        bench.give(&[address_of("10.96.0.1", "cart")]);
        bench.give(&[service("cart", &["v1"]), endpoint("cart", "a", "v1"), complete("cart", 1), implicit("cart")]);
        assert!(bench.view().address(ip("10.96.0.1")).is_some());
        bench
    }
}

fn cart() -> Key {
    Key::Address(ip("10.96.0.1"))
}

fn names(of: &[ResourceName]) -> Vec<String> {
    let mut names: Vec<String> = of.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

#[test]
fn an_answer_is_given_when_everything_that_it_leads_to_is_there() {
    let mut bench = Bench::new();
    let (mut answer, published) = bench.ask(cart());
    assert_eq!(names(&published.subscribe), ["address/10.96.0.1"]);
    let (_, published) = bench.give(&[address_of("10.96.0.1", "cart")]);
    assert_eq!(names(&published.subscribe), ["endpoints/shop/cart/*", "routes/shop/cart", "service/shop/cart"]);
    bench.give(&[service("cart", &[]), implicit("cart"), endpoint("cart", "a", "v1")]);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Empty), "the collection is not complete");
    assert!(bench.view().address(ip("10.96.0.1")).is_none());
    bench.give(&[complete("cart", 1)]);
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    let view = bench.view();
    assert!(view.address(ip("10.96.0.1")).is_some());
    assert_eq!(view.cluster(&name("cart"), None, 80).unwrap().balancer(false).members().len(), 1);
    assert!(view.routes(&name("cart")).unwrap().compiled.implicit());
    let (mut again, published) = bench.ask(cart());
    assert_eq!(again.try_recv(), Ok(Ok(())), "known keys answer at once");
    assert!(published.subscribe.is_empty());
}

#[test]
fn a_route_leads_to_the_services_that_it_names() {
    let mut bench = Bench::new();
    let (mut answer, _) = bench.ask(Key::Host("cart".into(), 80));
    bench.give(&[host_of("cart", 80, "cart")]);
    let (_, published) = bench.give(&[service("cart", &[]), complete("cart", 0), routes("cart", "other", Some("v1"))]);
    assert_eq!(names(&published.subscribe), ["endpoints/shop/other/*", "service/shop/other"]);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
    bench.give(&[service("other", &["v1"]), endpoint("other", "b", "v1"), complete("other", 1)]);
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert_eq!(bench.view().cluster(&name("other"), Some("v1"), 80).unwrap().balancer(false).members().len(), 1);
}

#[test]
fn absence_is_an_answer_and_is_held() {
    let mut bench = Bench::new();
    let (mut answer, _) = bench.ask(Key::Address(ip("10.1.1.1")));
    bench.remove(&["address/10.1.1.1"]);
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert_eq!(bench.view().address(ip("10.1.1.1")).unwrap().answer, AddressAnswer::Absent);
    // A route to a service that does not exist is known to lead nowhere.
    let (mut answer, _) = bench.ask(cart());
    bench.give(&[address_of("10.96.0.1", "cart")]);
    bench.give(&[service("cart", &[]), complete("cart", 0), routes("cart", "gone", None)]);
    bench.remove(&["service/shop/gone", "endpoints/shop/gone/*"]);
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert!(bench.view().cluster(&name("gone"), None, 80).is_none());
}

#[test]
fn an_address_that_was_nobodys_is_withdrawn_before_its_service_is_known() {
    let mut bench = Bench::new();
    let _ = bench.ask(cart());
    bench.give(&[address("10.96.0.1", AddressAnswer::Absent)]);
    assert!(bench.view().address(ip("10.96.0.1")).is_some());
    bench.give(&[address_of("10.96.0.1", "cart")]);
    assert!(bench.view().address(ip("10.96.0.1")).is_none(), "who asks now waits instead of sending plaintext");
    let mut bench = Bench::with_cart();
    bench.give(&[address_of("10.96.0.1", "other")]);
    let view = bench.view();
    let held = &view.address(ip("10.96.0.1")).unwrap().answer;
    assert_eq!(*held, AddressAnswer::Services(vec![name("cart")]), "a service goes on until its successor is there");
}

#[test]
fn one_bad_resource_is_rejected_by_name_and_the_others_are_taken() {
    let mut bench = Bench::with_cart();
    let (mut bad_name, version, any) = wire(&service("cart", &["v1", "v2"]));
    bad_name.push_str("-else");
    bench.store.subscribed.insert(bad_name.parse().unwrap());
    let resources = vec![(bad_name.clone(), version, any), wire(&endpoint("cart", "b", "v1"))];
    let rejected = bench.store.apply(Incoming { resources, removed: vec![] }, bench.now);
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].name, bad_name);
    assert!(rejected[0].reason.contains("calls itself"), "{}", rejected[0].reason);
    bench.publish();
    assert_eq!(bench.view().endpoints(&name("cart")).unwrap().len(), 2);
}

#[test]
fn a_table_that_does_not_compile_leaves_the_working_one_in_use() {
    let mut bench = Bench::with_cart();
    let (rejected, _) = bench.give(&[broken_routes("cart", "cart")]);
    assert_eq!(rejected[0].name, "routes/shop/cart");
    assert!(bench.view().routes(&name("cart")).unwrap().compiled.implicit());
    // Where there is none, its sound rules are better than nothing; it is reported all the same.
    let mut bench = Bench::new();
    let (mut answer, _) = bench.ask(cart());
    bench.give(&[address_of("10.96.0.1", "cart")]);
    let (rejected, _) = bench.give(&[service("cart", &[]), complete("cart", 0), broken_routes("cart", "cart")]);
    assert_eq!(rejected.len(), 1);
    assert_eq!(answer.try_recv(), Ok(Ok(())));
}

#[test]
fn a_table_to_what_is_not_there_waits_while_the_previous_works() {
    let mut bench = Bench::with_cart();
    let (_, published) = bench.give(&[routes("cart", "cart", Some("v2"))]);
    assert_eq!(published.again_at, Some(bench.now + HOLD_MAX));
    assert!(bench.view().routes(&name("cart")).unwrap().compiled.implicit(), "the previous table works on");
    bench.give(&[service("cart", &["v1", "v2"])]);
    assert!(!bench.view().routes(&name("cart")).unwrap().compiled.implicit(), "the subset came");
    bench.give(&[routes("cart", "cart", Some("v9"))]);
    bench.now += HOLD_MAX;
    bench.publish();
    let view = bench.view();
    let destination = &view.routes(&name("cart")).unwrap().compiled.destinations()[0].destination;
    assert_eq!(destination.subset.as_deref(), Some("v9"), "after a minute it goes in and fails by name");
    assert!(view.cluster(&name("cart"), Some("v9"), 80).is_none());
}

#[test]
fn services_of_a_new_table_are_held_before_it_is_used() {
    let mut bench = Bench::with_cart();
    let (_, published) = bench.give(&[routes("cart", "other", None)]);
    assert_eq!(names(&published.subscribe), ["endpoints/shop/other/*", "service/shop/other"]);
    assert!(bench.view().routes(&name("cart")).unwrap().compiled.implicit());
    let (_, published) = bench.give(&[service("other", &[]), complete("other", 0)]);
    let view = bench.view();
    assert!(!view.routes(&name("cart")).unwrap().compiled.implicit());
    assert!(view.service(&name("other")).is_some(), "route and service come in one view");
    assert!(published.unsubscribe.is_empty());
}

#[test]
fn endpoints_go_at_once_and_those_that_stay_keep_what_was_learned() {
    let mut bench = Bench::with_cart();
    bench.give(&[endpoint("cart", "b", "v1")]);
    let before = Arc::clone(bench.view().cluster(&name("cart"), Some("v1"), 80).unwrap());
    assert_eq!(before.balancer(false).members().len(), 2);
    bench.remove(&["endpoints/shop/cart/a"]);
    let after = Arc::clone(bench.view().cluster(&name("cart"), Some("v1"), 80).unwrap());
    assert_eq!(after.balancer(false).members().len(), 1);
    assert!(Arc::ptr_eq(state(&after, 0), state(&before, 1)));
    assert!(Arc::ptr_eq(&after.circuit, &before.circuit));
    // A changed service keeps it too.
    bench.give(&[service("cart", &["v1", "v2"])]);
    let changed = Arc::clone(bench.view().cluster(&name("cart"), Some("v1"), 80).unwrap());
    assert!(Arc::ptr_eq(state(&changed, 0), state(&before, 1)));
}

fn state(cluster: &crate::config::Cluster, member: usize) -> &Arc<mesh_core::outlier::EndpointState> {
    &cluster.balancer(false).members()[member].state
}

#[test]
fn ejections_are_swept_when_the_interval_is_over() {
    use mesh_core::config::OutlierDetection;
    use mesh_core::outlier::{Outcome, observe};
    use mesh_core::time::Millis;
    let outlier = OutlierDetection {
        consecutive_5xx: 1,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        split_local_errors: false,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_percent: 100,
        min_health_percent: 0,
    };
    let mut bench = Bench::with_cart();
    let Resource::Service(plain) = service("cart", &[]) else { unreachable!() };
    let mut strict = Service::clone(&plain);
    strict.ports.get_mut(&80).unwrap().policy.outlier = Some(outlier);
    bench.give(&[Resource::Service(Arc::new(strict))]);
    let cluster = Arc::clone(bench.view().cluster(&name("cart"), None, 80).unwrap());
    let balancer = cluster.balancer(false);
    let _ = observe(&outlier, &balancer.members()[0].state, balancer.pool(), Outcome::Status(500), 1, Millis(1_000));
    assert_eq!(balancer.pool().ejected(), 1);
    bench.give(&[endpoint("cart", "b", "v1")]);
    bench.view().sweep_outliers(Millis(20_000));
    assert_eq!(balancer.pool().ejected(), 1, "it is still left out, and a new view counts the same");
    bench.view().sweep_outliers(Millis(40_000));
    assert_eq!(balancer.pool().ejected(), 0);
}

#[test]
fn the_family_that_was_dialled_is_used_where_there_is_a_choice() {
    let mut bench = Bench::with_cart();
    let Resource::Endpoint(of, plain) = endpoint("cart", "a", "v1") else { unreachable!() };
    let mut dual = Endpoint::clone(&plain);
    dual.addresses.push(ip("fd00::9"));
    bench.give(&[Resource::Endpoint(of, Arc::new(dual))]);
    let cluster = Arc::clone(bench.view().cluster(&name("cart"), None, 80).unwrap());
    let address = |v6: bool| cluster.balancer(v6).members()[0].address.unwrap().to_string();
    assert_eq!((address(false), address(true)), ("10.244.0.9:8080".to_owned(), "[fd00::9]:8080".to_owned()));
    let (v4, v6) = (cluster.balancer(false), cluster.balancer(true));
    assert!(Arc::ptr_eq(&v4.members()[0].state, &v6.members()[0].state), "one endpoint, one state");
}

#[test]
fn unused_keys_are_forgotten_with_what_they_led_to() {
    let mut bench = Bench::with_cart();
    bench.now += KEY_UNUSED_MAX + Duration::from_secs(1);
    let hold = bench.view().address(ip("10.96.0.1")).unwrap().hold();
    bench.store.forget_unused(bench.now);
    assert!(bench.publish().unsubscribe.is_empty(), "a connection uses it");
    drop(hold);
    bench.store.set_connected(false);
    bench.now += KEY_UNUSED_MAX + Duration::from_secs(1);
    bench.store.forget_unused(bench.now);
    assert!(bench.publish().unsubscribe.is_empty(), "nobody could be asked again");
    bench.store.set_connected(true);
    bench.store.forget_unused(bench.now);
    let published = bench.publish();
    assert_eq!(
        names(&published.unsubscribe),
        ["address/10.96.0.1", "endpoints/shop/cart/*", "routes/shop/cart", "service/shop/cart"]
    );
    let view = bench.view();
    assert!(view.address(ip("10.96.0.1")).is_none() && view.service(&name("cart")).is_none());
    assert!(view.routes(&name("cart")).is_none());
    assert_eq!(bench.store.versions().count(), 2, "settings and inbound are left");
}

#[test]
fn the_least_recently_used_key_makes_room() {
    let mut bench = Bench::with_cart();
    let hold = bench.view().address(ip("10.96.0.1")).unwrap().hold();
    for n in 1..KEYS_MAX {
        let (answered, _) = oneshot::channel();
        let key = Key::Address(IpAddr::from((0x0a01_0000_u32 + n as u32).to_be_bytes()));
        bench.store.ask(key, answered, bench.now);
    }
    assert_eq!(bench.store.keys.len(), KEYS_MAX);
    bench.now += Duration::from_secs(1);
    let (mut answer, _) = bench.ask(Key::Address(ip("10.9.9.9")));
    assert_eq!(answer.try_recv(), Err(TryRecvError::Empty), "there is room for one more");
    assert!(bench.store.keys.len() <= KEYS_MAX);
    assert!(bench.store.keys.contains_key(&cart()), "what is held stays");
    drop(hold);
}

#[test]
fn what_was_saved_is_restored_whole_and_counts_for_readiness() {
    let mut bench = Bench::with_cart();
    let (_, _) = bench.ask(Key::Address(ip("10.1.1.1")));
    bench.remove(&["address/10.1.1.1"]);
    let dir = tempfile::tempdir().unwrap();
    let snapshot = crate::config::saved::Snapshot { uid: UID.to_owned(), incoming: bench.store.snapshot() };
    crate::config::saved::write(dir.path(), snapshot).unwrap();
    assert!(crate::config::saved::read(dir.path(), "another uid").is_none());

    let mut restarted = Store::new(UID.into(), BTreeMap::new(), bench.now);
    restarted.restore(crate::config::saved::read(dir.path(), UID).unwrap(), bench.now);
    let view = restarted.views().load();
    assert!(view.settings().is_some() && view.inbound().is_some());
    assert_eq!(view.cluster(&name("cart"), Some("v1"), 80).unwrap().balancer(false).members().len(), 1);
    assert_eq!(view.address(ip("10.1.1.1")).unwrap().answer, AddressAnswer::Absent);
    assert_eq!(restarted.saved_keys_missing(), 0);
    assert_eq!(restarted.subscribed(), bench.store.subscribed());
    let versions = |store: &Store| -> BTreeMap<String, String> {
        store.versions().map(|(name, version)| (name.to_string(), version.to_owned())).collect()
    };
    assert_eq!(versions(&restarted), versions(&bench.store), "in sync: the control plane sends nothing again");
}

#[test]
fn a_saved_key_without_its_answer_is_waited_for() {
    let bench = Bench::with_cart();
    let mut incoming = bench.store.snapshot();
    incoming.resources.retain(|(name, ..)| name != "service/shop/cart");
    let mut restarted = Store::new(UID.into(), BTreeMap::new(), bench.now);
    restarted.restore(incoming, bench.now);
    assert_eq!(restarted.saved_keys_missing(), 1);
    let resources = vec![wire(&service("cart", &["v1"]))];
    restarted.apply(Incoming { resources, removed: vec![] }, bench.now);
    restarted.publish(bench.now);
    assert_eq!(restarted.saved_keys_missing(), 0);
}

#[test]
fn what_was_unsubscribed_from_is_not_taken_in_again() {
    let mut bench = Bench::with_cart();
    bench.give(&[service("stranger", &[]), endpoint("stranger", "x", "v1"), address_of("10.5.5.5", "cart")]);
    assert!(bench.view().service(&name("stranger")).is_none());
    assert!(bench.view().address(ip("10.5.5.5")).is_none());
    assert_eq!(bench.store.keys.len(), 1);
}

#[test]
fn another_workloads_inbound_is_rejected() {
    let mut bench = Bench::new();
    let other = Inbound { uid: "uid-2".into(), ..inbound() };
    bench.store.subscribed.insert(ResourceName::Inbound("uid-2".into()));
    let (rejected, _) = bench.give(&[Resource::Inbound(Arc::new(other))]);
    assert_eq!(rejected.len(), 1);
    assert_eq!(&*bench.view().inbound().unwrap().inbound.uid, UID);
}

#[test]
fn draining_is_told_by_the_own_inbound() {
    let mut bench = Bench::new();
    assert!(!bench.store.is_draining());
    bench.give(&[Resource::Inbound(Arc::new(Inbound { draining: true, ..inbound() }))]);
    assert!(bench.store.is_draining());
}

/// One thing that happens to a store.
#[derive(Clone, Debug)]
enum Event {
    Ask(u8),
    Give(u8, u8, u8),
    Remove(u8, u8),
    Later(u16),
    Connected(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0u8..3).prop_map(Event::Ask),
        8 => (0u8..7, 0u8..3, 0u8..3).prop_map(|(kind, which, to)| Event::Give(kind, which, to)),
        2 => (0u8..6, 0u8..3).prop_map(|(kind, which)| Event::Remove(kind, which)),
        1 => (0u16..700).prop_map(Event::Later),
        1 => any::<bool>().prop_map(Event::Connected),
    ]
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn happen(bench: &mut Bench, event: &Event) {
    let address_of_key = |n: u8| format!("10.96.0.{n}");
    match event {
        Event::Ask(n) => drop(bench.ask(Key::Address(ip(&address_of_key(*n))))),
        Event::Give(kind, which, to) => {
            let (which, to) = (usize::from(*which), usize::from(*to));
            let resource = match kind {
                0 => address_of(&address_of_key(which as u8), NAMES[to]),
                1 => address(&address_of_key(which as u8), AddressAnswer::Absent),
                2 => service(NAMES[which], &["v1", "v2"][..to.min(2)]),
                3 => endpoint(NAMES[which], NAMES[to], "v1"),
                4 => complete(NAMES[which], 1),
                5 => implicit(NAMES[which]),
                _ => routes(NAMES[which], NAMES[to], Some("v1")),
            };
            bench.give(&[resource]);
        }
        Event::Remove(kind, which) => {
            let name = NAMES[usize::from(*which)];
            let name = match kind {
                0 => format!("address/{}", address_of_key(*which)),
                1 => format!("service/shop/{name}"),
                2 => format!("endpoints/shop/{name}/*"),
                3 => format!("endpoints/shop/{name}/a"),
                4 => format!("routes/shop/{name}"),
                _ => format!("endpoints/shop/{name}/b"),
            };
            bench.remove(&[&name]);
        }
        Event::Later(seconds) => {
            bench.now += Duration::from_secs(u64::from(*seconds));
            bench.store.forget_unused(bench.now);
            bench.publish();
        }
        Event::Connected(connected) => bench.store.set_connected(*connected),
    }
}

/// What holds at every moment, whatever came in which order.
fn check_laws(bench: &Bench) -> Result<(), TestCaseError> {
    let view = bench.view();
    for (address, answer) in view.addresses() {
        let AddressAnswer::Services(services) = answer else { continue };
        for service in services {
            let known = view.service(service).is_some();
            prop_assert!(known, "{address} leads to {service}, which the view does not know");
        }
    }
    for (name, table) in view.route_tables() {
        for destination in table.compiled.services() {
            let wanted = bench.store.subscribed.contains(&ResourceName::Service(destination.clone()));
            prop_assert!(wanted, "{name} names {destination}, which is not subscribed to");
        }
    }
    prop_assert_eq!(bench.store.subscribed(), &bench.store.closure());
    let held = bench.store.versions().map(|(name, _)| match name {
        ResourceName::Endpoint(service, _) => ResourceName::Endpoints(service.clone()),
        other => other.clone(),
    });
    for name in held {
        prop_assert!(bench.store.subscribed.contains(&name), "{name} is held and not subscribed to");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_view_is_closed_whatever_comes_in_which_order(events in proptest::collection::vec(event(), 1..150)) {
        let mut bench = Bench::new();
        for event in &events {
            happen(&mut bench, event);
            check_laws(&bench)?;
        }
        // What is saved now gives the same view to the next run.
        let mut restarted = Store::new(UID.into(), BTreeMap::new(), bench.now);
        restarted.restore(bench.store.snapshot(), bench.now);
        let again = Bench { store: restarted, now: bench.now };
        check_laws(&again)?;
    }
}
