//! Services: what they are, and how clients of one namespace treat them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_core::config::{Origin, Protocol, Resolution, Service, ServiceName, ServicePort, Subset};
use mesh_crd::networking::{self, ServiceEntry};
use mesh_crd::{Object, kubernetes};

use crate::endpoint::transport;
use crate::objects::{entry_networks, is_single, origin, service_addresses};
use crate::policy::{Effective, Rules};
use crate::protocol;
use crate::view::{Definition, View};

impl View<'_> {
    /// A service by name, if it is exported to the namespace.
    pub(crate) fn service(&self, name: &ServiceName) -> Option<Service> {
        let definition = self.objects.definition_of(name).filter(|definition| self.exported(*definition))?;
        let shape = Shape::of(definition);
        let rules = self.rules_for(name);
        let mut ports = BTreeMap::new();
        for (number, name_of_port, protocol) in shape.ports {
            let policy = rules.effective(u32::from(number), None).compile(self.objects, &shape.names, name);
            ports.insert(number, ServicePort { number, name: name_of_port, protocol, policy });
        }
        let subsets = self.subsets(&rules, &ports, &shape.names, name);
        Some(Service {
            name: name.clone(),
            origin: shape.origin,
            rules: rules.origins(),
            addresses: shape.addresses,
            resolution: shape.resolution,
            external: shape.external,
            ports,
            subsets,
        })
    }

    fn subsets(
        &self,
        rules: &Rules<'_>,
        ports: &BTreeMap<u16, ServicePort>,
        names: &[String],
        service: &ServiceName,
    ) -> BTreeMap<String, Subset> {
        let mut subsets = BTreeMap::new();
        for subset in rules.subsets() {
            let policy = |number: &u16| {
                let effective: Effective<'_> = rules.effective(u32::from(*number), Some(subset));
                (*number, effective.compile(self.objects, names, service))
            };
            let policies = ports.keys().map(policy).collect();
            subsets.insert(subset.name.clone(), Subset { labels: subset.labels.clone(), policies });
        }
        subsets
    }
}

/// What a definition says, in one form.
pub(crate) struct Shape {
    origin: Origin,
    addresses: Vec<IpAddr>,
    resolution: Resolution,
    external: bool,
    /// Number, name, protocol; the first of two with one number counts.
    pub(crate) ports: Vec<(u16, String, Protocol)>,
    /// Names of which the endpoints' certificates must have one (`subjectAltNames` of a ServiceEntry).
    names: Vec<String>,
}

impl Shape {
    pub(crate) fn of(definition: Definition<'_>) -> Shape {
        let mut shape = match definition {
            Definition::Service(service) => of_service(service),
            Definition::Entry(entry) => of_entry(entry),
        };
        let mut seen = Vec::new();
        shape.ports.retain(|(number, ..)| {
            let new = !seen.contains(number);
            seen.push(*number);
            new
        });
        shape
    }
}

fn of_service(service: &Object<kubernetes::Service>) -> Shape {
    let spec = &service.spec.spec;
    let addresses = service_addresses(service);
    let resolution = match spec.type_.as_str() {
        "ExternalName" => Resolution::ExternalName(spec.external_name.trim_end_matches('.').to_ascii_lowercase()),
        _ if addresses.is_empty() && spec.cluster_ip == "None" => Resolution::Headless,
        _ => Resolution::Endpoints,
    };
    let port = |port: &kubernetes::ServicePort| {
        let number = u16::try_from(port.port).ok().filter(|number| *number != 0)?;
        let transport = transport(&port.protocol);
        let protocol = protocol::of_service_port(transport, port.app_protocol.as_deref(), &port.name, port.port);
        (transport != "SCTP").then(|| (number, port.name.clone(), protocol))
    };
    // A port that is both UDP and TCP (DNS) is the TCP one here: UDP is not captured.
    let mut ports: Vec<_> = spec.ports.iter().filter_map(port).collect();
    ports.sort_by_key(|(.., protocol)| *protocol == Protocol::Udp);
    Shape {
        origin: origin(service),
        addresses,
        external: matches!(resolution, Resolution::ExternalName(_)),
        resolution,
        ports,
        names: Vec::new(),
    }
}

fn of_entry(entry: &Object<ServiceEntry>) -> Shape {
    let spec = &entry.spec;
    let singles = entry_networks(entry).into_iter().filter(|network| is_single(*network));
    let resolution = match spec.resolution {
        networking::Resolution::None | networking::Resolution::DynamicDns => Resolution::OriginalDestination,
        networking::Resolution::Static => Resolution::Endpoints,
        networking::Resolution::Dns | networking::Resolution::DnsRoundRobin => Resolution::Dns,
    };
    let port = |port: &networking::ServicePort| {
        let number = u16::try_from(port.number).ok().filter(|number| *number != 0)?;
        let word = if port.protocol.is_empty() { &port.name } else { &port.protocol };
        Some((number, port.name.clone(), protocol::of_word(word).unwrap_or_default()))
    };
    Shape {
        origin: origin(entry),
        addresses: singles.map(|network| network.addr()).collect(),
        resolution,
        external: spec.location == networking::Location::MeshExternal,
        ports: spec.ports.iter().filter_map(port).collect(),
        names: spec.subject_alt_names.clone(),
    }
}
