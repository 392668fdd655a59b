//! The law of a stream: whatever changes, however slowly the proxy answers, once everything is quiet it holds exactly what
//! is published of what it subscribes to, and is asked to hold nothing twice.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use mesh_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_api::{Encoded, Rejected, type_url};
use mesh_core::config::{ResourceKind, ResourceName, ServiceName};
use proptest::prelude::*;

use super::{Config, Session, Sync};
use crate::publish::Marks;

const SERVICES: usize = 3;
const MEMBERS: usize = 4;

/// The published world: names with versions.
#[derive(Default)]
struct World {
    published: RefCell<BTreeMap<ResourceName, u32>>,
    appearing: RefCell<BTreeSet<ResourceName>>,
}

impl Config for World {
    fn subscribe(&self, _: &ResourceName) {}

    fn unsubscribe(&self, _: &ResourceName) {}

    fn get(&self, name: &ResourceName) -> Option<Arc<Encoded>> {
        let version = *self.published.borrow().get(name)?;
        Some(Arc::new(Encoded {
            name: name.to_string().into(),
            version: version.to_string().into(),
            type_url: type_url(name.kind()).into(),
            bytes: vec![0; 200_000].into(),
        }))
    }

    fn members(&self, service: &ServiceName) -> Vec<Arc<str>> {
        let of = |name: &ResourceName| match name {
            ResourceName::Endpoint(s, uid) if s == service => Some(uid.clone()),
            _ => None,
        };
        self.published.borrow().keys().filter_map(of).collect()
    }

    fn exists(&self, name: &ResourceName) -> bool {
        self.published.borrow().contains_key(name)
    }

    fn may_appear(&self, name: &ResourceName) -> bool {
        self.appearing.borrow().contains(name)
    }

    fn may_subscribe(&self, _: &ResourceName) -> bool {
        true
    }
}

/// The other side: holds what it is told, checks what it is told.
#[derive(Default)]
struct Proxy {
    held: BTreeMap<String, String>,
    complete: BTreeSet<String>,
    unanswered: Vec<DeltaDiscoveryResponse>,
}

impl Proxy {
    fn take(&mut self, response: DeltaDiscoveryResponse) {
        let bytes: usize = response.resources.iter().map(prost::Message::encoded_len).sum();
        assert!(bytes <= mesh_api::limits::RESPONSE_BYTES_CUT || response.resources.len() == 1);
        for resource in &response.resources {
            let before = self.held.insert(resource.name.clone(), resource.version.clone());
            assert_ne!(before.as_ref(), Some(&resource.version), "{} is held already", resource.name);
            if resource.name.ends_with("/*") {
                self.complete.insert(resource.name.clone());
            }
        }
        for name in &response.removed_resources {
            self.held.remove(name);
        }
        self.unanswered.push(response);
    }
}

fn service(index: usize) -> ServiceName {
    ServiceName::new("ns", &format!("s{index}.ns.svc"))
}

fn collection(index: usize) -> ResourceName {
    ResourceName::Endpoints(service(index))
}

fn member(index: usize, uid: usize) -> ResourceName {
    ResourceName::Endpoint(service(index), format!("u{uid}").into())
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize),
    Remove(usize, usize, bool),
    Subscribe(usize),
    Unsubscribe(usize),
    Send,
    Answer,
    Reject,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let (service, uid) = (0..SERVICES, 0..MEMBERS);
    prop_oneof![
        4 => (service.clone(), uid.clone()).prop_map(|(s, u)| Step::Put(s, u)),
        2 => (service.clone(), uid, any::<bool>()).prop_map(|(s, u, urgent)| Step::Remove(s, u, urgent)),
        2 => service.clone().prop_map(Step::Subscribe),
        1 => service.prop_map(Step::Unsubscribe),
        3 => Just(Step::Send),
        2 => Just(Step::Answer),
        1 => Just(Step::Reject),
        1 => Just(Step::Reconnect),
    ]
}

struct Bench {
    world: World,
    session: Session,
    proxy: Proxy,
    subscribed: BTreeSet<usize>,
    counter: u32,
}

impl Bench {
    fn new() -> Self {
        let world = World::default();
        for index in 0..SERVICES {
            world.published.borrow_mut().insert(collection(index), 0);
        }
        let (session, proxy) = (Session::default(), Proxy::default());
        Self { world, session, proxy, subscribed: BTreeSet::new(), counter: 0 }
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) {
        let type_url = type_url(ResourceKind::Endpoint).to_owned();
        let request = DeltaDiscoveryRequest { type_url, ..request };
        self.session.request(request, &self.world, Instant::now()).unwrap();
    }

    /// Membership changed: the collection counts anew.
    fn mark(&mut self, index: usize, uid: usize, urgent: bool) {
        let count = self.world.members(&service(index)).len();
        self.world.published.borrow_mut().insert(collection(index), u32::try_from(count).unwrap());
        if !self.subscribed.contains(&index) {
            return;
        }
        let names = [member(index, uid), collection(index)].map(|name| (name, Instant::now()));
        let mut marks = Marks::default();
        if urgent {
            marks.urgent.extend(names)
        } else {
            marks.normal.extend(names)
        }
        self.session.changed(marks, &self.world);
    }

