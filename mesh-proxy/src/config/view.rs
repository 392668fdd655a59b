//! What the data path reads: one immutable snapshot of everything that is known.
//!
//! A connection or request loads a [`View`] once and keeps it to its end. One writer (`store`) builds the next and swaps
//! a pointer; readers never lock and never wait. What is in a view is complete: an answer appears in it only when
//! everything that it leads to (services, their endpoints, their routes, and what those name) is known too, so that the
//! data path never meets half of a configuration. What is not in it is asked for through [`super::Discovery`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_core::authz::CompiledPolicies;
use mesh_core::config::{AddressAnswer, HostAnswer, Inbound, MeshSettings, RouteTable, Service, ServiceName};
use mesh_core::route::CompiledRoutes;
use mesh_core::time::Millis;

use super::cluster::{Cluster, Clusters, EndpointSet};
use super::keys::KeyUsage;

/// The current view, shared by all workers.
#[derive(Clone)]
pub(crate) struct Views(Arc<ArcSwap<View>>);

/// A host name and the port on which the client spoke.
pub(super) type HostKey = (Arc<str>, u16);

/// Everything that is known at one moment. See the module's documentation.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// Counts up with every change; for admin and tests.
    pub(super) generation: u64,
    pub(super) settings: Option<Arc<MeshSettings>>,
    pub(super) inbound: Option<Arc<InboundView>>,
    pub(super) addresses: Arc<HashMap<IpAddr, Held<AddressAnswer>>>,
    pub(super) hosts: Arc<HashMap<HostKey, Held<HostAnswer>>>,
    pub(super) services: Arc<HashMap<ServiceName, Arc<ServiceView>>>,
    pub(super) routes: Arc<HashMap<ServiceName, Arc<RoutesView>>>,
}

/// An answer to a key, with what keeps the key from being forgotten.
#[derive(Clone)]
pub(crate) struct Held<T> {
    /// The answer.
    pub(crate) answer: T,
    pub(super) usage: Arc<KeyUsage>,
}

/// A service with its endpoints, as seen from this proxy's namespace.
pub(crate) struct ServiceView {
    /// The service; `None`: the control plane says that there is none of this name (visible to us).
    pub(crate) service: Option<Arc<Service>>,
    /// Its endpoints; empty where it has none or needs none.
    pub(crate) endpoints: EndpointSet,
    /// What requests are balanced over, by subset and service port. Complete for all ports and subsets.
    pub(super) clusters: Clusters,
}

/// A route table, compiled for this workload's labels.
pub(crate) struct RoutesView {
    /// As it was sent, for admin.
    pub(crate) table: Arc<RouteTable>,
    /// As it is asked.
    pub(crate) compiled: CompiledRoutes,
}

/// What this workload accepts, compiled.
pub(crate) struct InboundView {
    /// As it was sent.
    pub(crate) inbound: Arc<Inbound>,
    /// Its policies, as they are asked.
    pub(crate) policies: CompiledPolicies,
}

impl InboundView {
    pub(super) fn compile(inbound: Arc<Inbound>, settings: Option<&MeshSettings>) -> Self {
        let mut trust_domains = vec![inbound.identity.trust_domain().to_owned()];
        if let Some(settings) = settings {
            trust_domains.push(settings.trust_domain.clone());
            trust_domains.extend(settings.trust_domain_aliases.iter().cloned());
        }
        trust_domains.dedup();
        let (policies, problems) = CompiledPolicies::compile(&inbound.policies, &trust_domains);
        if !problems.is_empty() {
            tracing::warn!(
                problems = problems.join("; "),
                "terms of authorization policies do not compile; they count as unknown"
            );
        }
        Self { inbound, policies }
    }
}

impl Views {
    pub(super) fn new(view: View) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(view)))
    }

    /// The view of now. Load it once per connection or request and keep it.
    pub(crate) fn load(&self) -> Arc<View> {
        self.0.load_full()
    }

    pub(super) fn store(&self, view: View) {
        self.0.store(Arc::new(view));
    }
}

