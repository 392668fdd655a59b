//! The objects that exist now, and the indexes by which a compile finds what it needs without looking at the rest.
//!
//! Nothing here remembers an order of arrival or a time: what is compiled is a function of the present objects only.

mod find;
mod index;
mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use mesh_core::config::Origin;
use mesh_core::identity::TrustDomain;
use mesh_crd::kubernetes::{ConfigMap, EndpointSlice, Namespace, Pod, Service, ServiceAccount};
use mesh_crd::networking::{DestinationRule, Gateway, ServiceEntry, Sidecar, VirtualService, WorkloadEntry};
use mesh_crd::security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use mesh_crd::telemetry::Telemetry;
use mesh_crd::{AnyObject, Issues, Kind, MeshConfig, Object, ObjectKey, names, parse_mesh_config};

pub(crate) use index::{Definer, Index};
pub(crate) use parts::{
    entry_hosts, entry_networks, has_ended, is_single, parse_address, parse_network, pod_addresses, pod_uid, selects,
    service_addresses, slice_service,
};

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

    pub(crate) fn is_mesh_config(&self, key: &ObjectKey) -> bool {
        key.namespace == self.options.root_namespace && key.name == names::MESH_CONFIG_MAP
    }

    /// Takes the settings from the ConfigMap. A text that is no YAML leaves the defaults, and is reported.
    pub(super) fn read_mesh_config(&mut self, map: Option<&Object<ConfigMap>>) {
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

    pub(super) fn route_targets(&self, object: &Object<VirtualService>) -> BTreeSet<String> {
        let http = object.spec.http.iter().flat_map(|rule| &rule.route).map(|to| &to.destination);
        let tls = object.spec.tls.iter().flat_map(|rule| &rule.route).map(|to| &to.destination);
        let tcp = object.spec.tcp.iter().flat_map(|rule| &rule.route).map(|to| &to.destination);
        let hosts = http.chain(tls).chain(tcp).flatten();
        hosts.map(|to| self.expand(&to.host, &object.meta.namespace)).collect()
    }

    pub(crate) fn rule_host(&self, object: &Object<DestinationRule>) -> String {
        self.expand(&object.spec.host, &object.meta.namespace)
    }
}
