//! The indexes, and how objects come into them and go out again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mesh_crd::kubernetes::Service;
use mesh_crd::{AnyObject, Object, ObjectKey};

use super::Objects;
use super::parts::{
    entry_endpoint_addresses, entry_hosts, entry_networks, indexed_pod_addresses, is_single, parse_address, pod_uid,
    service_addresses, slice_addresses, slice_pods, slice_service,
};

/// Something that defines a service: a Kubernetes Service or a ServiceEntry. Services sort first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Definer {
    Service(ObjectKey),
    Entry(ObjectKey),
}
/// Ways to find objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Host (also `*.suffix`) → what defines it.
    pub(crate) definers: Multimap<String, Definer>,
    /// Service address → what has it.
    pub(crate) addresses: Multimap<IpAddr, Definer>,
    /// Range of service addresses → what has it.
    pub(crate) networks: Multimap<IpNet, Definer>,
    /// Pod address → pods, host-network pods and ended pods left out.
    pub(crate) pods_by_ip: Multimap<IpAddr, ObjectKey>,
    /// Uid → pod.
    pub(crate) pods_by_uid: Multimap<String, ObjectKey>,
    /// Address → WorkloadEntries.
    pub(crate) workloads_by_ip: Multimap<IpAddr, ObjectKey>,
    /// Address → ServiceEntries that list it as an endpoint.
    pub(crate) endpoints_by_ip: Multimap<IpAddr, ObjectKey>,
    /// Service → its EndpointSlices.
    pub(crate) slices: Multimap<ObjectKey, ObjectKey>,
    /// Pod → EndpointSlices that name it.
    pub(crate) members_by_pod: Multimap<ObjectKey, ObjectKey>,
    /// Address → EndpointSlices that list it.
    pub(crate) members_by_ip: Multimap<IpAddr, ObjectKey>,
    /// Host pattern → VirtualServices for it.
    pub(crate) routes: Multimap<String, ObjectKey>,
    /// Host → VirtualServices that send traffic there.
    pub(crate) targets: Multimap<String, ObjectKey>,
    /// Host pattern → DestinationRules for it.
    pub(crate) rules: Multimap<String, ObjectKey>,
}

/// Several values per key; keys without values do not exist.
pub(crate) type Multimap<K, V> = BTreeMap<K, BTreeSet<V>>;

fn put<K: Ord, V: Ord>(map: &mut Multimap<K, V>, key: K, value: V) {
    map.entry(key).or_default().insert(value);
}

