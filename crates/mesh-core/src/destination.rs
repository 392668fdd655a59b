//! What a captured connection's original destination means, and what host names mean.
//!
//! Pure: the caller holds (or asks for, and waits for) the answers of the control plane; here it is decided what they
//! lead to. Never plaintext to an address that may be in the mesh: where the control plane does not answer, refuse.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{AddressAnswer, Endpoint, HiddenReason, MeshSettings, OutboundPolicy, ServiceName};
use crate::reason::Reason;

mod host;
pub use host::{Authority, HostError, aliases, candidates, parse_authority};

/// The proxy's own ports: outbound, inbound, HBONE, merged metrics and probes, health, DNS, metrics, admin.
pub const PROXY_PORTS: [u16; 8] = [15000, 15001, 15006, 15008, 15020, 15021, 15053, 15090];

/// The prefixes in which mesh addresses can lie, for fast questions.
#[derive(Clone, Debug)]
pub struct MeshPrefixes {
    nets: Vec<IpNet>,
}

impl MeshPrefixes {
    /// Takes the prefixes of the settings; private ranges always count as inside.
    #[must_use]
    pub fn compile(settings: &MeshSettings) -> Self {
        Self { nets: IpNet::aggregate(&settings.mesh_prefixes) }
    }

    /// Whether a mesh address can be this one. What is outside is external at once, without asking.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_private(address) || self.nets.iter().any(|net| net.contains(&address))
    }
}

/// 10/8, 172.16/12, 192.168/16, 100.64/10 and fc00::/7.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// What is known about an address.
#[derive(Clone, Copy, Debug)]
pub enum Knowledge<'a> {
    /// The proxy does not hold the answer (yet).
    NotHeld,
    /// The control plane did not answer in time.
    TimedOut,
    /// The answer.
    Held(&'a AddressAnswer),
}

/// What to do with a connection that the pod's application makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound<'a> {
    /// Subscribe to `address/<ip>`, wait, and ask again.
    Ask,
    /// A Service's address: [`service_by_port`] says which of these.
    Services(&'a [ServiceName]),
    /// A workload, dialled directly: [`service_of_workload`] says as which service's port.
    Workload {
        /// The workload.
        endpoint: &'a Arc<Endpoint>,
        /// The visible services that select it.
        services: &'a [ServiceName],
    },
    /// Pass to the original destination. Where `by_name`, HTTP and TLS ask for their host first.
    Passthrough {
        /// Hosts without addresses are visible, so the name may be known although the address is not.
        by_name: bool,
    },
    /// It exists but is not visible: opaque TCP, with mutual TLS to the owning workload where that is meshed.
    Hidden {
        /// The owning workload, where there is one.
        endpoint: Option<&'a Arc<Endpoint>>,
        /// Why it is hidden.
        reason: HiddenReason,
    },
    /// Nobody described the address, and REGISTRY_ONLY refuses such; but hosts without addresses are visible: refuse with
    /// `registry_only` unless HTTP's or TLS's host is known.
    ByNameOnly,
    /// Close (or answer) with this reason.
    Refused(Reason),
}

/// Decides about an outbound connection by its original destination.
///
/// `own` are the pod's own addresses.
#[must_use]
pub fn outbound<'a>(
    destination: SocketAddr,
    own: &[IpAddr],
    knowledge: Knowledge<'a>,
    settings: &MeshSettings,
    prefixes: &MeshPrefixes,
) -> Outbound<'a> {
    let address = destination.ip().to_canonical();
    if is_own(address, own) && PROXY_PORTS.contains(&destination.port()) {
        return Outbound::Refused(Reason::ProxyPort);
    }
    if !prefixes.contains(address) {
        return unknown(settings);
    }
    match knowledge {
        Knowledge::NotHeld => Outbound::Ask,
        Knowledge::TimedOut => Outbound::Refused(Reason::DiscoveryUnavailable),
        Knowledge::Held(AddressAnswer::Absent) => unknown(settings),
        Knowledge::Held(AddressAnswer::Services(services)) => Outbound::Services(services),
        Knowledge::Held(AddressAnswer::Workload { endpoint, services }) => Outbound::Workload { endpoint, services },
        Knowledge::Held(AddressAnswer::Hidden { endpoint, reason }) => match settings.outbound_policy {
            OutboundPolicy::AllowAny => Outbound::Hidden { endpoint: endpoint.as_ref(), reason: *reason },
            OutboundPolicy::RegistryOnly => Outbound::Refused(Reason::Hidden),
        },
    }
}

