//! What leads to what, and whether all of it is known.

use std::collections::BTreeSet;

use mesh_core::config::{
    AddressAnswer, Destination, HostAnswer, HttpAction, ResourceName, RouteTable, Service, ServiceName,
    WeightedDestination,
};

use super::Store;

impl Store {
    /// Everything that must be subscribed to: settings, the own Inbound, the keys, and what the answers and route tables
    /// lead to, both those in use and their newest.
    pub(super) fn closure(&self) -> BTreeSet<ResourceName> {
        let mut wanted = BTreeSet::from([ResourceName::MeshSettings, ResourceName::Inbound(self.uid.clone())]);
        wanted.extend(self.keys.keys().map(super::Key::resource));
        let mut routed = BTreeSet::new();
        for (address, newest) in &self.addresses {
            address_services(&newest.value, &mut routed);
            if let Some(used) = self.view.addresses.get(address) {
                address_services(&used.answer, &mut routed);
            }
        }
        for (host, newest) in &self.hosts {
            host_services(&newest.value, &mut routed);
            if let Some(used) = self.view.hosts.get(host) {
                host_services(&used.answer, &mut routed);
            }
        }
        let mut services = BTreeSet::new();
        for Lead { service, endpoints } in routed {
            wanted.insert(ResourceName::RouteTable(service.clone()));
            for table in self.tables_of(&service) {
                services.extend(destinations(table).map(|destination| destination.service.clone()));
            }
            if endpoints {
                services.insert(service);
            }
        }
        for service in services {
            wanted.insert(ResourceName::Service(service.clone()));
            wanted.insert(ResourceName::Endpoints(service));
        }
        wanted
    }

    /// The table in use and the newest one, where they are there.
    fn tables_of(&self, service: &ServiceName) -> impl Iterator<Item = &RouteTable> {
        let used = self.view.routes.get(service).map(|used| &*used.table);
        let newest = self.tables.get(service).map(|newest| &*newest.value);
        used.into_iter().chain(newest)
    }

    /// Whether everything that an address's answer leads to is in the view.
    pub(super) fn address_is_complete(&self, answer: &AddressAnswer) -> bool {
        let mut leads = BTreeSet::new();
        address_services(answer, &mut leads);
        leads.iter().all(|lead| self.lead_is_complete(lead))
    }

    /// Whether everything that a host's answer leads to is in the view.
    pub(super) fn host_is_complete(&self, answer: &HostAnswer) -> bool {
        let mut leads = BTreeSet::new();
        host_services(answer, &mut leads);
        leads.iter().all(|lead| self.lead_is_complete(lead))
    }

    fn lead_is_complete(&self, lead: &Lead) -> bool {
        let service = !lead.endpoints || self.service_is_known(&lead.service);
        let routes = self.view.routes.contains_key(&lead.service)
            || self.absent.contains(&ResourceName::RouteTable(lead.service.clone()))
            || (lead.endpoints && self.absent.contains(&ResourceName::Service(lead.service.clone())));
        service && routes
    }

    /// Whether it is known what a service is (or that it is not), and which endpoints it has.
    pub(super) fn service_is_known(&self, name: &ServiceName) -> bool {
        if self.absent.contains(&ResourceName::Service(name.clone())) {
            return true;
        }
        let endpoints = self.collections.get(name).is_some_and(|collection| collection.complete)
            || self.absent.contains(&ResourceName::Endpoints(name.clone()));
        self.services.contains_key(name) && endpoints
    }

    /// Whether everything that a table names is known, be it there or not.
    pub(super) fn table_is_known(&self, table: &RouteTable) -> bool {
        destinations(table).all(|destination| self.service_is_known(&destination.service))
    }

    /// Whether everything that a table names is there: services, subsets and ports.
    pub(super) fn table_works(&self, table: &RouteTable) -> bool {
        destinations(table).all(|destination| {
            self.service_is_known(&destination.service)
                && self.services.get(&destination.service).is_some_and(|service| has(service, destination))
        })
    }
}

fn has(service: &Service, destination: &Destination) -> bool {
    destination.subset.as_ref().is_none_or(|subset| service.subsets.contains_key(subset))
        && destination.port.is_none_or(|port| service.ports.contains_key(&port))
}

/// A service that an answer names: its routes are needed, and, unless only routes bear its name, itself.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Lead {
    service: ServiceName,
    endpoints: bool,
}

fn address_services(answer: &AddressAnswer, into: &mut BTreeSet<Lead>) {
    match answer {
        AddressAnswer::Absent | AddressAnswer::Hidden { .. } => {}
        AddressAnswer::Services(services) | AddressAnswer::Workload { services, .. } => {
            into.extend(services.iter().map(|service| Lead { service: service.clone(), endpoints: true }));
        }
    }
}

fn host_services(answer: &HostAnswer, into: &mut BTreeSet<Lead>) {
    match answer {
        HostAnswer::Absent => {}
        HostAnswer::Service(service) => {
            into.insert(Lead { service: service.clone(), endpoints: true });
        }
        HostAnswer::Routes(service) => {
            into.insert(Lead { service: service.clone(), endpoints: false });
        }
    }
}

/// Every destination that a table can lead to.
fn destinations(table: &RouteTable) -> impl Iterator<Item = &Destination> {
    let http = table.http.iter().flat_map(|rule| match &rule.action {
        HttpAction::Route(destinations) => destinations.as_slice(),
        HttpAction::Redirect(_) | HttpAction::Direct(_) | HttpAction::Invalid(_) => &[],
    });
    let tls = table.tls.iter().flat_map(|rule| &rule.destinations);
    let tcp = table.tcp.iter().flat_map(|rule| &rule.destinations);
    http.chain(tls).chain(tcp).map(|weighted: &WeightedDestination| &weighted.destination)
}
