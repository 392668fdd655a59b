//! What objects say that more than one part of the compiler needs: addresses, hosts, uids, selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_crd::kubernetes::{EndpointSlice, Pod, Service};
use mesh_crd::networking::ServiceEntry;
use mesh_crd::{Object, ObjectKey, labels};

/// The Service that an EndpointSlice belongs to.
pub(crate) fn slice_service(slice: &Object<EndpointSlice>) -> Option<ObjectKey> {
    Some(ObjectKey::new(&slice.meta.namespace, slice.meta.label(labels::SERVICE_NAME)?))
}

/// The pods that an EndpointSlice names. A slice can only name pods of its own namespace.
pub(super) fn slice_pods(slice: &Object<EndpointSlice>) -> BTreeSet<ObjectKey> {
    let targets = slice.spec.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref());
    targets.filter(|target| target.kind == "Pod").map(|t| ObjectKey::new(&slice.meta.namespace, &t.name)).collect()
}

/// An address, in the one form that all addresses are kept and compared in: `::ffff:10.0.0.1` leads to 10.0.0.1, and
/// must not be another address than that.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// The addresses that an EndpointSlice lists.
pub(super) fn slice_addresses(slice: &Object<EndpointSlice>) -> BTreeSet<IpAddr> {
    slice.spec.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).filter_map(|ip| parse_address(ip)).collect()
}

/// A Service's own addresses. `externalIPs` are not among them: anybody may write any address there
/// (CVE-2020-8554), and the mesh must not send one namespace's traffic to another by it.
pub(crate) fn service_addresses(service: &Object<Service>) -> Vec<IpAddr> {
    let spec = &service.spec.spec;
    let first = std::iter::once(&spec.cluster_ip);
    let mut addresses = Vec::new();
    for ip in first.chain(&spec.cluster_ips).filter_map(|ip| parse_address(ip)) {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}

/// The hosts that a ServiceEntry defines: as written, lower case. `*` alone defines nothing.
pub(crate) fn entry_hosts(entry: &Object<ServiceEntry>) -> Vec<String> {
    let clean = |host: &String| host.trim_end_matches('.').to_ascii_lowercase();
    let usable = |host: &String| !host.is_empty() && host != "*" && !host.contains('/');
    entry.spec.hosts.iter().map(clean).filter(usable).collect()
}

/// The addresses of a ServiceEntry as networks; a plain address is a network of one.
pub(crate) fn entry_networks(entry: &Object<ServiceEntry>) -> Vec<IpNet> {
    entry.spec.addresses.iter().filter_map(|text| parse_network(text)).collect()
}

/// An address or a CIDR.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(network.trunc())
}

/// Whether a network is one address.
pub(crate) fn is_single(network: IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// The addresses of the endpoints that a ServiceEntry lists.
pub(super) fn entry_endpoint_addresses(entry: &Object<ServiceEntry>) -> Vec<IpAddr> {
    entry.spec.endpoints.iter().filter_map(|endpoint| parse_address(&endpoint.address)).collect()
}

/// A pod's addresses.
pub(crate) fn pod_addresses(pod: &Object<Pod>) -> Vec<IpAddr> {
    let status = &pod.spec.status;
    let mut addresses = Vec::new();
    let texts = std::iter::once(&status.pod_ip).chain(status.pod_ips.iter().map(|ip| &ip.ip));
    for ip in texts.filter_map(|ip| parse_address(ip)) {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}

/// The addresses by which a pod may be found: none on the node's network, none once it has ended.
pub(super) fn indexed_pod_addresses(pod: &Object<Pod>) -> Vec<IpAddr> {
    if pod.spec.spec.host_network || has_ended(pod) { Vec::new() } else { pod_addresses(pod) }
}

/// Whether all of a pod's containers have ended for good.
pub(crate) fn has_ended(pod: &Object<Pod>) -> bool {
    matches!(pod.spec.status.phase.as_str(), "Succeeded" | "Failed")
}

/// The uid under which a pod's resources are named.
pub(crate) fn pod_uid(pod: &Object<Pod>) -> String {
    match pod.meta.uid.as_str() {
        "" => format!("pod.{}.{}", pod.meta.namespace, pod.meta.name),
        uid => uid.to_owned(),
    }
}

/// Whether all of a selector's labels are among `labels`. An empty selector selects everything.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
