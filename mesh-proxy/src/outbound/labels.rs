//! The series of what this pod asks of others.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mesh_core::config::{Endpoint, ServiceName};

use crate::config::View;
use crate::listen::local::Local;
pub(super) use crate::telemetry::labels::{BLACK_HOLE, PASSTHROUGH};
use crate::telemetry::labels::{Protocol, Reporter, Route, Security};
use crate::telemetry::peer::{Peer, UNKNOWN};

/// What a request or connection goes to, as far as it is known.
pub(super) struct Destination<'a> {
    /// The service, or what stands for it.
    pub(super) service: Option<&'a ServiceName>,
    /// What stands for it, and the host that was named.
    pub(super) instead: (&'static str, &'a str),
    /// The endpoint.
    pub(super) endpoint: Option<&'a Endpoint>,
    /// The endpoint's identity was verified, or will have been before anything is sent.
    pub(super) mutual_tls: bool,
}

/// One worker's labels of destinations: made once per destination and configuration, not once per request. Addresses
/// are those of a view's own parts; a view's generation is never used twice, so an address cannot come to mean another.
#[derive(Debug, Default)]
pub(crate) struct Known {
    generation: u64,
    routes: HashMap<Address, Arc<Route>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Address {
    service: usize,
    endpoint: usize,
    protocol: Protocol,
    mutual_tls: bool,
}

/// Destinations that are kept.
const KNOWN_MAX: usize = 1024;

/// The labels of a request's destination, interned.
pub(super) fn request(local: &Local, view: &View, to: &Destination<'_>, protocol: Protocol) -> Arc<Route> {
    let Some(service) = to.service else { return local.http.route(route(local, view, to, protocol)) };
    let address = Address {
        service: Arc::as_ptr(&service.host).cast::<u8>() as usize,
        endpoint: to.endpoint.map_or(0, |endpoint| std::ptr::from_ref(endpoint) as usize),
        protocol,
        mutual_tls: to.mutual_tls,
    };
    let mut known = local.labels.borrow_mut();
    if known.generation != view.generation() || known.routes.len() >= KNOWN_MAX {
        known.routes.clear();
        known.generation = view.generation();
    }
    let made = || local.http.route(route(local, view, to, protocol));
    Arc::clone(known.routes.entry(address).or_insert_with(made))
}

/// The labels.
pub(super) fn route(local: &Local, view: &View, to: &Destination<'_>, protocol: Protocol) -> Route {
    let destination = match to.endpoint {
        Some(endpoint) => {
            let identity = endpoint.identity.as_ref().filter(|_| to.mutual_tls);
            Peer::of(&endpoint.workload, identity)
        }
        None => Peer::unknown(),
    };
    let (service, service_name, service_namespace): (Arc<str>, Arc<str>, Arc<str>) = match to.service {
        Some(name) => {
            let short = name.host.split('.').next().unwrap_or(&name.host);
            let is_kubernetes = name.host.contains(".svc.");
            let shown = if is_kubernetes { short } else { &name.host };
            (Arc::clone(&name.host), shown.into(), Arc::clone(&name.namespace))
        }
        None => {
            let host = if to.instead.1.is_empty() { UNKNOWN } else { to.instead.1 };
            (host.into(), to.instead.0.into(), UNKNOWN.into())
        }
    };
    Route {
        reporter: Reporter::Source,
        source: local.me(view).peer,
        destination: Arc::new(destination),
        service,
        service_name,
        service_namespace,
        protocol,
        security: Security::Unknown,
    }
}

/// `outbound|9080|v1|reviews.bookinfo.svc.cluster.local`, as Envoy names it.
pub(super) fn cluster_name(service: &ServiceName, subset: Option<&str>, port: u16) -> Rc<str> {
    format!("outbound|{port}|{}|{}", subset.unwrap_or_default(), service.host).into()
}
