//! Endpoints: which pods stand behind a Service, as EndpointSlice objects, as nat rules and as DNS names. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4};

use serde_json::{Value, json};

use super::world::{PodEntry, World};
use crate::dns::zone::Zone;
use crate::net::addresses::NODE_NAME;
use crate::net::services::VirtualPort;
use crate::objects::manifest::Object;

/// The most endpoints of one slice, as in Kubernetes.
const SLICE_ENDPOINTS_MAX: usize = 100;

/// A pod behind a Service.
struct Member<'a> {
    uid: &'a str,
    pod: &'a PodEntry,
    address: std::net::Ipv4Addr,
    ready: bool,
    serving: bool,
}

/// The EndpointSlices of all Services that select pods.
pub(crate) fn slices(world: &World) -> Vec<Value> {
    world.of_kind("", "Service").flat_map(|service| slices_of(world, service)).collect()
}

fn slices_of(world: &World, service: &Object) -> Vec<Value> {
    let members = members(world, service);
    if !selects(service) {
        return Vec::new();
    }
    // Pods may give a named port different numbers; each set of numbers has its own slice.
    let mut groups: BTreeMap<Vec<Option<u16>>, Vec<&Member<'_>>> = BTreeMap::new();
    for member in &members {
        let numbers = ports(service).map(|port| target(port, member.pod)).collect();
        groups.entry(numbers).or_default().push(member);
    }
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    let mut out = Vec::new();
    for (numbers, members) in groups {
        let chunks: Vec<&[&Member<'_>]> =
            if members.is_empty() { vec![&[]] } else { members.chunks(SLICE_ENDPOINTS_MAX).collect() };
        for chunk in chunks {
            out.push(slice(service, out.len(), &numbers, chunk));
        }
    }
    out
}

fn slice(service: &Object, index: usize, numbers: &[Option<u16>], members: &[&Member<'_>]) -> Value {
    let (namespace, name) = (&service.key.namespace, &service.key.name);
    let ports: Vec<Value> = ports(service)
        .zip(numbers)
        .filter_map(|(port, number)| {
            let mut out = json!({"port": (*number)?, "protocol": port["protocol"].as_str().unwrap_or("TCP")});
            out["name"] = port["name"].as_str().unwrap_or_default().into();
            if let Some(app) = port["appProtocol"].as_str() {
                out["appProtocol"] = app.into();
            }
            Some(out)
        })
        .collect();
    let endpoints: Vec<Value> = members
        .iter()
        .map(|m| {
            let mut endpoint = json!({
                "addresses": [m.address.to_string()],
                "conditions": {"ready": m.ready, "serving": m.serving, "terminating": m.pod.terminating()},
                "nodeName": NODE_NAME,
                "targetRef": {"kind": "Pod", "namespace": m.pod.namespace, "name": m.pod.name, "uid": m.uid},
            });
            if let Some(hostname) = hostname(service, m.pod) {
                endpoint["hostname"] = hostname.into();
            }
            endpoint
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{index}"),
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name,
                "uid": service.value["metadata"]["uid"], "controller": true,
            }],
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// The virtual ports of all Services that have an address, sorted.
pub(crate) fn virtual_ports(world: &World) -> Vec<VirtualPort> {
    let mut out = Vec::new();
    for service in world.of_kind("", "Service") {
        let Some(address) = World::service_address(service) else { continue };
        let members = members(world, service);
        // While nobody is ready, those that end but still serve are better than nothing (as in kube-proxy).
        let any_ready = members.iter().any(|m| m.ready);
        for port in ports(service) {
            let Some(number) = number(&port["port"]) else { continue };
            let protocol = if port["protocol"] == "UDP" { "udp" } else { "tcp" };
            let chosen = members.iter().filter(|m| if any_ready { m.ready } else { m.serving });
            let mut backends: Vec<_> =
                chosen.filter_map(|m| Some(SocketAddrV4::new(m.address, target(port, m.pod)?))).collect();
            if !selects(service) {
                backends = written_backends(world, service, port);
            }
            out.push(VirtualPort { address, protocol, port: number, backends });
        }
    }
    out.sort();
    out
}

/// The endpoints of a Service without selector: those that people wrote as EndpointSlices.
fn written_backends(world: &World, service: &Object, port: &Value) -> Vec<SocketAddrV4> {
    let mut out = Vec::new();
    for slice in world.of_kind("discovery.k8s.io", "EndpointSlice") {
        let value = &slice.value;
        let of = &value["metadata"]["labels"]["kubernetes.io/service-name"];
        if slice.key.namespace != service.key.namespace || *of != service.key.name.as_str() {
            continue;
        }
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let same = |p: &&Value| text(&p["name"]) == text(&port["name"]);
        let found = value["ports"].as_array().into_iter().flatten().find(same).and_then(|p| number(&p["port"]));
        let Some(number) = found else { continue };
        let ready = |e: &&Value| e["conditions"]["ready"] != false;
        let endpoints = value["endpoints"].as_array().into_iter().flatten().filter(ready);
        let addresses = endpoints.filter_map(|e| e["addresses"][0].as_str()?.parse().ok());
        out.extend(addresses.map(|a| SocketAddrV4::new(a, number)));
    }
    out
}

/// The names of all Services.
pub(crate) fn zone(world: &World, domain: &str) -> Zone {
    let mut zone = Zone::new(domain);
    for service in world.of_kind("", "Service") {
        let name = format!("{}.{}.svc.{domain}", service.key.name, service.key.namespace);
        if let Some(external) = service.value["spec"]["externalName"].as_str() {
            zone.entry(&name).alias = Some(external.trim_end_matches('.').to_owned());
            continue;
        }
        let address = World::service_address(service);
        zone.entry(&name).addresses.extend(address.map(IpAddr::V4));
        let ready: Vec<_> = members(world, service).into_iter().filter(|m| m.ready).collect();
        for member in &ready {
            if address.is_none() {
                zone.entry(&name).addresses.push(member.address.into());
            }
            let host = hostname(service, member.pod).map(str::to_owned);
            let host = host.unwrap_or_else(|| member.address.to_string().replace('.', "-"));
            let host = format!("{host}.{name}");
            zone.entry(&host).addresses.push(member.address.into());
        }
        for port in ports(service) {
            let (Some(number), Some(port_name)) = (number(&port["port"]), port["name"].as_str()) else { continue };
            let protocol = if port["protocol"] == "UDP" { "_udp" } else { "_tcp" };
            zone.entry(&format!("_{port_name}.{protocol}.{name}")).ports.push((number, name.clone()));
        }
    }
    zone
}

/// A ready endpoint of a Service's port.
pub(crate) fn any_endpoint(world: &World, service: &Object, wanted: u16) -> Option<SocketAddrV4> {
    let port = ports(service).find(|p| number(&p["port"]) == Some(wanted))?;
    let members = members(world, service);
    members.iter().filter(|m| m.ready).find_map(|m| Some(SocketAddrV4::new(m.address, target(port, m.pod)?)))
}

fn members<'a>(world: &'a World, service: &Object) -> Vec<Member<'a>> {
    if !selects(service) {
        return Vec::new();
    }
    let selector = service.value["spec"]["selector"].as_object();
    let early = service.value["spec"]["publishNotReadyAddresses"] == true;
    let matches = |pod: &PodEntry| {
        let labels = &pod.object["metadata"]["labels"];
        pod.namespace == service.key.namespace && selector.into_iter().flatten().all(|(k, v)| labels[k.as_str()] == *v)
    };
    let mut out: Vec<_> = world
        .pods
        .iter()
        .filter(|(_, pod)| matches(pod) && pod.status.pid.is_some())
        .filter_map(|(uid, pod)| {
            let IpAddr::V4(address) = *pod.status.addresses.first()? else { return None };
            let serving = pod.status.ready();
            Some(Member { uid, pod, address, ready: early || serving && !pod.terminating(), serving })
        })
        .collect();
    out.sort_by_key(|m| m.address);
    out
}

fn selects(service: &Object) -> bool {
    let spec = &service.value["spec"];
    spec["type"] != "ExternalName" && spec["selector"].as_object().is_some_and(|s| !s.is_empty())
}

fn ports(service: &Object) -> impl Iterator<Item = &Value> {
    service.value["spec"]["ports"].as_array().into_iter().flatten()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok())
}

/// The number of a Service's target port in one pod: a number, or the name of a port of any of its containers.
fn target(port: &Value, pod: &PodEntry) -> Option<u16> {
    let target = &port["targetPort"];
    match target {
        Value::Null => number(&port["port"]),
        Value::Number(_) => number(target),
        _ => pod.spec.all_containers().find_map(|c| c.port(target)),
    }
}

/// The host name under which a pod is found below a Service: the one that it asks for, if its subdomain is the Service.
fn hostname<'a>(service: &Object, pod: &'a PodEntry) -> Option<&'a str> {
    let hostname = pod.spec.hostname.as_deref()?;
    (pod.spec.subdomain.as_deref() == Some(service.key.name.as_str())).then_some(hostname)
}

#[cfg(test)]
mod tests;
