//! Endpoints, with what this proxy itself knows of their state.

use std::collections::BTreeMap;

use mesh_core::config::{self, Health, ProxyKind};
use mesh_core::time::Millis;
use serde::Serialize;

use super::common::{Locality, Workload};
use crate::config::{Cluster, ServiceView, View};

/// One endpoint of one service.
#[derive(Serialize)]
pub(in crate::admin) struct Endpoint {
    /// `<namespace>/<host>`.
    service: String,
    uid: String,
    addresses: Vec<String>,
    /// The name that is resolved where there are no addresses.
    hostname: Option<String>,
    /// The service's port → the workload's own.
    ports: BTreeMap<u16, u16>,
    /// What the control plane says: `healthy`, `draining` (ends, still serves) or `unhealthy`.
    health: &'static str,
    /// SPIFFE id that its certificate must have.
    identity: Option<String>,
    /// Whether it is spoken to in mesh mutual TLS.
    mesh_tls: bool,
    /// The workload's ports on which plaintext is right.
    plaintext_ports: Vec<u16>,
    /// `none`, `mesh` or `istio`.
    proxy: &'static str,
    weight: u32,
    /// Empty is the default network.
    network: String,
    locality: Locality,
    labels: BTreeMap<String, String>,
    workload: Workload,
    /// The destinations that it belongs to, with its state in each.
    destinations: Vec<Destination>,
}

/// A port of the service, perhaps of a subset.
#[derive(Serialize)]
struct Destination {
    subset: Option<String>,
    /// The service's port.
    port: u16,
    /// Requests and connections that it is working on for this proxy.
    active_requests: u32,
    /// How long it is still left out, since it kept failing; `null`: it is not.
    ejected_ms: Option<u64>,
}

/// All endpoints of all services. `now` counts from when the workers began.
pub(in crate::admin) fn all(view: &View, now: Millis) -> Vec<Endpoint> {
    let mut services: Vec<_> = view.services().collect();
    services.sort_by_key(|(name, _)| *name);
    let endpoints = services.into_iter().flat_map(|(name, held)| {
        let clusters = clusters(held);
        let service = name.to_string();
        held.endpoints.iter().map(move |member| endpoint(&service, member, &clusters, now)).collect::<Vec<_>>()
    });
    endpoints.collect()
}

/// The destinations of a service: its ports, then those of its subsets.
fn clusters(held: &ServiceView) -> Vec<&Cluster> {
    let Some(service) = &held.service else { return Vec::new() };
    let plain = service.ports.keys().map(|port| (None, *port));
    let subsets = service.subsets.iter();
    let subsets =
        subsets.flat_map(|(name, subset)| subset.policies.keys().map(move |port| (Some(name.as_str()), *port)));
    plain.chain(subsets).filter_map(|(subset, port)| held.cluster(subset, port).map(AsRef::as_ref)).collect()
}

fn endpoint(service: &str, endpoint: &config::Endpoint, clusters: &[&Cluster], now: Millis) -> Endpoint {
    let destinations = clusters.iter().filter_map(|cluster| {
        let members = cluster.balancer(false).members();
        let at = members.binary_search_by(|member| member.endpoint.uid.cmp(&endpoint.uid)).ok()?;
        let state = &members[at].state;
        Some(Destination {
            subset: cluster.subset.as_ref().map(ToString::to_string),
            port: cluster.port,
            active_requests: state.active(),
            ejected_ms: state.ejected_until(now).map(|until| until.0.saturating_sub(now.0)),
        })
    });
    Endpoint {
        service: service.to_owned(),
        uid: endpoint.uid.to_string(),
        addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
        hostname: endpoint.hostname.clone(),
        ports: endpoint.ports.clone(),
        health: match endpoint.health {
            Health::Healthy => "healthy",
            Health::Draining => "draining",
            Health::Unhealthy => "unhealthy",
        },
        identity: endpoint.identity.as_ref().map(ToString::to_string),
        mesh_tls: endpoint.mesh_tls,
        plaintext_ports: endpoint.plaintext_ports.clone(),
        proxy: match endpoint.proxy {
            ProxyKind::None => "none",
            ProxyKind::Mesh => "mesh",
            ProxyKind::Istio => "istio",
        },
        weight: endpoint.weight,
        network: endpoint.network.clone(),
        locality: (&endpoint.locality).into(),
        labels: endpoint.labels.clone(),
        workload: (&endpoint.workload).into(),
        destinations: destinations.collect(),
    }
}
