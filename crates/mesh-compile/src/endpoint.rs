//! Endpoints: the workloads behind a service, with the identity that each must prove.
//!
//! An EndpointSlice can be written by anybody who may write in its namespace. So identity and mutual TLS are never
//! taken from it: they are those of the pod that has the address. An endpoint whose pod is not known yet is left
//! out rather than talked to without TLS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_core::config::{Endpoint, Health, ServiceName};
use mesh_crd::kubernetes::{self, EndpointSlice, IntOrString, Pod, Service};
use mesh_crd::networking::{self, Resolution, ServiceEntry, WorkloadEntry};
use mesh_crd::{Object, ObjectKey};

use crate::objects::{Objects, has_ended, parse_address, selects};
use crate::view::Definition;
use crate::workload::workload_uid;

/// The most endpoints of one service; the rest is left out.
pub(crate) const ENDPOINTS_MAX: usize = 50_000;

impl Objects {
    /// The members of a service's collection, by uid; none where there is no such service.
    pub fn compile_endpoints(&self, name: &ServiceName) -> Option<Vec<Endpoint>> {
        let mut members: BTreeMap<_, Endpoint> = BTreeMap::new();
        let found = match self.definition_of(name)? {
            Definition::Service(service) => self.slice_endpoints(service),
            Definition::Entry(entry) => self.entry_endpoints(entry, &name.host),
        };
        for endpoint in found {
            match members.get_mut(&endpoint.uid) {
                None => drop(members.insert(endpoint.uid.clone(), endpoint)),
                // A pod of two address families, or with ports in several slices, is listed several times.
                Some(known) => {
                    known.ports.extend(endpoint.ports);
                    known.health = known.health.min(endpoint.health);
                }
            }
        }
        Some(members.into_values().take(ENDPOINTS_MAX).collect())
    }

    fn slice_endpoints(&self, service: &Object<Service>) -> Vec<Endpoint> {
        let slices = self.index.slices.get(&service.key()).into_iter().flatten();
        let slices = slices.filter_map(|key| self.slices.get(key));
        let of = |slice| self.endpoints_in(service, slice);
        slices.filter(|slice| slice.spec.address_type != "FQDN").flat_map(|slice| of(slice)).collect()
    }

    fn endpoints_in(&self, service: &Object<Service>, slice: &Object<EndpointSlice>) -> Vec<Endpoint> {
        let ports = slice_ports(service, slice);
        let found = slice.spec.endpoints.iter().flat_map(|listed| {
            listed.addresses.iter().filter_map(|address| {
                let ip = parse_address(address)?;
                let mut endpoint = self.listed_endpoint(service, slice, listed, ip)?;
                endpoint.ports = ports.clone();
                Some(endpoint)
            })
        });
        found.collect()
    }

    /// One address of a slice as an endpoint.
    fn listed_endpoint(
        &self,
        service: &Object<Service>,
        slice: &Object<EndpointSlice>,
        listed: &kubernetes::Endpoint,
        ip: IpAddr,
    ) -> Option<Endpoint> {
        let target = listed.target_ref.as_ref().filter(|target| target.kind == "Pod");
        let named = target.map(|target| self.pods.get(&ObjectKey::new(&slice.meta.namespace, &target.name)));
        let pod = match named {
            // The slice names a pod that is not there (yet, or any more): whether it speaks TLS is unknown.
            Some(None) => return None,
            Some(Some(pod)) if crate::objects::pod_addresses(pod).contains(&ip) => Some(pod),
            // It names a pod that does not have this address: who has it counts.
            Some(Some(_)) | None => self.pod_at(ip),
        };
        let mut endpoint = match pod {
            Some(pod) if has_ended(pod) => return None,
            Some(pod) => self.pod_endpoint(pod),
            None => {
                let meta = &service.meta;
                let entry = WorkloadEntry { address: ip.to_string(), ..WorkloadEntry::default() };
                self.entry_endpoint(&format!("endpoint.{}.{ip}", meta.namespace), &entry, meta)
            }
        };
        if endpoint.locality.zone.is_empty() {
            endpoint.locality.zone = listed.zone.clone();
        }
        endpoint.health = match (endpoint.health, listed.conditions.terminating, listed.conditions.ready) {
            (Health::Draining, ..) | (_, Some(true), _) => Health::Draining,
            (_, _, Some(false)) => Health::Unhealthy,
            _ => Health::Healthy,
        };
        Some(endpoint)
    }

