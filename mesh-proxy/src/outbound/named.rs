//! What the host that a client names means: it chooses the route among the hosts visible on the port; an unknown one on
//! a mesh address goes to that address's service.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_core::config::{HostAnswer, Resolution};
use mesh_core::destination::parse_authority;
use mesh_core::reason::Reason;

use super::place::{Place, Way};
use crate::config::View;
use crate::listen::local::Local;
use crate::telemetry::record::Failure;

/// Finds the way of a request or TLS connection by the host it names on the dialled port.
///
/// # Errors
/// The control plane does not say, or only known hosts are allowed.
pub(super) async fn find(
    local: &Local,
    mut view: Arc<View>,
    place: &Place,
    authority: &str,
    dialled: u16,
) -> Result<(Arc<View>, Way), Failure> {
    let host = match parse_authority(authority) {
        Ok(parsed) => parsed.host,
        Err(error) => return Err(Failure::new(Reason::BadRequest, error.to_string())),
    };
    let asks = match &place.way {
        // The usual case: the host is the name of the service that was dialled.
        Way::Service { name, .. } => *name.host != *host,
        Way::Original | Way::ByNameOnly => place.by_name,
        Way::Workload(_) | Way::Hidden(_) => false,
    };
    if !asks || host.parse::<IpAddr>().is_ok() {
        return by_address(place).map(|way| (view, way));
    }
    let host: Arc<str> = host.as_ref().into();
    let port = match &place.way {
        Way::Service { port, .. } => *port,
        Way::Workload(_) | Way::Hidden(_) | Way::Original | Way::ByNameOnly => dialled,
    };
    if view.host(&host, port).is_none() {
        let resolved = local.worker.discovery.resolve_host(&host, port).await;
        view = resolved.map_err(|error| Failure::new(Reason::DiscoveryUnavailable, format!("{host}: {error}")))?;
    }
    let answer = view.host(&host, port).map(|held| held.answer.clone());
    let way = match answer {
        Some(HostAnswer::Service(name) | HostAnswer::Routes(name)) => {
            let direct = match &place.way {
                Way::Service { direct: Some(direct), .. } if is_headless_member(&view, &name, direct) => Some(direct),
                _ => None,
            };
            Way::Service { direct: direct.cloned(), name, port }
        }
        Some(HostAnswer::Absent) | None => by_address(place)?,
    };
    Ok((view, way))
}

fn by_address(place: &Place) -> Result<Way, Failure> {
    match &place.way {
        Way::ByNameOnly => Err(Reason::RegistryOnly.into()),
        way => Ok(way.clone()),
    }
}

/// Clients of a headless service choose the workload themselves.
fn is_headless_member(
    view: &View,
    name: &mesh_core::config::ServiceName,
    direct: &mesh_core::config::Endpoint,
) -> bool {
    view.service(name).is_some_and(|held| {
        let headless = held.service.as_ref().is_some_and(|service| service.resolution == Resolution::Headless);
        headless && held.endpoints.get(&direct.uid).is_some()
    })
}
