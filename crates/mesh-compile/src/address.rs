//! The on-demand keys: what is behind an address, and what a host name means on a port.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mesh_core::config::{Address, AddressAnswer, Endpoint, HiddenReason, Host, HostAnswer, ServiceName};
use mesh_crd::{Kind, Object};

use crate::endpoint::workload_labels;
use crate::hosts;
use crate::objects::{Definer, entry_hosts, selects, seniority};
use crate::view::{Definition, View};
use crate::workload::workload_uid;

/// The most services of one address; whose claim is weaker is left out. Without it, whoever writes enough of them makes
/// the answer too large for everybody.
const SERVICES_PER_ADDRESS_MAX: usize = 64;

impl View<'_> {
    /// What is behind an address. There always is an answer.
    pub(crate) fn address(&self, ip: IpAddr) -> Address {
        let ip = ip.to_canonical();
        // A pod's address is the pod's, and a Service's the Service's, also where it is hidden or lacks a port: no
        // ServiceEntry of another namespace takes it over.
        let definers = || self.objects.index.addresses.get(&ip).into_iter().flatten();
        let is_taken = self.objects.pod_at(ip).is_some() || definers().any(|one| matches!(one, Definer::Service(_)));
        let may_claim = |definer: &&Definer| match definer {
            Definer::Service(_) => true,
            Definer::Entry(key) => !is_taken || key.namespace == self.namespace,
        };
        let exact = definers().filter(may_claim);
        let answer = self
            .services_answer(exact)
            .or_else(|| self.pod_answer(ip))
            .or_else(|| self.workload_answer(ip))
            .or_else(|| self.network_answer(ip))
            .unwrap_or(AddressAnswer::Absent);
        Address { address: ip, answer }
    }

    /// The hosts of a definer: one, or those of a ServiceEntry.
    fn hosts_of(&self, definition: Definition<'_>) -> Vec<String> {
        match definition {
            Definition::Service(service) => vec![self.objects.service_host(&service.key())],
            Definition::Entry(entry) => entry_hosts(entry),
        }
    }

    /// The visible ones among some definers, the one that wins first; `Hidden` where there are only others.
    fn services_answer<'d>(&self, definers: impl Iterator<Item = &'d Definer>) -> Option<AddressAnswer> {
        let mut found = Vec::new();
        let mut hidden = None;
        for definition in definers.filter_map(|definer| self.objects.definition(definer)) {
            for host in self.hosts_of(definition) {
                match self.sees(definition, &host) {
                    Ok(()) => found.push((definition, host)),
                    Err(reason) => hidden = hidden.or(Some(reason)),
                }
            }
        }
        if found.is_empty() {
            return hidden.map(|reason| AddressAnswer::Hidden { endpoint: None, reason });
        }
        // The client's own namespace first, then Kubernetes' Services, then age.
        found.sort_by_key(|(definition, host)| {
            let foreign = definition.namespace() != self.namespace;
            let (entry, age) = match definition {
                Definition::Service(object) => (false, seniority(object)),
                Definition::Entry(object) => (true, seniority(object)),
            };
            (foreign, entry, age.0, age.1, age.2.to_owned(), age.3.to_owned(), host.clone())
        });
        let name = |(definition, host): &(Definition<'_>, String)| ServiceName::new(definition.namespace(), host);
        Some(AddressAnswer::Services(found.iter().map(name).take(SERVICES_PER_ADDRESS_MAX).collect()))
    }

    fn pod_answer(&self, ip: IpAddr) -> Option<AddressAnswer> {
        let pod = self.objects.pod_at(ip)?;
        let endpoint = self.objects.pod_endpoint(pod);
        let definitions = self.objects.services_selecting(&pod.meta.namespace, &pod.meta.labels, true);
        Some(self.workload(endpoint, definitions))
    }

    /// Whose word counts about an address that several describe: the client's own namespace's, then the oldest's.
    fn claim<'k, T: Kind>(&self, object: &'k Object<T>) -> impl Ord + use<'k, T> {
        (object.meta.namespace != self.namespace, seniority(object))
    }

    fn workload_answer(&self, ip: IpAddr) -> Option<AddressAnswer> {
        let objects = self.objects;
        let workloads = objects.index.workloads_by_ip.get(&ip).into_iter().flatten();
        let workloads = workloads.filter_map(|key| Some((key, objects.workload_entries.get(key)?)));
        if let Some((key, entry)) = workloads.min_by(|a, b| self.claim(a.1).cmp(&self.claim(b.1))) {
            let endpoint = objects.entry_endpoint(&workload_uid(entry), &entry.spec, &entry.meta);
            let definitions = objects.services_selecting(&key.namespace, &workload_labels(entry), false);
            return Some(self.workload(endpoint, definitions));
        }
        let keys = objects.index.endpoints_by_ip.get(&ip)?;
        let mut entries: Vec<_> = keys.iter().filter_map(|key| objects.service_entries.get(key)).collect();
        entries.sort_by(|a, b| self.claim(a).cmp(&self.claim(b)));
        let host = entries.iter().flat_map(|entry| entry_hosts(entry)).next()?;
        let first = entries.first()?;
        let members = objects.compile_endpoints(&ServiceName::new(&first.meta.namespace, &host))?;
        let endpoint = members.into_iter().find(|endpoint| endpoint.addresses.contains(&ip))?;
        Some(self.workload(endpoint, entries.into_iter().map(|entry| Definition::Entry(entry)).collect()))
    }

    /// The answer for a workload that some services select.
    fn workload(&self, mut endpoint: Endpoint, definitions: Vec<Definition<'_>>) -> AddressAnswer {
        endpoint.ports.clear();
        let endpoint = Arc::new(endpoint);
        let mut services = Vec::new();
        let mut hidden: Option<HiddenReason> = None;
        for definition in definitions {
            for host in self.hosts_of(definition) {
                match self.sees(definition, &host) {
                    // In the order in which they are given: whose word counts most comes first.
                    Ok(()) => services.push(ServiceName::new(definition.namespace(), &host)),
                    Err(reason) => hidden = hidden.or(Some(reason)),
                }
            }
        }
        let mut seen = BTreeSet::new();
        services.retain(|name| seen.insert(name.clone()));
        services.truncate(SERVICES_PER_ADDRESS_MAX);
        match hidden {
            Some(reason) if services.is_empty() => AddressAnswer::Hidden { endpoint: Some(endpoint), reason },
            _ => AddressAnswer::Workload { endpoint, services },
        }
    }

    /// ServiceEntries whose range holds the address, the smallest range first.
    fn network_answer(&self, ip: IpAddr) -> Option<AddressAnswer> {
        let networks = &self.objects.index.networks;
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let ranges = (0..bits).rev().filter_map(|length| IpNet::new(ip, length).ok());
        let mut hidden = None;
        for definers in ranges.filter_map(|range| networks.get(&range.trunc())) {
            match self.services_answer(definers.iter()) {
                Some(answer @ AddressAnswer::Hidden { .. }) => hidden = hidden.or(Some(answer)),
                Some(answer) => return Some(answer),
                None => {}
            }
        }
        hidden
    }

    /// What a host name means on a port.
    pub(crate) fn host(&self, name: &str, port: u16) -> Host {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let domain = &self.objects.options.cluster_domain;
        let full_names = hosts::candidates(&name, self.namespace, domain);
        let service = full_names.iter().find_map(|full| self.visible_on(full, port));
        let routed = full_names.iter().find_map(|full| Some((full, self.routes_by(full)?)));
        let answer = match (service, routed) {
            // Rules for a host are more specific than a service that only has it by a wildcard.
            (Some(service), Some((full, (pattern, rules))))
                if service.host.starts_with('*') && pattern.len() > service.host.len() =>
            {
                HostAnswer::Routes(ServiceName::new(&rules.meta.namespace, full))
            }
            (Some(service), _) => HostAnswer::Service(service),
            (None, Some((full, (_, rules)))) => HostAnswer::Routes(ServiceName::new(&rules.meta.namespace, full)),
            (None, None) => HostAnswer::Absent,
        };
        Host { name: name.into(), port, answer }
    }

    /// The visible service that has this name, itself or by a wildcard, and this port.
    fn visible_on(&self, full: &str, port: u16) -> Option<ServiceName> {
        self.definitions_for(full).into_iter().find_map(|(pattern, definitions)| {
            let seen =
                |definition: &Definition<'_>| self.sees(*definition, &pattern).is_ok() && definition.has_port(port);
            let definition = definitions.into_iter().find(seen)?;
            Some(ServiceName::new(definition.namespace(), &pattern))
        })
    }
}

impl crate::Objects {
    /// The Services (for pods) and ServiceEntries of a namespace that select a workload's labels.
    pub(crate) fn services_selecting<'o>(
        &'o self,
        namespace: &str,
        labels: &std::collections::BTreeMap<String, String>,
        pod: bool,
    ) -> Vec<Definition<'o>> {
        let mut found = Vec::new();
        for service in self.services_of(namespace).filter(|_| pod) {
            let selector = &service.spec.spec.selector;
            if !selector.is_empty() && selects(selector, labels) {
                found.push(Definition::Service(service));
            }
        }
        for entry in self.entries_of(namespace) {
            let selector = entry.spec.workload_selector.as_ref();
            if selector.is_some_and(|selector| selects(&selector.labels, labels)) {
                found.push(Definition::Entry(entry));
            }
        }
        found
    }
}