    fn entry_endpoints(&self, entry: &Object<ServiceEntry>, host: &str) -> Vec<Endpoint> {
        let spec = &entry.spec;
        let own = |named: &BTreeMap<String, u32>| {
            let port = |port: &networking::ServicePort| {
                let target = if port.target_port == 0 { port.number } else { port.target_port };
                let target = named.get(&port.name).copied().unwrap_or(target);
                Some((u16::try_from(port.number).ok()?, u16::try_from(target).ok()?))
            };
            spec.ports.iter().filter_map(port).collect::<BTreeMap<_, _>>()
        };
        let mut found = Vec::new();
        for listed in spec.endpoints.iter().filter(|listed| !listed.address.is_empty()) {
            let uid = format!("serviceentry.{}.{}.{}", entry.meta.namespace, entry.meta.name, clean(&listed.address));
            let mut endpoint = self.entry_endpoint(&uid, listed, &entry.meta);
            endpoint.ports = own(&listed.ports);
            found.push(endpoint);
        }
        if let Some(selector) = &spec.workload_selector {
            let selected = |labels: &BTreeMap<String, String>| selects(&selector.labels, labels);
            for workload in self.workloads_of(&entry.meta.namespace).filter(|w| selected(&workload_labels(w))) {
                let mut endpoint = self.entry_endpoint(&workload_uid(workload), &workload.spec, &workload.meta);
                endpoint.ports = own(&workload.spec.ports);
                found.push(endpoint);
            }
            for pod in self.pods_of(&entry.meta.namespace).filter(|pod| selected(&pod.meta.labels)) {
                if has_ended(pod) || !is_ready(pod) || pod.spec.spec.host_network {
                    continue;
                }
                let mut endpoint = self.pod_endpoint(pod);
                endpoint.ports = own(&BTreeMap::new());
                found.push(endpoint);
            }
        }
        let by_name = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if found.is_empty() && by_name && spec.workload_selector.is_none() && !host.starts_with('*') {
            let uid = format!("serviceentry.{}.{}.{host}", entry.meta.namespace, entry.meta.name);
            let itself = WorkloadEntry { address: host.to_owned(), ..WorkloadEntry::default() };
            let mut endpoint = self.entry_endpoint(&uid, &itself, &entry.meta);
            endpoint.ports = own(&BTreeMap::new());
            found.push(endpoint);
        }
        found
    }
}

/// The labels of a WorkloadEntry that selectors match: those of its specification and of the object.
pub(crate) fn workload_labels(entry: &Object<WorkloadEntry>) -> BTreeMap<String, String> {
    let mut labels = entry.meta.labels.clone();
    labels.extend(entry.spec.labels.clone());
    labels
}

/// Whether a pod says that it is ready; without the condition it does once it runs.
fn is_ready(pod: &Object<Pod>) -> bool {
    match pod.spec.status.conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) => condition.status == "True",
        None => pod.spec.status.phase == "Running",
    }
}

/// An address as a part of a resource's name.
fn clean(address: &str) -> String {
    address.to_ascii_lowercase().replace('/', "_")
}

/// Service port → endpoint port, matched by the port's name.
fn slice_ports(service: &Object<Service>, slice: &Object<EndpointSlice>) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    // UDP is not captured, and may have the number of a TCP port.
    for port in service.spec.spec.ports.iter().filter(|port| transport(&port.protocol) == "TCP") {
        let same = |listed: &&kubernetes::EndpointPort| {
            listed.name == port.name && transport(&listed.protocol) == transport(&port.protocol)
        };
        let Some(listed) = slice.spec.ports.iter().find(same) else { continue };
        let fallback = match &port.target_port {
            Some(IntOrString::Int(number)) if *number != 0 => *number,
            _ => port.port,
        };
        if let (Ok(from), Ok(to)) = (u16::try_from(port.port), u16::try_from(listed.port.unwrap_or(fallback))) {
            ports.insert(from, to);
        }
    }
    ports
}

/// A transport protocol, with Kubernetes' default.
pub(crate) fn transport(protocol: &str) -> &str {
    if protocol.is_empty() { "TCP" } else { protocol }
}