    fn send(&mut self) -> bool {
        let response = self.session.respond(&self.world, Instant::now());
        response.map(|(_, response)| self.proxy.take(response)).is_some()
    }

    fn answer(&mut self, rejected: &[Rejected]) {
        if self.proxy.unanswered.is_empty() {
            return;
        }
        let response = self.proxy.unanswered.remove(0);
        let error_detail = (!rejected.is_empty()).then(|| Rejected::to_status(rejected));
        self.request(DeltaDiscoveryRequest { response_nonce: response.nonce, error_detail, ..Default::default() });
    }

    fn run(&mut self, step: &Step) {
        self.counter += 1;
        match *step {
            Step::Put(index, uid) => {
                self.world.published.borrow_mut().insert(member(index, uid), self.counter);
                self.mark(index, uid, false);
            }
            Step::Remove(index, uid, urgent) => {
                self.world.published.borrow_mut().remove(&member(index, uid));
                self.mark(index, uid, urgent);
            }
            Step::Subscribe(index) if self.subscribed.insert(index) => {
                let resource_names_subscribe = vec![collection(index).to_string()];
                self.request(DeltaDiscoveryRequest { resource_names_subscribe, ..Default::default() });
            }
            Step::Unsubscribe(index) if self.subscribed.remove(&index) => {
                let name = collection(index).to_string();
                let prefix = name.trim_end_matches('*');
                self.proxy.held.retain(|held, _| !held.starts_with(prefix));
                // What is under way for it is passed over by a proxy.
                for response in &mut self.proxy.unanswered {
                    response.resources.retain(|resource| !resource.name.starts_with(prefix));
                }
                self.request(DeltaDiscoveryRequest { resource_names_unsubscribe: vec![name], ..Default::default() });
            }
            Step::Subscribe(_) | Step::Unsubscribe(_) => {}
            Step::Send => drop(self.send()),
            Step::Answer => self.answer(&[]),
            Step::Reject => {
                let first = self.proxy.unanswered.first().and_then(|response| response.resources.first());
                let rejected = first.map(|resource| Rejected { name: resource.name.clone(), reason: "no".to_owned() });
                self.answer(&rejected.into_iter().collect::<Vec<_>>());
            }
            Step::Reconnect => {
                self.session = Session::default();
                self.proxy.unanswered.clear();
                let request = DeltaDiscoveryRequest {
                    resource_names_subscribe: self.subscribed.iter().map(|i| collection(*i).to_string()).collect(),
                    initial_resource_versions: self.proxy.held.clone(),
                    ..Default::default()
                };
                self.request(request);
            }
        }
    }

    fn settle(&mut self) {
        while self.send() || !self.proxy.unanswered.is_empty() {
            self.answer(&[]);
        }
    }

    fn expected(&self) -> BTreeMap<String, String> {
        let covered = |name: &ResourceName| match name {
            ResourceName::Endpoint(of, _) | ResourceName::Endpoints(of) => {
                self.subscribed.iter().any(|index| service(*index) == *of)
            }
            _ => false,
        };
        let published = self.world.published.borrow();
        let held = published.iter().filter(|(name, _)| covered(name));
        held.map(|(name, version)| (name.to_string(), version.to_string())).collect()
    }
}

proptest! {
    #[test]
    fn once_quiet_a_proxy_holds_what_is_published(steps in proptest::collection::vec(step(), 0..80)) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.run(step);
        }
        bench.settle();
        prop_assert_eq!(&bench.proxy.held, &bench.expected());
        prop_assert!(bench.session.sync().values().all(|sync| *sync != Sync::Pending));
        prop_assert!(!bench.session.has_response(Instant::now()));
        // Connected anew, there is nothing to say but "in sync".
        bench.run(&Step::Reconnect);
        bench.send();
        let answer = bench.proxy.unanswered.pop().unwrap();
        prop_assert!(answer.resources.is_empty() && answer.removed_resources.is_empty(), "{:?}", answer.removed_resources);
        bench.request(DeltaDiscoveryRequest { response_nonce: answer.nonce, ..Default::default() });
        prop_assert!(!bench.send());
    }
}

#[test]
fn a_proxy_that_does_not_answer_is_not_sent_more_and_more() {
    let mut bench = Bench::new();
    bench.run(&Step::Subscribe(0));
    for _ in 0..100 {
        bench.run(&Step::Put(0, 0));
        bench.send();
    }
    assert_eq!(bench.proxy.unanswered.len(), super::UNACKNOWLEDGED_MAX);
    bench.settle();
    assert_eq!(bench.proxy.held, bench.expected());
}

#[test]
fn what_is_urgent_goes_first() {
    let mut bench = Bench::new();
    bench.run(&Step::Put(0, 0));
    bench.run(&Step::Subscribe(0));
    bench.settle();
    for uid in 1..MEMBERS {
        bench.run(&Step::Put(0, uid));
    }
    bench.run(&Step::Remove(0, 0, true));
    bench.send();
    let first = bench.proxy.unanswered.first().unwrap();
    assert_eq!(first.removed_resources, [member(0, 0).to_string()]);
}
