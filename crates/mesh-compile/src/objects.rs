//! The objects that exist now, and the indexes by which a compile finds what it needs without looking at the rest.
//!
//! Nothing here remembers an order of arrival or a time: what is compiled is a function of the present objects only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use mesh_core::config::Origin;
use mesh_core::identity::TrustDomain;
use mesh_crd::kubernetes::{ConfigMap, EndpointSlice, Namespace, Pod, Service, ServiceAccount};
use mesh_crd::networking::{DestinationRule, Gateway, ServiceEntry, Sidecar, VirtualService, WorkloadEntry};
use mesh_crd::security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use mesh_crd::telemetry::Telemetry;
use mesh_crd::{AnyObject, Issues, Kind, MeshConfig, Object, ObjectKey, labels, names, parse_mesh_config};

use crate::change::Affected;
use crate::hosts;

/// What the installation fixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// The cluster's name, for telemetry.
    pub cluster_id: String,
    /// The namespace of mesh-wide policy.
    pub root_namespace: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            trust_domain: TrustDomain::parse(names::TRUST_DOMAIN).expect("invariant: the default is a trust domain"),
            cluster_domain: names::CLUSTER_DOMAIN.to_owned(),
            cluster_id: names::CLUSTER_ID.to_owned(),
            root_namespace: names::MESH_NAMESPACE.to_owned(),
        }
    }
}

/// All objects of one kind.
pub type Store<T> = BTreeMap<ObjectKey, Arc<Object<T>>>;

/// Something that defines a service: a Kubernetes Service or a ServiceEntry. Services sort first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Definer {
    Service(ObjectKey),
    Entry(ObjectKey),
}

/// The objects that exist now.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub(crate) options: Options,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) services: Store<Service>,
    pub(crate) slices: Store<EndpointSlice>,
    pub(crate) pods: Store<Pod>,
    pub(crate) service_accounts: Store<ServiceAccount>,
    pub(crate) config_maps: Store<ConfigMap>,
    pub(crate) virtual_services: Store<VirtualService>,
    pub(crate) destination_rules: Store<DestinationRule>,
    pub(crate) service_entries: Store<ServiceEntry>,
    pub(crate) workload_entries: Store<WorkloadEntry>,
    pub(crate) gateways: Store<Gateway>,
    pub(crate) sidecars: Store<Sidecar>,
    pub(crate) peer_authentications: Store<PeerAuthentication>,
    pub(crate) authorization_policies: Store<AuthorizationPolicy>,
    pub(crate) request_authentications: Store<RequestAuthentication>,
    pub(crate) telemetries: Store<Telemetry>,
    pub(crate) mesh: MeshConfig,
    pub(crate) mesh_issues: Issues,
    pub(crate) mesh_error: Option<String>,
    pub(crate) index: Index,
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

/// Age first, then namespace and name: who wins where two want the same. Objects without a creation time count as
/// younger than all that have one.
pub(crate) fn seniority<T: Kind>(object: &Object<T>) -> (bool, Option<Timestamp>, &str, &str) {
    let created = object.meta.creation_timestamp;
    (created.is_none(), created, &object.meta.namespace, &object.meta.name)
}

/// The author's object, as compiled resources carry it.
pub(crate) fn origin<T: Kind>(object: &Object<T>) -> Origin {
    Origin {
        kind: T::KIND.to_owned(),
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
        generation: u64::try_from(object.meta.generation).unwrap_or(0),
    }
}

impl Objects {
    /// An empty world.
    pub fn new(options: Options) -> Objects {
        Objects { options, ..Objects::default() }
    }

    /// What the installation fixes.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The mesh-wide settings as read.
    pub fn mesh_config(&self) -> &MeshConfig {
        &self.mesh
    }

    /// Adds or replaces an object and says which resources may have changed by it. Kinds that the mesh does not read
    /// change nothing.
    pub fn apply(&mut self, object: AnyObject) -> Affected {
        if matches!(object, AnyObject::Other(_)) {
            return Affected::default();
        }
        let (kind, key) = (object.kind().to_owned(), object.key());
        let mut affected = self.remove(&kind, &key);
        if self.insert(object) {
            affected.merge(self.touched(&kind, &key));
        }
        affected
    }

    /// Removes an object, if it is there, and says which resources may have changed by it.
    pub fn remove(&mut self, kind: &str, key: &ObjectKey) -> Affected {
        let affected = self.touched(kind, key);
        self.delete(kind, key);
        affected
    }

