//! Which endpoint gets a request.
//!
//! A [`LoadBalancer`] is built when configuration or endpoints change: members are filtered by subset, put into levels
//! by health and locality, and the tables of the algorithm are made. [`LoadBalancer::pick`] then only looks: it
//! allocates nothing and takes no lock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::{Balancer, Endpoint, Health, Locality, TrafficPolicy};
use crate::outlier::{EndpointState, Pool};
use crate::time::Millis;

mod hash;
mod level;
mod locality;

pub use hash::{RequestHash, cookie, hash_bytes, request_hash};
use level::{Algorithm, Level};

/// What a load balancer is built from.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The service's endpoints, ordered by uid (so that tables are equal on every proxy).
    pub endpoints: &'a [Arc<Endpoint>],
    /// The service's port.
    pub port: u16,
    /// Labels that members must have: those of the subset.
    pub subset: &'a BTreeMap<String, String>,
    /// How clients treat the port (of the subset).
    pub policy: &'a TrafficPolicy,
    /// Where this proxy runs.
    pub locality: &'a Locality,
    /// This proxy's labels (`failoverPriority`).
    pub labels: &'a BTreeMap<String, String>,
    /// Whether IPv6 addresses of endpoints are dialled where there is a choice: the family that the client dialled.
    pub prefer_v6: bool,
    /// Where taking turns begins: something random, so that proxies do not march in step.
    pub seed: u64,
}

/// An endpoint that can be picked.
#[derive(Debug)]
pub struct Member {
    /// What configuration says of it.
    pub endpoint: Arc<Endpoint>,
    /// What this proxy knows of it.
    pub state: Arc<EndpointState>,
    /// Where to dial: the workload's own port. `None`: it has a host name instead, to be resolved.
    pub address: Option<SocketAddr>,
    /// The workload's own port.
    pub port: u16,
}

/// The endpoints of one destination (service, port, subset), ready to pick from.
#[derive(Debug)]
pub struct LoadBalancer {
    members: Vec<Member>,
    /// Healthy ones by locality, nearest first, then draining ones alike. Unhealthy ones are in none.
    levels: SmallVec<[Level; 2]>,
    /// How many of the levels are of healthy members.
    healthy_levels: usize,
    pool: Arc<Pool>,
    outlier: bool,
    min_health_percent: u32,
    passthrough: bool,
}

/// The endpoint that was picked.
#[derive(Clone, Copy, Debug)]
pub struct Picked<'b> {
    /// It.
    pub member: &'b Member,
    /// Its index, for [`LoadBalancer::pick`]'s `tried`.
    pub index: u32,
    /// It had been tried before: there was no other.
    pub again: bool,
}

/// Why there is nothing to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// There is none at all (reason `no_endpoints`).
    None,
    /// All are unhealthy or ejected (reason `no_healthy_upstream`).
    NoneUsable,
}

impl NoEndpoint {
    /// What to call it.
    #[must_use]
    pub const fn reason(self) -> crate::reason::Reason {
        match self {
            Self::None => crate::reason::Reason::NoEndpoints,
            Self::NoneUsable => crate::reason::Reason::NoHealthyUpstream,
        }
    }
}

impl LoadBalancer {
    /// Builds it. `state` finds (or makes) what is known of an endpoint; `pool` is the destination's.
    #[must_use]
    pub fn build(
        plan: &Plan<'_>,
        pool: Arc<Pool>,
        mut state: impl FnMut(&Arc<Endpoint>) -> Arc<EndpointState>,
    ) -> Self {
        let mut members = Vec::with_capacity(plan.endpoints.len());
        for endpoint in plan.endpoints {
            let Some(port) = endpoint.ports.get(&plan.port).copied() else { continue };
            if !has_all(&endpoint.labels, plan.subset) {
                continue;
            }
            let wanted = |ip: &&std::net::IpAddr| ip.is_ipv6() == plan.prefer_v6;
            let ip = endpoint.addresses.iter().find(wanted).or_else(|| endpoint.addresses.first());
            let address = ip.map(|ip| SocketAddr::new(*ip, port));
            if address.is_none() && endpoint.hostname.is_none() {
                continue;
            }
            members.push(Member { endpoint: Arc::clone(endpoint), state: state(endpoint), address, port });
        }
        let places = locality::places(&members, plan);
        let algorithm = |members: &[Member], chosen: Vec<(u32, u32)>| Level::build(members, chosen, plan);
        let mut levels = SmallVec::new();
        let mut healthy_levels = 0;
        for health in [Health::Healthy, Health::Draining] {
            let mut by_priority: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
            for ((index, member), place) in (0_u32..).zip(&members).zip(&places) {
                if let (true, Some(place)) = (member.endpoint.health == health, place) {
                    by_priority.entry(place.priority).or_default().push((index, place.weight));
                }
            }
            levels.extend(by_priority.into_values().map(|chosen| algorithm(&members, chosen)));
            if health == Health::Healthy {
                healthy_levels = levels.len();
            }
        }
        Self {
            levels,
            healthy_levels,
            members,
            pool,
            outlier: plan.policy.outlier.is_some(),
            min_health_percent: plan.policy.outlier.map_or(0, |outlier| outlier.min_health_percent),
            passthrough: matches!(plan.policy.balancer, Balancer::Passthrough),
        }
    }

