//! Workloads: what a pod or a WorkloadEntry is, whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::config::{Endpoint, Health, Locality, MtlsMode, ProxyKind, Workload};
use mesh_core::identity::SpiffeId;
use mesh_crd::kubernetes::Pod;
use mesh_crd::networking::WorkloadEntry;
use mesh_crd::{Object, ObjectMeta, labels, names};

use crate::objects::{Objects, parse_address, pod_addresses, pod_uid};

/// Ports of a meshed pod that the redirect rules leave alone: metrics, probes and health.
const UNCAPTURED: [u16; 3] = [names::port::STATUS, names::port::HEALTH, names::port::METRICS];

impl Objects {
    /// A pod as an endpoint without ports, ready unless it is ending.
    pub(crate) fn pod_endpoint(&self, pod: &Object<Pod>) -> Endpoint {
        let ours = pod.spec.spec.has_container(names::PROXY_CONTAINER);
        let label = pod.meta.label(labels::TLS_MODE) == Some(labels::TLS_MODE_ISTIO);
        let proxy = match (ours, label) {
            (true, _) => ProxyKind::Mesh,
            (false, true) => ProxyKind::Istio,
            (false, false) => ProxyKind::None,
        };
        let modes = self.port_modes(pod);
        let never = modes.default == MtlsMode::Disable && modes.ports.values().all(|mode| *mode == MtlsMode::Disable);
        let disabled = modes.ports.iter().filter(|(_, mode)| **mode == MtlsMode::Disable).map(|(port, _)| *port);
        // The proxy's own open ports are not captured: a meshed Prometheus scrapes them in plaintext, as any other does.
        let uncaptured = UNCAPTURED.into_iter().filter(|_| label && ours);
        let plaintext: BTreeSet<u16> = disabled.chain(uncaptured).collect();
        Endpoint {
            uid: pod_uid(pod).into(),
            addresses: pod_addresses(pod),
            hostname: None,
            network: pod.meta.label(labels::NETWORK).unwrap_or_default().to_owned(),
            locality: pod.meta.label(labels::LOCALITY).map_or_else(Locality::default, |text| locality(text, '.')),
            identity: (label || ours).then(|| self.pod_identity(pod)).flatten(),
            labels: pod.meta.labels.clone(),
            ports: BTreeMap::new(),
            health: if pod.meta.deletion_timestamp.is_some() { Health::Draining } else { Health::Healthy },
            weight: 1,
            proxy,
            mesh_tls: label && !never,
            plaintext_ports: plaintext.into_iter().collect(),
            workload: self.pod_workload(pod),
        }
    }

    /// The identity of a pod: its service account. None where a name is none that Kubernetes allows.
    pub(crate) fn pod_identity(&self, pod: &Object<Pod>) -> Option<SpiffeId> {
        let account = match pod.spec.spec.service_account_name.as_str() {
            "" => "default",
            account => account,
        };
        SpiffeId::new(&self.options.trust_domain, &pod.meta.namespace, account).ok()
    }

    /// What a pod is called in telemetry.
    pub(crate) fn pod_workload(&self, pod: &Object<Pod>) -> Workload {
        let name = match pod.meta.label(labels::WORKLOAD_NAME) {
            Some(name) => name.to_owned(),
            None => owner_name(&pod.meta),
        };
        self.workload(&pod.meta, &pod.meta.labels, name, &pod.meta.name)
    }

    fn workload(&self, meta: &ObjectMeta, by: &BTreeMap<String, String>, name: String, pod: &str) -> Workload {
        let first = |keys: &[&str], default: &str| {
            keys.iter().find_map(|key| by.get(*key)).map_or_else(|| default.to_owned(), Clone::clone)
        };
        Workload {
            namespace: meta.namespace.clone(),
            canonical_service: first(&[labels::CANONICAL_NAME, labels::APP_NAME, labels::APP], &name),
            canonical_revision: first(&[labels::CANONICAL_REVISION, labels::APP_VERSION, labels::VERSION], "latest"),
            app: first(&[labels::APP], ""),
            version: first(&[labels::VERSION], ""),
            cluster: self.options.cluster_id.clone(),
            pod: pod.to_owned(),
            name,
        }
    }

    /// A WorkloadEntry, or an endpoint written in a ServiceEntry, as an endpoint without ports. `meta` is that of the
    /// object that holds it. Whether and as whom it speaks mutual TLS is said by the pod that has the address, if one has.
    pub(crate) fn entry_endpoint(&self, uid: &str, entry: &WorkloadEntry, meta: &ObjectMeta) -> Endpoint {
        let mut by = meta.labels.clone();
        by.extend(entry.labels.clone());
        let meshed = entry.labels.get(labels::TLS_MODE).is_some_and(|mode| mode == labels::TLS_MODE_ISTIO);
        let account = Some(entry.service_account.as_str()).filter(|account| !account.is_empty());
        let identity =
            account.and_then(|account| SpiffeId::new(&self.options.trust_domain, &meta.namespace, account).ok());
        let address = parse_address(&entry.address);
        let name = by.get(labels::WORKLOAD_NAME).unwrap_or(&meta.name).clone();
        let mut endpoint = Endpoint {
            uid: uid.into(),
            addresses: address.into_iter().collect(),
            hostname: if address.is_none() { Some(entry.address.to_ascii_lowercase()) } else { None },
            network: entry.network.clone(),
            locality: locality(&entry.locality, '/'),
            identity: if meshed { identity } else { None },
            ports: BTreeMap::new(),
            health: if meta.deletion_timestamp.is_some() { Health::Draining } else { Health::Healthy },
            weight: entry.weight.max(1),
            proxy: if meshed { ProxyKind::Istio } else { ProxyKind::None },
            mesh_tls: meshed,
            plaintext_ports: Vec::new(),
            workload: self.workload(meta, &by, name, ""),
            labels: entry.labels.clone(),
        };
        // Anybody may write any address. If a pod has it, then what that pod is counts, not what is written here.
        if let Some(pod) = address.and_then(|ip| self.pod_at(ip)).map(|pod| self.pod_endpoint(pod)) {
            (endpoint.identity, endpoint.proxy) = (pod.identity, pod.proxy);
            (endpoint.mesh_tls, endpoint.plaintext_ports) = (pod.mesh_tls, pod.plaintext_ports);
        }
        endpoint
    }
}

/// The uid of a WorkloadEntry's endpoint. No `/`: it is the last part of a resource's name.
pub(crate) fn workload_uid(entry: &Object<WorkloadEntry>) -> String {
    match entry.meta.uid.as_str() {
        "" => format!("workloadentry.{}.{}", entry.meta.namespace, entry.meta.name),
        uid => uid.to_owned(),
    }
}

/// The name of the thing that made a pod: a ReplicaSet's name without the hash that its Deployment added.
fn owner_name(meta: &ObjectMeta) -> String {
    let Some(owner) = meta.owner_references.iter().find(|owner| owner.controller) else { return meta.name.clone() };
    let hash = meta.label(labels::POD_TEMPLATE_HASH).map(|hash| format!("-{hash}"));
    let without = hash.and_then(|hash| owner.name.strip_suffix(&hash)).filter(|_| owner.kind == "ReplicaSet");
    without.unwrap_or(&owner.name).to_owned()
}

/// Region, zone and subzone from one text.
pub(crate) fn locality(text: &str, separator: char) -> Locality {
    let mut parts = text.splitn(3, separator).map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Locality { region: part(), zone: part(), subzone: part() }
}
