//! ServiceEntries and WorkloadEntries.

use mesh_core::config::Protocol;
use mesh_crd::networking::{Resolution, ServiceEntry, WorkloadEntry};
use mesh_crd::{Object, labels};

use super::conflict;
use crate::Objects;
use crate::endpoint::workload_labels;
use crate::objects::{entry_hosts, parse_network, selects};
use crate::problem::{Code, Problems};
use crate::service::Shape;
use crate::view::Definition;

impl Objects {
    pub(super) fn check_service_entry(&self, object: &Object<ServiceEntry>, problems: &mut Problems) {
        let spec = &object.spec;
        for (index, host) in spec.hosts.iter().enumerate() {
            if host == "*" || host.contains('/') || host.is_empty() {
                let message = format!("{host:?} is no host that a ServiceEntry can have; it is left out");
                problems.error(Code::InvalidValue, &format!("spec.hosts[{index}]"), message, "write a DNS name");
            }
        }
        if spec.hosts.is_empty() {
            problems.error(
                Code::InvalidValue,
                "spec.hosts",
                "there is no host, so it defines nothing",
                "name the hosts",
            );
        }
        if spec.ports.is_empty() {
            problems.error(
                Code::InvalidValue,
                "spec.ports",
                "there is no port, so it cannot be used",
                "write the ports",
            );
        }
        for (index, address) in spec.addresses.iter().enumerate() {
            if parse_network(address).is_none() {
                let message = format!("{address:?} is no address; it is left out");
                problems.error(
                    Code::InvalidValue,
                    &format!("spec.addresses[{index}]"),
                    message,
                    "write an IP or a CIDR",
                );
            }
        }
        self.check_resolution(object, problems);
        self.check_entry_conflicts(object, problems);
        let nameless = |protocol: &Protocol| matches!(protocol, Protocol::Tcp | Protocol::Unspecified);
        for (number, _, protocol) in Shape::of(Definition::Entry(object)).ports {
            if spec.addresses.is_empty() && nameless(&protocol) {
                let message = format!(
                    "port {number} is neither HTTP nor TLS and the entry has no addresses, so nothing can tell that traffic is for it"
                );
                problems.warning(Code::NotActing, "spec.addresses", message, "write the addresses that clients dial");
            }
        }
        if object.meta.label(labels::AUTO_ALLOCATE) == Some("true") {
            let field = format!("metadata.labels[{:?}]", labels::AUTO_ALLOCATE);
            problems.unsupported(&field, "no address is allocated; write spec.addresses");
        }
        if !spec.subject_alt_names.is_empty() {
            let message = "these names are checked only where a DestinationRule asks for TLS; mesh endpoints prove their own identity";
            problems.info(Code::NotActing, "spec.subjectAltNames", message, "write a DestinationRule with tls");
        }
    }

    fn check_resolution(&self, object: &Object<ServiceEntry>, problems: &mut Problems) {
        let spec = &object.spec;
        let is_name = |address: &str| address.parse::<std::net::IpAddr>().is_err();
        for (index, endpoint) in spec.endpoints.iter().enumerate() {
            let field = format!("spec.endpoints[{index}].address");
            if endpoint.address.starts_with("unix:") {
                problems.unsupported(&field, "nothing is sent to this endpoint");
            } else if endpoint.address.is_empty() {
                problems.error(Code::InvalidValue, &field, "the endpoint has no address; it is left out", "write it");
            } else if spec.resolution == Resolution::Static && is_name(&endpoint.address) {
                let message = format!("{:?} is a name, but resolution STATIC does not resolve", endpoint.address);
                problems.error(Code::InvalidValue, &field, message, "write an IP, or resolution: DNS");
            }
        }
        match spec.resolution {
            Resolution::DynamicDns => {
                problems
                    .unsupported("spec.resolution", "traffic goes to the address that the client resolved and dialled");
            }
            Resolution::DnsRoundRobin => {
                problems.info(
                    Code::Unsupported,
                    "spec.resolution",
                    "it acts as DNS: all addresses are used",
                    "write DNS",
                );
            }
            Resolution::None if !spec.endpoints.is_empty() || spec.workload_selector.is_some() => {
                let message = "with resolution NONE traffic goes to the address that the client dialled; the endpoints are not used";
                problems.error(Code::NotActing, "spec.endpoints", message, "write resolution: STATIC");
            }
            Resolution::Static if spec.endpoints.is_empty() && spec.workload_selector.is_none() => {
                let message = "resolution STATIC without endpoints: requests are answered with 503";
                problems.error(
                    Code::SelectsNothing,
                    "spec.endpoints",
                    message,
                    "write endpoints or a workloadSelector",
                );
            }
            _ => {}
        }
        let Some(selector) = &spec.workload_selector else { return };
        if !spec.endpoints.is_empty() {
            let message = "endpoints and workloadSelector are both used; Istio allows only one of them";
            problems.warning(Code::InvalidValue, "spec.workloadSelector", message, "remove one of them");
        }
        let namespace = &object.meta.namespace;
        let workload = self.workloads_of(namespace).any(|entry| selects(&selector.labels, &workload_labels(entry)));
        let pod = self.pods_of(namespace).any(|pod| selects(&selector.labels, &pod.meta.labels));
        if !workload && !pod {
            let message =
                format!("no WorkloadEntry or pod of namespace {namespace} has the labels {:?}", selector.labels);
            problems.warning(Code::SelectsNothing, "spec.workloadSelector", message, "correct the labels");
        }
    }

    fn check_entry_conflicts(&self, object: &Object<ServiceEntry>, problems: &mut Problems) {
        for host in entry_hosts(object) {
            let mut entries = Vec::new();
            for definition in self.definers_of(&host).filter(|found| found.namespace() == object.meta.namespace) {
                match definition {
                    Definition::Service(service) => {
                        let message = format!("the Kubernetes Service {} has the host {host} and wins", service.key());
                        problems.error(Code::Conflict, "spec.hosts", message, "use another host");
                    }
                    Definition::Entry(other) if other.key() != object.key() => entries.push(other),
                    Definition::Entry(_) => {}
                }
            }
            conflict(object, &entries, "spec.hosts", &format!("the host {host} is defined"), problems);
        }
    }

    pub(super) fn check_workload_entry(&self, object: &Object<WorkloadEntry>, problems: &mut Problems) {
        let address = &object.spec.address;
        if address.is_empty() {
            problems.error(Code::InvalidValue, "spec.address", "there is no address", "write an IP or a DNS name");
        } else if address.starts_with("unix:") {
            problems.unsupported("spec.address", "nothing is sent to it");
        }
        let labels = workload_labels(object);
        let used = self.entries_of(&object.meta.namespace).any(|entry| {
            entry.spec.workload_selector.as_ref().is_some_and(|selector| selects(&selector.labels, &labels))
        });
        if !used {
            let message = "no ServiceEntry of the namespace selects it, so nothing is sent to it by name";
            problems.info(Code::NotActing, "spec.labels", message, "write a ServiceEntry with a workloadSelector");
        }
    }
}
