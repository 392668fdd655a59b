//! Which resources a change of one object can touch, so that only those are compiled again.
//!
//! The answer may be too wide, never too narrow: a property test compares it with compiling everything. It does not
//! depend on who asks; a resource is compiled again for every namespace that holds it, and equal bytes go nowhere.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_core::config::ResourceName;
use mesh_crd::ObjectKey;
use mesh_crd::networking::ServiceEntry;

use crate::hosts;
use crate::objects::{
    self, Objects, entry_hosts, entry_networks, parse_address, pod_addresses, pod_uid, selects, service_addresses,
};
use crate::settings::is_listed;

/// A set of keys, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope<K> {
    /// These.
    Some(BTreeSet<K>),
    /// Every one.
    All,
}

impl<K: Ord> Default for Scope<K> {
    fn default() -> Self {
        Scope::Some(BTreeSet::new())
    }
}

impl<K: Ord> Scope<K> {
    fn insert(&mut self, key: K) {
        if let Scope::Some(keys) = self {
            keys.insert(key);
        }
    }

    fn extend(&mut self, keys: impl IntoIterator<Item = K>) {
        keys.into_iter().for_each(|key| self.insert(key));
    }

    fn merge(&mut self, other: Scope<K>) {
        match other {
            Scope::All => *self = Scope::All,
            Scope::Some(keys) => self.extend(keys),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Scope::Some(keys) if keys.is_empty())
    }
}

/// The resources that a change can touch. Services, endpoints, routes and hosts are kept by host name; a wildcard in
/// a set stands for every host that it covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// [`ResourceName::MeshSettings`], of every namespace.
    pub settings: bool,
    /// [`ResourceName::Inbound`], by uid.
    pub inbound: Scope<String>,
    /// [`ResourceName::Address`], by address.
    pub addresses: Scope<IpAddr>,
    /// [`ResourceName::Address`], by range.
    pub networks: BTreeSet<IpNet>,
    /// [`ResourceName::Service`], by host.
    pub services: Scope<String>,
    /// [`ResourceName::Endpoints`] and its members, by host.
    pub endpoints: Scope<String>,
    /// [`ResourceName::RouteTable`], by host.
    pub routes: Scope<String>,
    /// [`ResourceName::Host`], by full host.
    pub hosts: Scope<String>,
}

impl Affected {
    /// Everything.
    pub fn all() -> Affected {
        Affected {
            settings: true,
            inbound: Scope::All,
            addresses: Scope::All,
            networks: BTreeSet::new(),
            services: Scope::All,
            endpoints: Scope::All,
            routes: Scope::All,
            hosts: Scope::All,
        }
    }

    /// Whether nothing at all is touched.
    pub fn is_empty(&self) -> bool {
        !self.settings
            && self.inbound.is_empty()
            && self.addresses.is_empty()
            && self.networks.is_empty()
            && [&self.services, &self.endpoints, &self.routes, &self.hosts].iter().all(|scope| scope.is_empty())
    }

    /// Adds what another change touches.
    pub fn merge(&mut self, other: Affected) {
        self.settings |= other.settings;
        self.inbound.merge(other.inbound);
        self.addresses.merge(other.addresses);
        self.networks.extend(other.networks);
        self.services.merge(other.services);
        self.endpoints.merge(other.endpoints);
        self.routes.merge(other.routes);
        self.hosts.merge(other.hosts);
    }

    /// Whether a resource must be compiled again.
    pub fn touches(&self, name: &ResourceName) -> bool {
        match name {
            ResourceName::MeshSettings => self.settings,
            ResourceName::Inbound(uid) => match &self.inbound {
                Scope::All => true,
                Scope::Some(uids) => uids.contains(uid.as_ref()),
            },
            ResourceName::Address(ip) => match &self.addresses {
                Scope::All => true,
                Scope::Some(ips) => ips.contains(ip) || self.networks.iter().any(|network| network.contains(ip)),
            },
            ResourceName::Service(service) => host_touched(&self.services, &service.host),
            ResourceName::Endpoint(service, _) | ResourceName::Endpoints(service) => {
                host_touched(&self.endpoints, &service.host)
            }
            ResourceName::RouteTable(service) => host_touched(&self.routes, &service.host),
            ResourceName::Host(name, _) => host_touched(&self.hosts, name) || covers_short(&self.hosts, name),
        }
    }

