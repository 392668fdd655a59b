//! What is behind the address that the application dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mesh_core::config::{Endpoint, Protocol, ServiceName};
use mesh_core::destination::{self, ByPort, Knowledge, MeshPrefixes, Outbound};
use mesh_core::reason::Reason;

use crate::config::{KeyHold, View};
use crate::listen::local::Local;
use crate::telemetry::record::Failure;

/// Which way a connection or request goes, before routes are asked.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// To a service's port.
    Service {
        /// The service.
        name: ServiceName,
        /// Its port.
        port: u16,
        /// The workload that the client dialled itself (headless services, pod addresses).
        direct: Option<Arc<Endpoint>>,
    },
    /// To a workload's own port that belongs to no service.
    Workload(Arc<Endpoint>),
    /// It exists but is not visible: opaque, with mutual TLS to the owner where that is meshed.
    Hidden(Option<Arc<Endpoint>>),
    /// To the address that was dialled, of which nobody knows anything.
    Original,
    /// Nowhere by its address: only a known host will do (REGISTRY_ONLY).
    ByNameOnly,
}

/// What an address means.
pub(super) struct Place {
    /// Which way.
    pub(super) way: Way,
    /// What the port is declared to speak.
    pub(super) protocol: Protocol,
    /// Hosts may mean something here although the address does not say so.
    pub(super) by_name: bool,
    /// Keeps the answer from being forgotten while the connection lives.
    #[expect(dead_code, reason = "held, not read")]
    hold: Option<KeyHold>,
}

/// Finds out, asking the control plane where the view does not hold the address.
///
/// # Errors
/// The address is refused.
pub(super) async fn find(local: &Local, original: SocketAddr) -> Result<(Arc<View>, Place), Failure> {
    let mut view = local.worker.views.load();
    let mut timed_out = false;
    loop {
        let settings = view.settings().cloned();
        let settings = settings.ok_or_else(|| Failure::new(Reason::DiscoveryUnavailable, "no configuration yet"))?;
        let held = view.address(original.ip());
        let knowledge = match held {
            Some(held) => Knowledge::Held(&held.answer),
            None if timed_out => Knowledge::TimedOut,
            None => Knowledge::NotHeld,
        };
        let prefixes = MeshPrefixes::compile(&settings);
        let place = |way, protocol, by_name| Place { way, protocol, by_name, hold: held.map(|held| held.hold()) };
        let meant = match destination::outbound(original, &own_addresses(local, &view), knowledge, &settings, &prefixes)
        {
            Outbound::Services(services) => {
                match destination::service_by_port(services, |name| has_port(&view, name, original.port())) {
                    ByPort::Found(name) => {
                        let way = Way::Service { name: name.clone(), port: original.port(), direct: None };
                        let protocol = protocol(&view, name, original.port());
                        let place = place(way, protocol, false);
                        return Ok((view, place));
                    }
                    // Everything that an answer leads to is in the view; a service that is not has been taken away.
                    ByPort::Ask(_) | ByPort::Missing => destination::undeclared_port(&settings),
                }
            }
            other => other,
        };
        let place = match meant {
            Outbound::Ask => {
                match local.worker.discovery.resolve_address(original.ip()).await {
                    Ok(newer) => view = newer,
                    Err(error) => {
                        timed_out = true;
                        tracing::debug!(address = %original.ip(), %error, "the control plane did not answer");
                    }
                }
                continue;
            }
            Outbound::Workload { endpoint, services } => {
                let (way, protocol) = workload(&view, endpoint, services, original.port());
                place(way, protocol, false)
            }
            Outbound::Hidden { endpoint, .. } => place(Way::Hidden(endpoint.cloned()), Protocol::Tcp, false),
            // Without hosts to look up, nothing about the bytes matters.
            Outbound::Passthrough { by_name: false } => place(Way::Original, Protocol::Tcp, false),
            Outbound::Passthrough { by_name: true } => place(Way::Original, Protocol::Unspecified, true),
            Outbound::ByNameOnly => place(Way::ByNameOnly, Protocol::Unspecified, true),
            Outbound::Refused(reason) => return Err(reason.into()),
            Outbound::Services(_) => return Err(Reason::Internal.into()),
        };
        return Ok((view, place));
    }
}

fn workload(view: &View, endpoint: &Arc<Endpoint>, services: &[ServiceName], own_port: u16) -> (Way, Protocol) {
    let in_services = services.iter().filter_map(|name| Some((name, view.endpoints(name)?.get(&endpoint.uid)?)));
    let found = destination::service_of_workload(own_port, in_services.map(|(name, member)| (name, &member.ports)));
    match found {
        Some((name, port)) => {
            let way = Way::Service { name: name.clone(), port, direct: Some(Arc::clone(endpoint)) };
            (way, protocol(view, name, port))
        }
        None => (Way::Workload(Arc::clone(endpoint)), Protocol::Tcp),
    }
}

fn has_port(view: &View, name: &ServiceName, port: u16) -> Option<bool> {
    view.service(name).map(|held| held.service.as_ref().is_some_and(|service| service.ports.contains_key(&port)))
}

fn protocol(view: &View, name: &ServiceName, port: u16) -> Protocol {
    let declared = view.service(name).and_then(|held| held.service.as_ref()?.ports.get(&port));
    declared.map(|port| port.protocol).unwrap_or_default()
}

fn own_addresses(local: &Local, view: &View) -> Vec<IpAddr> {
    match view.inbound() {
        Some(own) => own.inbound.addresses.clone(),
        None => local.worker.bootstrap.instance_ips.clone(),
    }
}