/// A destination that nobody described.
fn unknown<'a>(settings: &MeshSettings) -> Outbound<'a> {
    match (settings.outbound_policy, settings.hosts_without_addresses) {
        (OutboundPolicy::AllowAny, by_name) => Outbound::Passthrough { by_name },
        (OutboundPolicy::RegistryOnly, true) => Outbound::ByNameOnly,
        (OutboundPolicy::RegistryOnly, false) => Outbound::Refused(Reason::RegistryOnly),
    }
}

fn is_own(address: IpAddr, own: &[IpAddr]) -> bool {
    address.is_loopback() || address.is_unspecified() || own.contains(&address)
}

/// Which of the services that share an address has the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByPort<'a> {
    /// This one.
    Found(&'a ServiceName),
    /// Hold this one first, then ask again.
    Ask(&'a ServiceName),
    /// None of them: as a destination that nobody described ([`undeclared_port`]).
    Missing,
}

/// Finds the service for a port: the first that has it wins. `has_port` says `None` where the service is not held.
#[must_use]
pub fn service_by_port(services: &[ServiceName], has_port: impl Fn(&ServiceName) -> Option<bool>) -> ByPort<'_> {
    for service in services {
        match has_port(service) {
            Some(true) => return ByPort::Found(service),
            Some(false) => {}
            // A later one may have it, but then an earlier one could take it away again: order is the rule.
            None => return ByPort::Ask(service),
        }
    }
    ByPort::Missing
}

/// What a port of a service's address means that the service does not declare: as in Istio, what nobody described.
#[must_use]
pub fn undeclared_port(settings: &MeshSettings) -> Outbound<'static> {
    match settings.outbound_policy {
        OutboundPolicy::AllowAny => Outbound::Passthrough { by_name: false },
        OutboundPolicy::RegistryOnly => Outbound::Refused(Reason::RegistryOnly),
    }
}

/// As which service a workload's own port is dialled: the first (by the order given) whose endpoint maps some service
/// port to it. The candidates are a service's name and the `ports` of the workload's endpoint in that service.
///
/// None: the port belongs to no service; the connection is opaque, to the workload itself.
#[must_use]
pub fn service_of_workload<'a>(
    own_port: u16,
    candidates: impl IntoIterator<Item = (&'a ServiceName, &'a BTreeMap<u16, u16>)>,
) -> Option<(&'a ServiceName, u16)> {
    candidates.into_iter().find_map(|(service, ports)| {
        let port = ports.iter().find(|(_, target)| **target == own_port).map(|(port, _)| *port)?;
        Some((service, port))
    })
}

/// Decides whether a connection that arrived on the inbound port may be served at all, by its original destination.
///
/// # Errors
/// [`Reason::NotOwnAddress`] and [`Reason::ProxyPort`]: close.
pub fn inbound(original: SocketAddr, own: &[IpAddr]) -> Result<(), Reason> {
    let address = original.ip().to_canonical();
    if !own.contains(&address) {
        return Err(Reason::NotOwnAddress);
    }
    if PROXY_PORTS.contains(&original.port()) {
        return Err(Reason::ProxyPort);
    }
    Ok(())
}

/// The source address of the inbound proxy's connections to the application (IPv4).
pub const INBOUND_SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

#[cfg(test)]
mod tests;