    /// A host that begins or ceases to exist, or changes in what defines it.
    fn host(&mut self, host: &str) {
        for scope in [&mut self.services, &mut self.endpoints, &mut self.routes, &mut self.hosts] {
            scope.insert(host.to_owned());
        }
    }
}

/// Whether a host, perhaps a short one, is in the set, or covered by a wildcard of the set.
fn host_touched(scope: &Scope<String>, name: &str) -> bool {
    let Scope::Some(set) = scope else { return true };
    let is_start_of_one = || {
        let start = format!("{name}.");
        set.range(start.clone()..).next().is_some_and(|host| host.starts_with(&start))
    };
    hosts::patterns(name).any(|pattern| set.contains(&pattern)) || is_start_of_one()
}

/// Whether a wildcard of the set may cover what a short name is completed to (`a.one` is in `*.one.svc.cluster.local`).
fn covers_short(scope: &Scope<String>, name: &str) -> bool {
    let Scope::Some(set) = scope else { return true };
    name.matches('.').count() <= hosts::SHORT_DOTS_MAX
        && set.range("*".to_owned()..).next().is_some_and(|host| host.starts_with('*'))
}

impl Objects {
    /// What depends on the object `kind` `key` as it is now; nothing where it does not exist.
    pub(crate) fn touched(&self, kind: &str, key: &ObjectKey) -> Affected {
        let mut affected = Affected::default();
        match kind {
            "ConfigMap" if self.is_mesh_config(key) && self.config_maps.contains_key(key) => return Affected::all(),
            "Service" if self.services.contains_key(key) => self.service_touches(key, &mut affected),
            "EndpointSlice" => {
                let service = self.slices.get(key).and_then(|slice| objects::slice_service(slice));
                affected.endpoints.extend(service.map(|service| self.service_host(&service)));
            }
            "Pod" => self.pod_touches(key, true, &mut affected),
            "VirtualService" => {
                if let Some(object) = self.virtual_services.get(key) {
                    affected.routes.extend(self.route_hosts(object));
                    affected.hosts.extend(self.route_hosts(object));
                    // A host that only has routes makes clients ask by name.
                    affected.settings = true;
                }
            }
            "DestinationRule" => {
                let object = self.destination_rules.get(key);
                affected.services.extend(object.map(|object| self.rule_host(object)));
            }
            "ServiceEntry" => {
                if let Some(object) = self.service_entries.get(key) {
                    self.entry_touches(&object.spec, entry_hosts(object), &mut affected);
                    affected.networks.extend(entry_networks(object));
                    for pod in self.pods_of(&key.namespace) {
                        let selector = object.spec.workload_selector.as_ref();
                        if selector.is_some_and(|selector| selects(&selector.labels, &pod.meta.labels)) {
                            self.pod_touches(&pod.key(), false, &mut affected);
                        }
                    }
                }
            }
            "WorkloadEntry" => {
                if let Some(object) = self.workload_entries.get(key) {
                    affected.settings = true;
                    affected.addresses.extend(parse_address(&object.spec.address));
                    for entry in self.entries_of(&key.namespace) {
                        affected.endpoints.extend(entry_hosts(entry));
                    }
                }
            }
            "Sidecar" if self.sidecars.contains_key(key) => {
                affected.settings = true;
                affected.addresses = Scope::All;
                affected.services = Scope::All;
                affected.routes = Scope::All;
                affected.hosts = Scope::All;
            }
            "PeerAuthentication" if self.peer_authentications.contains_key(key) => {
                self.policy_touches(key, true, &mut affected);
            }
            "AuthorizationPolicy" if self.authorization_policies.contains_key(key) => {
                self.policy_touches(key, false, &mut affected);
            }
            "Telemetry" if self.telemetries.contains_key(key) => self.policy_touches(key, false, &mut affected),
            _ => {}
        }
        affected
    }