impl View {
    /// Which change of configuration this is.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What holds for the whole mesh. `None` only before the proxy is ready.
    pub(crate) fn settings(&self) -> Option<&Arc<MeshSettings>> {
        self.settings.as_ref()
    }

    /// What this workload accepts and who it is. `None` only before the proxy is ready: refuse.
    pub(crate) fn inbound(&self) -> Option<&Arc<InboundView>> {
        self.inbound.as_ref()
    }

    /// What is behind an address. `None` is not an answer: ask [`super::Discovery::resolve_address`]. Using the answer
    /// keeps the key from being forgotten for ten minutes; hold [`Held::hold`] as long as a connection lives.
    pub(crate) fn address(&self, address: IpAddr) -> Option<&Held<AddressAnswer>> {
        self.addresses.get(&address).inspect(|held| held.usage.touch())
    }

    /// What a host name (lower case, no port, no trailing dot) means on a port. `None` is not an answer: ask
    /// [`super::Discovery::resolve_host`].
    pub(crate) fn host(&self, name: &Arc<str>, port: u16) -> Option<&Held<HostAnswer>> {
        self.hosts.get(&(Arc::clone(name), port)).inspect(|held| held.usage.touch())
    }

    /// A service that an answer or a route names. `None` and `service: None` both mean `destination_missing`.
    pub(crate) fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceView>> {
        self.services.get(name)
    }

    /// The routes of a host; there are some (perhaps `implicit`) for every service that an answer names.
    pub(crate) fn routes(&self, name: &ServiceName) -> Option<&Arc<RoutesView>> {
        self.routes.get(name)
    }

    /// The endpoints of a service that an answer or a route names.
    pub(crate) fn endpoints(&self, name: &ServiceName) -> Option<&EndpointSet> {
        self.services.get(name).map(|service| &service.endpoints)
    }

    /// What requests to a destination are balanced over: `None` where the service, the subset or the port does not exist
    /// (503, reason `destination_missing`).
    pub(crate) fn cluster(&self, service: &ServiceName, subset: Option<&str>, port: u16) -> Option<&Arc<Cluster>> {
        self.services.get(service)?.cluster(subset, port)
    }

    /// Corrects what is remembered of ejected endpoints, for the destinations whose interval is over. One worker does it
    /// every second or so; `now` is the workers' time.
    pub(crate) fn sweep_outliers(&self, now: Millis) {
        self.services.values().flat_map(|service| service.clusters.values()).for_each(|cluster| cluster.sweep(now));
    }

    /// All address keys, for admin.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&IpAddr, &AddressAnswer)> {
        self.addresses.iter().map(|(address, held)| (address, &held.answer))
    }

    /// All host keys, for admin.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&(Arc<str>, u16), &HostAnswer)> {
        self.hosts.iter().map(|(key, held)| (key, &held.answer))
    }

    /// All services, for admin.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&ServiceName, &Arc<ServiceView>)> {
        self.services.iter()
    }

    /// All route tables, for admin.
    pub(crate) fn route_tables(&self) -> impl Iterator<Item = (&ServiceName, &Arc<RoutesView>)> {
        self.routes.iter()
    }
}

impl ServiceView {
    /// What requests to a subset (or, without one, to the service itself) are balanced over.
    pub(crate) fn cluster(&self, subset: Option<&str>, port: u16) -> Option<&Arc<Cluster>> {
        // The map is small; the key's `Arc` would have to be made for a look-up by hash.
        self.clusters.iter().find(|((s, p), _)| *p == port && s.as_deref() == subset).map(|(_, cluster)| cluster)
    }
}

impl<T> Held<T> {
    /// Keeps the key (and with it everything that it leads to) for as long as the guard lives: hold one per connection
    /// or pool entry.
    pub(crate) fn hold(&self) -> super::keys::KeyHold {
        KeyUsage::hold(&self.usage)
    }
}