fn take<K: Ord, V: Ord>(map: &mut Multimap<K, V>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

impl Objects {
    /// Takes an object in; false for kinds that the mesh does not read.
    pub(super) fn insert(&mut self, object: AnyObject) -> bool {
        let key = object.key();
        match object {
            AnyObject::Namespace(object) => drop(self.namespaces.insert(key, Arc::from(object))),
            AnyObject::ServiceAccount(object) => drop(self.service_accounts.insert(key, Arc::from(object))),
            AnyObject::Gateway(object) => drop(self.gateways.insert(key, Arc::from(object))),
            AnyObject::Sidecar(object) => drop(self.sidecars.insert(key, Arc::from(object))),
            AnyObject::PeerAuthentication(object) => drop(self.peer_authentications.insert(key, Arc::from(object))),
            AnyObject::AuthorizationPolicy(object) => drop(self.authorization_policies.insert(key, Arc::from(object))),
            AnyObject::RequestAuthentication(object) => {
                drop(self.request_authentications.insert(key, Arc::from(object)));
            }
            AnyObject::Telemetry(object) => drop(self.telemetries.insert(key, Arc::from(object))),
            AnyObject::ConfigMap(object) => {
                if self.is_mesh_config(&key) {
                    self.read_mesh_config(Some(&object));
                }
                self.config_maps.insert(key, Arc::from(object));
            }
            AnyObject::Service(object) => self.index_service(key, Arc::from(object)),
            AnyObject::EndpointSlice(object) => {
                if let Some(service) = slice_service(&object) {
                    put(&mut self.index.slices, service, key.clone());
                }
                for pod in slice_pods(&object) {
                    put(&mut self.index.members_by_pod, pod, key.clone());
                }
                for ip in slice_addresses(&object) {
                    put(&mut self.index.members_by_ip, ip, key.clone());
                }
                self.slices.insert(key, Arc::from(object));
            }
            AnyObject::Pod(object) => {
                for ip in indexed_pod_addresses(&object) {
                    put(&mut self.index.pods_by_ip, ip, key.clone());
                }
                put(&mut self.index.pods_by_uid, pod_uid(&object), key.clone());
                self.pods.insert(key, Arc::from(object));
            }
            AnyObject::VirtualService(object) => {
                for host in self.route_hosts(&object) {
                    put(&mut self.index.routes, host, key.clone());
                }
                for host in self.route_targets(&object) {
                    put(&mut self.index.targets, host, key.clone());
                }
                self.virtual_services.insert(key, Arc::from(object));
            }
            AnyObject::DestinationRule(object) => {
                let host = self.rule_host(&object);
                put(&mut self.index.rules, host, key.clone());
                self.destination_rules.insert(key, Arc::from(object));
            }
            AnyObject::ServiceEntry(object) => {
                let definer = Definer::Entry(key.clone());
                for host in entry_hosts(&object) {
                    put(&mut self.index.definers, host, definer.clone());
                }
                for network in entry_networks(&object) {
                    match is_single(network) {
                        true => put(&mut self.index.addresses, network.addr(), definer.clone()),
                        false => put(&mut self.index.networks, network, definer.clone()),
                    }
                }
                for ip in entry_endpoint_addresses(&object) {
                    put(&mut self.index.endpoints_by_ip, ip, key.clone());
                }
                self.service_entries.insert(key, Arc::from(object));
            }
            AnyObject::WorkloadEntry(object) => {
                if let Some(ip) = parse_address(&object.spec.address) {
                    put(&mut self.index.workloads_by_ip, ip, key.clone());
                }
                self.workload_entries.insert(key, Arc::from(object));
            }
            AnyObject::Other(_) => return false,
        }
        true
    }

    fn index_service(&mut self, key: ObjectKey, object: Arc<Object<Service>>) {
        let definer = Definer::Service(key.clone());
        let host = self.service_host(&key);
        put(&mut self.index.definers, host, definer.clone());
        for ip in service_addresses(&object) {
            put(&mut self.index.addresses, ip, definer.clone());
        }
        self.services.insert(key, object);
    }

    /// Takes an object out, if it is there.
    pub(super) fn delete(&mut self, kind: &str, key: &ObjectKey) {
        match kind {
            "Namespace" => drop(self.namespaces.remove(key)),
            "ServiceAccount" => drop(self.service_accounts.remove(key)),
            "Gateway" => drop(self.gateways.remove(key)),
            "Sidecar" => drop(self.sidecars.remove(key)),
            "PeerAuthentication" => drop(self.peer_authentications.remove(key)),
            "AuthorizationPolicy" => drop(self.authorization_policies.remove(key)),
            "RequestAuthentication" => drop(self.request_authentications.remove(key)),
            "Telemetry" => drop(self.telemetries.remove(key)),
            "ConfigMap" => {
                let removed = self.config_maps.remove(key);
                if removed.is_some() && self.is_mesh_config(key) {
                    self.read_mesh_config(None);
                }
            }
            "Service" => {
                let Some(object) = self.services.remove(key) else { return };
                let definer = Definer::Service(key.clone());
                let host = self.service_host(key);
                take(&mut self.index.definers, &host, &definer);
                for ip in service_addresses(&object) {
                    take(&mut self.index.addresses, &ip, &definer);
                }
            }
            "EndpointSlice" => {
                let Some(object) = self.slices.remove(key) else { return };
                if let Some(service) = slice_service(&object) {
                    take(&mut self.index.slices, &service, key);
                }
                for pod in slice_pods(&object) {
                    take(&mut self.index.members_by_pod, &pod, key);
                }
                for ip in slice_addresses(&object) {
                    take(&mut self.index.members_by_ip, &ip, key);
                }
            }
            "Pod" => {
                let Some(object) = self.pods.remove(key) else { return };
                for ip in indexed_pod_addresses(&object) {
                    take(&mut self.index.pods_by_ip, &ip, key);
                }
                take(&mut self.index.pods_by_uid, &pod_uid(&object), key);
            }
            "VirtualService" => {
                let Some(object) = self.virtual_services.remove(key) else { return };
                for host in self.route_hosts(&object) {
                    take(&mut self.index.routes, &host, key);
                }
                for host in self.route_targets(&object) {
                    take(&mut self.index.targets, &host, key);
                }
            }
            "DestinationRule" => {
                let Some(object) = self.destination_rules.remove(key) else { return };
                let host = self.rule_host(&object);
                take(&mut self.index.rules, &host, key);
            }
            "ServiceEntry" => {
                let Some(object) = self.service_entries.remove(key) else { return };
                let definer = Definer::Entry(key.clone());
                for host in entry_hosts(&object) {
                    take(&mut self.index.definers, &host, &definer);
                }
                for network in entry_networks(&object) {
                    take(&mut self.index.addresses, &network.addr(), &definer);
                    take(&mut self.index.networks, &network, &definer);
                }
                for ip in entry_endpoint_addresses(&object) {
                    take(&mut self.index.endpoints_by_ip, &ip, key);
                }
            }
            "WorkloadEntry" => {
                let Some(object) = self.workload_entries.remove(key) else { return };
                if let Some(ip) = parse_address(&object.spec.address) {
                    take(&mut self.index.workloads_by_ip, &ip, key);
                }
            }
            _ => {}
        }
    }
}
