//! Finding objects: by namespace, by address, by uid.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_crd::kubernetes::{Pod, Service};
use mesh_crd::networking::{DestinationRule, ServiceEntry, Sidecar, WorkloadEntry};
use mesh_crd::security::{AuthorizationPolicy, PeerAuthentication};
use mesh_crd::telemetry::Telemetry;
use mesh_crd::{Object, ObjectKey};

use super::{Objects, Store, seniority};

impl Objects {
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