    fn service_touches(&self, key: &ObjectKey, affected: &mut Affected) {
        let Some(service) = self.services.get(key) else { return };
        let host = self.service_host(key);
        // A host that only had routes may now have an address, or the other way round.
        let is_routed = hosts::patterns(&host).any(|pattern| self.index.routes.contains_key(&pattern));
        let is_alias = service.spec.spec.type_ == "ExternalName";
        affected.settings |= is_routed || is_alias || service_addresses(service).into_iter().any(is_listed);
        affected.host(&host);
        affected.addresses.extend(service_addresses(service));
        self.targets_touched(&host, affected);
        for pod in self.pods_of(&key.namespace) {
            let selector = &service.spec.spec.selector;
            if !selector.is_empty() && selects(selector, &pod.meta.labels) {
                affected.inbound.insert(pod_uid(pod));
                affected.addresses.extend(pod_addresses(pod));
                // Which of its ports are plaintext is known by the services that name them.
                self.memberships_touched(&pod.key(), affected);
            }
        }
    }

    fn entry_touches(&self, entry: &ServiceEntry, hosts: Vec<String>, affected: &mut Affected) {
        affected.settings = true;
        for host in hosts {
            affected.host(&host);
            self.targets_touched(&host, affected);
        }
        affected.addresses.extend(entry.endpoints.iter().filter_map(|endpoint| parse_address(&endpoint.address)));
        if entry.workload_selector.is_some() {
            affected.addresses.extend(self.index.workloads_by_ip.keys().copied());
        }
    }

    /// Routes that send traffic to `host`: they name the service, which may now be another object's.
    fn targets_touched(&self, host: &str, affected: &mut Affected) {
        let senders = match host.starts_with('*') {
            true => self.index.targets.values().flatten().collect::<BTreeSet<_>>(),
            false => self.index.targets.get(host).into_iter().flatten().collect(),
        };
        for object in senders.into_iter().filter_map(|key| self.virtual_services.get(key)) {
            affected.routes.extend(self.route_hosts(object));
        }
    }

    fn pod_touches(&self, key: &ObjectKey, settings: bool, affected: &mut Affected) {
        let Some(pod) = self.pods.get(key) else { return };
        affected.settings |= settings && pod_addresses(pod).into_iter().any(is_listed);
        affected.inbound.insert(pod_uid(pod));
        affected.addresses.extend(pod_addresses(pod));
        self.memberships_touched(key, affected);
    }

    /// The endpoint collections in which a pod is, or may be.
    fn memberships_touched(&self, key: &ObjectKey, affected: &mut Affected) {
        let Some(pod) = self.pods.get(key) else { return };
        let by_name = self.index.members_by_pod.get(key).into_iter().flatten();
        let by_address = pod_addresses(pod).into_iter().filter_map(|ip| self.index.members_by_ip.get(&ip)).flatten();
        for slice in by_name.chain(by_address).filter_map(|slice| self.slices.get(slice)) {
            affected.endpoints.extend(objects::slice_service(slice).map(|service| self.service_host(&service)));
        }
        for entry in self.entries_of(&key.namespace) {
            let selector = entry.spec.workload_selector.as_ref();
            if selector.is_some_and(|selector| selects(&selector.labels, &pod.meta.labels)) {
                affected.endpoints.extend(entry_hosts(entry));
            }
        }
        // Whoever lists the address speaks to it as to the pod that has it.
        for ip in pod_addresses(pod) {
            let listing = self.index.endpoints_by_ip.get(&ip).into_iter().flatten();
            let workloads = self.index.workloads_by_ip.get(&ip).into_iter().flatten();
            let entries = listing.filter_map(|key| self.service_entries.get(key));
            for entry in entries.chain(workloads.flat_map(|key| self.entries_of(&key.namespace))) {
                affected.endpoints.extend(entry_hosts(entry));
            }
        }
    }

    /// A policy of the pod's own side: it touches the pods of its namespace, or all pods from the root namespace.
    fn policy_touches(&self, key: &ObjectKey, endpoints: bool, affected: &mut Affected) {
        if key.namespace == self.options.root_namespace {
            affected.inbound = Scope::All;
            if endpoints {
                affected.addresses = Scope::All;
                affected.endpoints = Scope::All;
            }
            return;
        }
        for pod in self.pods_of(&key.namespace) {
            affected.inbound.insert(pod_uid(pod));
            if endpoints {
                affected.addresses.extend(pod_addresses(pod));
                self.memberships_touched(&pod.key(), affected);
            }
        }
    }
}
