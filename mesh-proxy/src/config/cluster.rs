//! Endpoints, and what all workers share about them.
//!
//! Endpoints come and go one by one; what was learned about those that stay (ejection, load) must outlive the snapshot in
//! which they are listed. So each endpoint's shared state is one allocation of atomics ([`EndpointState`]) that the next
//! snapshot takes over, by service, subset, port and uid. Nothing in it is a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use mesh_core::balance::{LoadBalancer, Plan};
use mesh_core::config::{Endpoint, Locality, Service, ServiceName, TrafficPolicy};
use mesh_core::limits::{Budget, Circuit};
use mesh_core::outlier::{EndpointState, Pool};
use mesh_core::time::Millis;

/// The clusters of a service, by subset and service port.
pub(super) type Clusters = HashMap<(Option<Arc<str>>, u16), Arc<Cluster>>;
/// The members of a service's collection, by uid.
pub(super) type Members = Arc<BTreeMap<Arc<str>, Arc<Endpoint>>>;

/// The endpoints of a service, ordered by uid.
#[derive(Clone, Default)]
pub(crate) struct EndpointSet {
    members: Members,
}

/// What requests to one destination (service, subset, port) are balanced over.
pub(crate) struct Cluster {
    /// The service.
    pub(crate) service: ServiceName,
    /// The subset, if one is named.
    pub(crate) subset: Option<Arc<str>>,
    /// The service's port.
    pub(crate) port: u16,
    /// How clients treat it.
    pub(crate) policy: TrafficPolicy,
    /// How many retries it bears.
    pub(crate) budget: Budget,
    /// What is going on towards it, on all workers; survives snapshots.
    pub(crate) circuit: Arc<Circuit>,
    /// When ejections were swept last, in the workers' milliseconds; survives snapshots.
    swept: Arc<AtomicU64>,
    balancer: LoadBalancer,
    /// The same, dialling IPv6 where there is a choice; made when first wanted, and only if there is a choice.
    balancer_v6: OnceLock<LoadBalancer>,
    has_choice: bool,
    labels: BTreeMap<String, String>,
    place: Arc<Place>,
}

/// Where this proxy runs and what it is, as far as balancing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) locality: Locality,
    pub(super) labels: BTreeMap<String, String>,
}

impl EndpointSet {
    pub(super) fn new(members: Members) -> Self {
        Self { members }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// All of them, ordered by uid.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.members.values()
    }

    /// One, by its uid.
    pub(crate) fn get(&self, uid: &str) -> Option<&Arc<Endpoint>> {
        self.members.get(uid)
    }
}

impl Cluster {
    /// Sweeps ejections, if outlier detection is on and its interval is over.
    pub(super) fn sweep(&self, now: Millis) {
        let Some(outlier) = &self.policy.outlier else { return };
        let last = Millis(self.swept.load(Relaxed));
        if now >= last.plus(outlier.interval) {
            self.swept.store(now.0, Relaxed);
            let states = self.balancer.members().iter().map(|member| &*member.state);
            mesh_core::outlier::sweep(states, self.balancer.pool(), now);
        }
    }

    /// Picks endpoints; of those that have addresses of both families, the one that the client dialled is used.
    pub(crate) fn balancer(&self, prefer_v6: bool) -> &LoadBalancer {
        if !(prefer_v6 && self.has_choice) {
            return &self.balancer;
        }
        self.balancer_v6.get_or_init(|| {
            let endpoints: Vec<_> = self.balancer.members().iter().map(|m| Arc::clone(&m.endpoint)).collect();
            let known = Known { pool: Arc::clone(self.balancer.pool()), before: Some(&self.balancer) };
            balancer(&endpoints, self.port, &self.labels, &self.policy, &self.place, true, &known)
        })
    }
}

/// Builds the clusters of a service: one per port, and one per subset and port. What was shared about those that were
/// there before is taken over.
pub(super) fn build(service: &Service, members: &Members, previous: Option<&Clusters>, place: &Arc<Place>) -> Clusters {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let endpoints: Vec<Arc<Endpoint>> = members.values().cloned().collect();
    let plain = service.ports.values().map(|port| (None, &NONE, port.number, &port.policy));
    let subsets = service.subsets.iter().flat_map(|(name, subset)| {
        let name: Arc<str> = name.as_str().into();
        subset.policies.iter().map(move |(port, policy)| (Some(Arc::clone(&name)), &subset.labels, *port, policy))
    });
    let mut clusters = Clusters::new();
    for (subset, labels, port, policy) in plain.chain(subsets) {
        let key = (subset.clone(), port);
        let before = previous.and_then(|clusters| clusters.get(&key));
        let pool = before.map(|before| Arc::clone(before.balancer.pool())).unwrap_or_default();
        let known = Known { pool, before: before.map(|before| &before.balancer) };
        let balancer = balancer(&endpoints, port, labels, policy, place, false, &known);
        let has_choice = balancer.members().iter().any(|member| {
            let addresses = &member.endpoint.addresses;
            addresses.iter().any(|ip| ip.is_ipv6()) && addresses.iter().any(|ip| ip.is_ipv4())
        });
        let cluster = Cluster {
            service: service.name.clone(),
            subset,
            port,
            policy: policy.clone(),
            budget: Budget::of(policy),
            circuit: before.map(|before| Arc::clone(&before.circuit)).unwrap_or_default(),
            swept: before.map(|before| Arc::clone(&before.swept)).unwrap_or_default(),
            balancer,
            balancer_v6: OnceLock::new(),
            has_choice,
            labels: labels.clone(),
            place: Arc::clone(place),
        };
        clusters.insert(key, Arc::new(cluster));
    }
    clusters
}

/// What earlier snapshots know.
struct Known<'b> {
    pool: Arc<Pool>,
    before: Option<&'b LoadBalancer>,
}

impl Known<'_> {
    fn state(&self, endpoint: &Arc<Endpoint>) -> Arc<EndpointState> {
        let state = |before: &LoadBalancer| {
            // Members are ordered by uid.
            let members = before.members();
            let at = members.binary_search_by(|member| member.endpoint.uid.cmp(&endpoint.uid)).ok()?;
            Some(Arc::clone(&members[at].state))
        };
        self.before.and_then(state).unwrap_or_default()
    }
}

fn balancer(
    endpoints: &[Arc<Endpoint>],
    port: u16,
    subset: &BTreeMap<String, String>,
    policy: &TrafficPolicy,
    place: &Place,
    prefer_v6: bool,
    known: &Known<'_>,
) -> LoadBalancer {
    let plan = Plan {
        endpoints,
        port,
        subset,
        policy,
        locality: &place.locality,
        labels: &place.labels,
        prefer_v6,
        seed: fastrand::u64(..),
    };
    LoadBalancer::build(&plan, Arc::clone(&known.pool), |endpoint| known.state(endpoint))
}
