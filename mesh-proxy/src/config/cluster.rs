//! Endpoints, and what all workers share about them.
//!
//! Endpoints come and go one by one; what was learned about those that stay (health, ejection, load) must outlive the
//! snapshot in which they are listed. So each endpoint's shared state is one allocation of atomics that the next
//! snapshot takes over, keyed by service, subset, port and uid. Nothing in it is a lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::config::{Endpoint, ServiceName, TrafficPolicy};

/// The endpoints of a service, ordered by uid.
#[derive(Clone, Default)]
pub(crate) struct EndpointSet {
    members: Arc<BTreeMap<Arc<str>, Arc<Endpoint>>>,
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
    /// The endpoints that have the port and the subset's labels, in the order of their uids.
    pub(crate) members: Vec<Member>,
    /// Limits and budgets of the destination as a whole; survives snapshots.
    pub(crate) shared: Arc<ClusterShared>,
}

/// An endpoint of a cluster.
#[derive(Clone)]
pub(crate) struct Member {
    /// The endpoint.
    pub(crate) endpoint: Arc<Endpoint>,
    /// The endpoint's own port for the cluster's port.
    pub(crate) port: u16,
    /// What all workers share about it; survives snapshots.
    pub(crate) shared: Arc<MemberShared>,
}

/// What all workers share about a destination. Atomics only.
#[derive(Default)]
pub(crate) struct ClusterShared {}

/// What all workers share about an endpoint of a destination. Atomics only.
#[derive(Default)]
pub(crate) struct MemberShared {}

impl EndpointSet {
    pub(super) fn new(members: Arc<BTreeMap<Arc<str>, Arc<Endpoint>>>) -> Self {
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
