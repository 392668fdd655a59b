//! Services as this proxy sees them, and the keys through which it came to hold them.

use std::collections::BTreeMap;

use mesh_core::config::{AddressAnswer, HiddenReason, HostAnswer, Resolution};
use serde::Serialize;

use super::common::{Origin, names, protocol};
use super::policy::Policy;
use crate::config::View;

/// A service, with its DestinationRules merged in.
#[derive(Serialize)]
pub(in crate::admin) struct Service {
    /// `<namespace>/<host>`.
    name: String,
    namespace: String,
    host: String,
    /// `false`: something names it, but the control plane knows none (visible to this namespace). All else is empty then.
    exists: bool,
    /// The object that defines it.
    origin: Option<Origin>,
    /// The DestinationRules that shaped it, in the order in which they were merged.
    rules: Vec<Origin>,
    /// Its own addresses.
    addresses: Vec<String>,
    /// `endpoints`, `headless`, `original_destination`, `dns` or `external_name`.
    resolution: Option<&'static str>,
    /// Where an ExternalName leads.
    external_name: Option<String>,
    /// Outside the mesh.
    external: bool,
    ports: Vec<Port>,
    subsets: Vec<Subset>,
    /// How many there are, of all ports and subsets.
    endpoints: usize,
}

/// A port, and how clients treat it where no subset is named.
#[derive(Serialize)]
struct Port {
    port: u16,
    /// May be empty.
    name: String,
    protocol: &'static str,
    policy: Policy,
}

/// A subset, and how clients treat it on each port.
#[derive(Serialize)]
struct Subset {
    name: String,
    labels: BTreeMap<String, String>,
    ports: Vec<SubsetPort>,
}

/// A port of a subset.
#[derive(Serialize)]
struct SubsetPort {
    port: u16,
    policy: Policy,
}

/// What was asked for, with the answers.
#[derive(Serialize)]
pub(in crate::admin) struct Keys {
    addresses: Vec<Address>,
    hosts: Vec<Host>,
}

/// What is behind an address.
#[derive(Serialize)]
struct Address {
    address: String,
    /// `absent`, `services`, `workload` or `hidden`.
    answer: &'static str,
    /// Those that have the address, or that select the workload.
    services: Vec<String>,
    /// The uid of the workload there.
    workload: Option<String>,
    /// Why it is hidden: `export_to` or `sidecar`.
    hidden_by: Option<&'static str>,
}

/// What a host name means on a port.
#[derive(Serialize)]
struct Host {
    host: String,
    port: u16,
    /// `absent`, `service` or `routes` (no service, but a VirtualService).
    answer: &'static str,
    service: Option<String>,
}

/// All services.
pub(in crate::admin) fn all(view: &View) -> Vec<Service> {
    let mut all: Vec<Service> = view
        .services()
        .map(|(name, held)| {
            let service = held.service.as_deref();
            Service {
                name: name.to_string(),
                namespace: name.namespace.to_string(),
                host: name.host.to_string(),
                exists: service.is_some(),
                origin: service.map(|service| (&service.origin).into()),
                rules: service.map(|service| service.rules.iter().map(Origin::from).collect()).unwrap_or_default(),
                addresses: service.iter().flat_map(|service| &service.addresses).map(ToString::to_string).collect(),
                resolution: service.map(|service| resolution(&service.resolution)),
                external_name: service.and_then(|service| match &service.resolution {
                    Resolution::ExternalName(name) => Some(name.clone()),
                    _ => None,
                }),
                external: service.is_some_and(|service| service.external),
                ports: service.map(ports).unwrap_or_default(),
                subsets: service.map(subsets).unwrap_or_default(),
                endpoints: held.endpoints.len(),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn ports(service: &mesh_core::config::Service) -> Vec<Port> {
    let port = |port: &mesh_core::config::ServicePort| Port {
        port: port.number,
        name: port.name.clone(),
        protocol: protocol(port.protocol),
        policy: (&port.policy).into(),
    };
    service.ports.values().map(port).collect()
}

fn subsets(service: &mesh_core::config::Service) -> Vec<Subset> {
    let subset = |(name, subset): (&String, &mesh_core::config::Subset)| Subset {
        name: name.clone(),
        labels: subset.labels.clone(),
        ports: subset.policies.iter().map(|(port, policy)| SubsetPort { port: *port, policy: policy.into() }).collect(),
    };
    service.subsets.iter().map(subset).collect()
}

fn resolution(resolution: &Resolution) -> &'static str {
    match resolution {
        Resolution::Endpoints => "endpoints",
        Resolution::Headless => "headless",
        Resolution::OriginalDestination => "original_destination",
        Resolution::Dns => "dns",
        Resolution::ExternalName(_) => "external_name",
    }
}

/// All keys.
pub(in crate::admin) fn keys(view: &View) -> Keys {
    let mut addresses: Vec<_> = view.addresses().collect();
    addresses.sort_by_key(|(address, _)| **address);
    let mut hosts: Vec<_> = view.hosts().collect();
    hosts.sort_by_key(|(key, _)| *key);
    Keys {
        addresses: addresses.into_iter().map(|(at, answer)| address(at.to_string(), answer)).collect(),
        hosts: hosts
            .into_iter()
            .map(|((host, port), answer)| {
                let (answer, service) = match answer {
                    HostAnswer::Absent => ("absent", None),
                    HostAnswer::Service(name) => ("service", Some(name.to_string())),
                    HostAnswer::Routes(name) => ("routes", Some(name.to_string())),
                };
                Host { host: host.to_string(), port: *port, answer, service }
            })
            .collect(),
    }
}

fn address(address: String, answer: &AddressAnswer) -> Address {
    let (answer, services, workload, hidden_by) = match answer {
        AddressAnswer::Absent => ("absent", vec![], None, None),
        AddressAnswer::Services(services) => ("services", names(services), None, None),
        AddressAnswer::Workload { endpoint, services } => ("workload", names(services), Some(endpoint), None),
        AddressAnswer::Hidden { endpoint, reason } => {
            let reason = match reason {
                HiddenReason::ExportTo => "export_to",
                HiddenReason::Sidecar => "sidecar",
            };
            ("hidden", vec![], endpoint.as_ref(), Some(reason))
        }
    };
    Address { address, answer, services, workload: workload.map(|endpoint| endpoint.uid.to_string()), hidden_by }
}