    fn insert(&mut self, object: AnyObject) -> bool {
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
                if let Ok(ip) = object.spec.address.parse() {
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

    fn delete(&mut self, kind: &str, key: &ObjectKey) {
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
                if let Ok(ip) = object.spec.address.parse() {
                    take(&mut self.index.workloads_by_ip, &ip, key);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn is_mesh_config(&self, key: &ObjectKey) -> bool {
        key.namespace == self.options.root_namespace && key.name == names::MESH_CONFIG_MAP
    }

    /// Takes the settings from the ConfigMap. A text that is no YAML leaves the defaults, and is reported.
    fn read_mesh_config(&mut self, map: Option<&Object<ConfigMap>>) {
        (self.mesh, self.mesh_issues, self.mesh_error) = (MeshConfig::default(), Issues::default(), None);
        let Some(text) = map.and_then(|map| map.spec.data.get(names::MESH_CONFIG_KEY)) else { return };
        match parse_mesh_config(text) {
            Ok((config, issues)) => (self.mesh, self.mesh_issues) = (config, issues),
            Err(error) => self.mesh_error = Some(error.message),
        }
    }

    /// The full host of a Kubernetes Service.
    pub(crate) fn service_host(&self, key: &ObjectKey) -> String {
        hosts::service_host(&key.name, &key.namespace, &self.options.cluster_domain)
    }

    /// A host of a configuration in `namespace`, completed.
    pub(crate) fn expand(&self, host: &str, namespace: &str) -> String {
        hosts::expand(host, namespace, &self.options.cluster_domain)
    }

    /// The hosts that a VirtualService routes for sidecars, completed; empty where it is for gateways only.
    pub(crate) fn route_hosts(&self, object: &Object<VirtualService>) -> BTreeSet<String> {
        let gateways = &object.spec.gateways;
        if !gateways.is_empty() && !gateways.iter().any(|gateway| gateway == names::MESH_GATEWAY) {
            return BTreeSet::new();
        }
        // `*` is for gateways: a sidecar would take over every host of the world by it.
        let expanded = object.spec.hosts.iter().map(|host| self.expand(host, &object.meta.namespace));
        expanded.filter(|host| !host.is_empty() && host != "*").collect()
    }

    fn route_targets(&self, object: &Object<VirtualService>) -> BTreeSet<String> {
        let http = object.spec.http.iter().flat_map(|rule| &rule.route).map(|to| &to.destination);
        let tls = object.spec.tls.iter().flat_map(|rule| &rule.route).map(|to| &to.destination);
        let tcp = object.spec.tcp.iter().flat_map(|rule| &rule.route).map(|to| &to.destination);
        let hosts = http.chain(tls).chain(tcp).flatten();
        hosts.map(|to| self.expand(&to.host, &object.meta.namespace)).collect()
    }

    pub(crate) fn rule_host(&self, object: &Object<DestinationRule>) -> String {
        self.expand(&object.spec.host, &object.meta.namespace)
    }

    /// The pod that has an address now: of several (an address that was just used again) the one that is not ending
    /// and was made last.
    pub(crate) fn pod_at(&self, ip: IpAddr) -> Option<&Arc<Object<Pod>>> {
        let keys = self.index.pods_by_ip.get(&ip)?;
        let pods = keys.iter().filter_map(|key| self.pods.get(key));
        pods.max_by_key(|pod| {
            let meta = &pod.meta;
            (meta.deletion_timestamp.is_none(), meta.creation_timestamp, meta.namespace.clone(), meta.name.clone())
        })
    }

    /// The objects of a namespace in a store.
    fn within<'s, T>(store: &'s Store<T>, namespace: &str) -> impl Iterator<Item = &'s Arc<Object<T>>> + use<'s, T> {
        let from = ObjectKey::new(namespace, "");
        let namespace = namespace.to_owned();
        store.range(from..).take_while(move |(key, _)| key.namespace == namespace).map(|(_, object)| object)
    }

    /// The pods of a namespace, by name.
    pub(crate) fn pods_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object<Pod>>> {
        Self::within(&self.pods, namespace)
    }

    /// The ServiceEntries of a namespace, by name.
    pub(crate) fn entries_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object<ServiceEntry>>> {
        Self::within(&self.service_entries, namespace)
    }

    /// The Services of a namespace, by name.
    pub(crate) fn services_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object<Service>>> {
        Self::within(&self.services, namespace)
    }

    /// The WorkloadEntries of a namespace, by name.
    pub(crate) fn workloads_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object<WorkloadEntry>>> {
        Self::within(&self.workload_entries, namespace)
    }

    /// The PeerAuthentications of a namespace, by name.
    pub(crate) fn peer_authentications_of(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = &Arc<Object<PeerAuthentication>>> {
        Self::within(&self.peer_authentications, namespace)
    }

    /// The AuthorizationPolicies of a namespace, by name.
    pub(crate) fn authorization_policies_of(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = &Arc<Object<AuthorizationPolicy>>> {
        Self::within(&self.authorization_policies, namespace)
    }

    /// The Sidecars of a namespace, by name.
    pub(crate) fn sidecars_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object<Sidecar>>> {
        Self::within(&self.sidecars, namespace)
    }

    /// The Telemetries of a namespace, by name.
    pub(crate) fn telemetries_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object<Telemetry>>> {
        Self::within(&self.telemetries, namespace)
    }

    /// The DestinationRules of a namespace and host pattern, the oldest first; those for some clients only are left
    /// out (they are not built).
    pub(crate) fn rules_at(&self, pattern: &str) -> Vec<&Arc<Object<DestinationRule>>> {
        let keys = self.index.rules.get(pattern).into_iter().flatten();
        let mut rules: Vec<_> = keys.filter_map(|key| self.destination_rules.get(key)).collect();
        rules.retain(|rule| rule.spec.workload_selector.is_none());
        rules.sort_by(|a, b| seniority(a).cmp(&seniority(b)));
        rules
    }

    /// The pod with a uid.
    pub(crate) fn pod_with_uid(&self, uid: &str) -> Option<&Arc<Object<Pod>>> {
        let key = self.index.pods_by_uid.get(uid)?.first()?;
        self.pods.get(key)
    }
}

/// The Service that an EndpointSlice belongs to.
pub(crate) fn slice_service(slice: &Object<EndpointSlice>) -> Option<ObjectKey> {
    Some(ObjectKey::new(&slice.meta.namespace, slice.meta.label(labels::SERVICE_NAME)?))
}

/// The pods that an EndpointSlice names. A slice can only name pods of its own namespace.
fn slice_pods(slice: &Object<EndpointSlice>) -> BTreeSet<ObjectKey> {
    let targets = slice.spec.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref());
    targets.filter(|target| target.kind == "Pod").map(|t| ObjectKey::new(&slice.meta.namespace, &t.name)).collect()
}

/// The addresses that an EndpointSlice lists.
fn slice_addresses(slice: &Object<EndpointSlice>) -> BTreeSet<IpAddr> {
    slice.spec.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).filter_map(|ip| ip.parse().ok()).collect()
}

/// A Service's own addresses. `externalIPs` are not among them: anybody may write any address there
/// (CVE-2020-8554), and the mesh must not send one namespace's traffic to another by it.
pub(crate) fn service_addresses(service: &Object<Service>) -> Vec<IpAddr> {
    let spec = &service.spec.spec;
    let first = std::iter::once(&spec.cluster_ip);
    let mut addresses = Vec::new();
    for ip in first.chain(&spec.cluster_ips).filter_map(|ip| ip.parse().ok()) {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}

/// The hosts that a ServiceEntry defines: as written, lower case. `*` alone defines nothing.
pub(crate) fn entry_hosts(entry: &Object<ServiceEntry>) -> Vec<String> {
    let clean = |host: &String| host.trim_end_matches('.').to_ascii_lowercase();
    let usable = |host: &String| !host.is_empty() && host != "*" && !host.contains('/');
    entry.spec.hosts.iter().map(clean).filter(usable).collect()
}

/// The addresses of a ServiceEntry as networks; a plain address is a network of one.
pub(crate) fn entry_networks(entry: &Object<ServiceEntry>) -> Vec<IpNet> {
    entry.spec.addresses.iter().filter_map(|text| parse_network(text)).collect()
}

/// An address or a CIDR.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(network.trunc())
}

/// Whether a network is one address.
pub(crate) fn is_single(network: IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// The addresses of the endpoints that a ServiceEntry lists.
pub(crate) fn entry_endpoint_addresses(entry: &Object<ServiceEntry>) -> Vec<IpAddr> {
    entry.spec.endpoints.iter().filter_map(|endpoint| endpoint.address.parse().ok()).collect()
}

/// A pod's addresses.
pub(crate) fn pod_addresses(pod: &Object<Pod>) -> Vec<IpAddr> {
    let status = &pod.spec.status;
    let mut addresses = Vec::new();
    let texts = std::iter::once(&status.pod_ip).chain(status.pod_ips.iter().map(|ip| &ip.ip));
    for ip in texts.filter_map(|ip| ip.parse().ok()) {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}

/// The addresses by which a pod may be found: none on the node's network, none once it has ended.
fn indexed_pod_addresses(pod: &Object<Pod>) -> Vec<IpAddr> {
    if pod.spec.spec.host_network || has_ended(pod) { Vec::new() } else { pod_addresses(pod) }
}

/// Whether all of a pod's containers have ended for good.
pub(crate) fn has_ended(pod: &Object<Pod>) -> bool {
    matches!(pod.spec.status.phase.as_str(), "Succeeded" | "Failed")
}

/// The uid under which a pod's resources are named.
pub(crate) fn pod_uid(pod: &Object<Pod>) -> String {
    match pod.meta.uid.as_str() {
        "" => format!("pod.{}.{}", pod.meta.namespace, pod.meta.name),
        uid => uid.to_owned(),
    }
}

/// Whether all of a selector's labels are among `labels`. An empty selector selects everything.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
