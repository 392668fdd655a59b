//! What a workload accepts: its ports with their protocols and modes, and the policies that select it.

use std::collections::BTreeMap;

use mesh_core::config::{Inbound, InboundPort, Protocol, ServiceName};
use mesh_crd::kubernetes::{IntOrString, Pod, ServicePort};
use mesh_crd::{Object, labels};

use crate::Objects;
use crate::endpoint::transport;
use crate::objects::{entry_hosts, pod_addresses, pod_uid};
use crate::protocol;
use crate::view::Definition;
use crate::workload::locality;

/// What is known of a workload's port: its protocol, the service that names it, that service's port.
pub(crate) type WorkloadPort = (Protocol, ServiceName, u16);

impl Objects {
    /// The inbound configuration of the pod with this uid.
    pub fn compile_inbound(&self, uid: &str) -> Option<Inbound> {
        let pod = self.pod_with_uid(uid)?;
        let modes = self.modes(pod);
        let mode = |port: u16| match modes.ports.get(&port) {
            Some(mode) => (*mode, modes.ports_origin.clone()),
            None => (modes.default, modes.default_origin.clone()),
        };
        let mut ports = BTreeMap::new();
        for (port, (protocol, service, service_port)) in self.workload_ports(pod) {
            let (mtls, mtls_origin) = mode(port);
            ports.insert(port, InboundPort { protocol, mtls, mtls_origin, service: Some((service, service_port)) });
        }
        for port in modes.ports.keys() {
            let (mtls, mtls_origin) = mode(*port);
            let unnamed = InboundPort { protocol: Protocol::Unspecified, mtls, mtls_origin, service: None };
            ports.entry(*port).or_insert(unnamed);
        }
        Some(Inbound {
            uid: pod_uid(pod).into(),
            identity: self.pod_identity(pod)?,
            addresses: pod_addresses(pod),
            labels: pod.meta.labels.clone(),
            workload: self.pod_workload(pod),
            locality: pod.meta.label(labels::LOCALITY).map(|text| locality(text, '.')).unwrap_or_default(),
            ports,
            mtls: modes.default,
            mtls_origin: modes.default_origin,
            policies: self.authorization_of(pod),
            access_log: self.access_log_of(pod),
            draining: pod.meta.deletion_timestamp.is_some(),
        })
    }

    /// The ports of a pod that services name, by its own port; of several services, the first by name counts.
    pub(crate) fn workload_ports(&self, pod: &Object<Pod>) -> BTreeMap<u16, WorkloadPort> {
        let mut found: Vec<(ServiceName, u16, u16, Protocol)> = Vec::new();
        for definition in self.services_selecting(&pod.meta.namespace, &pod.meta.labels, true) {
            match definition {
                Definition::Service(service) => {
                    let name = ServiceName::new(&service.meta.namespace, &self.service_host(&service.key()));
                    for port in service.spec.spec.ports.iter().filter(|port| transport(&port.protocol) == "TCP") {
                        let app_protocol = port.app_protocol.as_deref();
                        let protocol = protocol::of_service_port("TCP", app_protocol, &port.name, port.port);
                        if let (Some(own), Ok(number)) = (target_port(port, pod), u16::try_from(port.port)) {
                            found.push((name.clone(), own, number, protocol));
                        }
                    }
                }
                Definition::Entry(entry) => {
                    let Some(host) = entry_hosts(entry).into_iter().next() else { continue };
                    let name = ServiceName::new(&entry.meta.namespace, &host);
                    for port in &entry.spec.ports {
                        let own = if port.target_port == 0 { port.number } else { port.target_port };
                        let word = if port.protocol.is_empty() { &port.name } else { &port.protocol };
                        if let (Ok(own), Ok(number)) = (u16::try_from(own), u16::try_from(port.number)) {
                            found.push((name.clone(), own, number, protocol::of_word(word).unwrap_or_default()));
                        }
                    }
                }
            }
        }
        found.sort();
        let mut ports = BTreeMap::new();
        for (name, own, number, protocol) in found {
            ports.entry(own).or_insert((protocol, name, number));
        }
        ports
    }
}

/// The pod's port behind a service's port: a number, or the name of a container's port.
fn target_port(port: &ServicePort, pod: &Object<Pod>) -> Option<u16> {
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::Name(name)) => {
            let spec = &pod.spec.spec;
            let mut all = spec.containers.iter().chain(&spec.init_containers).flat_map(|container| &container.ports);
            let named = |of: &&mesh_crd::kubernetes::ContainerPort| {
                of.name == *name && transport(&of.protocol) == transport(&port.protocol)
            };
            all.find(named)?.container_port
        }
    };
    u16::try_from(number).ok().filter(|number| *number != 0)
}