    /// All members, unhealthy ones included.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The destination's count of ejected endpoints.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Whether the address that the client dialled is to be used instead of picking.
    #[must_use]
    pub fn is_passthrough(&self) -> bool {
        self.passthrough
    }

    /// Whether picks depend on a hash of the request: the caller computes it with [`request_hash`].
    #[must_use]
    pub fn is_hashed(&self) -> bool {
        self.levels.first().is_some_and(|level| matches!(level.algorithm, Algorithm::Hash(_)))
    }

    /// Picks an endpoint. `hash` is the request's, where picks depend on it (none: at random); `tried` are the members
    /// that earlier attempts of the same request went to.
    ///
    /// # Errors
    /// There is nothing to pick: see [`NoEndpoint`].
    pub fn pick(
        &self,
        hash: Option<u64>,
        tried: &[u32],
        now: Millis,
        rng: &mut fastrand::Rng,
    ) -> Result<Picked<'_>, NoEndpoint> {
        if self.members.is_empty() {
            return Err(NoEndpoint::None);
        }
        let hash = hash.unwrap_or_else(|| rng.u64(..));
        let ejecting = self.outlier && self.pool.ejected() > 0;
        let (start, ejecting) = if ejecting { self.start(now, rng) } else { (0, false) };
        let usable = |index: u32| !ejecting || !self.members[index as usize].state.is_ejected(now);
        // Another attempt goes to another endpoint, if there is one that is usable.
        for again in [false, true] {
            if again && tried.is_empty() {
                break;
            }
            let fits = |index: u32| usable(index) && (again || !tried.contains(&index));
            let healthy = (start..self.healthy_levels).chain(0..start);
            let order = healthy.chain(self.healthy_levels..self.levels.len());
            let mut picked = order.filter_map(|level| self.levels[level].pick(&self.members, &fits, hash, rng));
            if let Some(index) = picked.next() {
                return Ok(Picked { member: &self.members[index as usize], index, again });
            }
        }
        Err(NoEndpoint::NoneUsable)
    }

    /// While endpoints are ejected: the level to begin with, and whether ejection is regarded at all.
    ///
    /// As in Envoy, a level takes all traffic until its usable share falls below 1/1.4; what it cannot take goes to the
    /// next. Below `min_health_percent`, ejection is disregarded.
    fn start(&self, now: Millis, rng: &mut fastrand::Rng) -> (usize, bool) {
        const OVERPROVISIONING_PERCENT: usize = 140;
        let healthy = &self.levels[..self.healthy_levels];
        let usable_in = |level: &Level| {
            level.indexes().filter(|index| !self.members[*index as usize].state.is_ejected(now)).count()
        };
        let total: usize = healthy.iter().map(Level::len).sum();
        let usable: usize = healthy.iter().map(usable_in).sum();
        if usable * 100 < total * self.min_health_percent as usize {
            return (0, false);
        }
        let mut drawn = rng.usize(0..100);
        for (index, level) in healthy.iter().enumerate() {
            let load = (usable_in(level) * OVERPROVISIONING_PERCENT / level.len()).min(100);
            if drawn < load {
                return (index, true);
            }
            drawn -= load;
        }
        (0, true)
    }
}

fn has_all(own: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| own.get(key) == Some(value))
}

#[cfg(test)]
mod tests;
