//! Where a request goes: the routes are asked, and the head is changed as their author wants.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use mesh_core::balance::{self, RequestHash};
use mesh_core::config::{Balancer, Endpoint, HashSpec, HeaderEdits, Resolution, ServiceName};
use mesh_core::fault;
use mesh_core::reason::Reason;
use mesh_core::route::{self, Decision, Rule};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::edits;
use super::labels::{self, Destination};
use super::place::Way;
use crate::config::{Cluster, View};
use crate::http::body::Body;
use crate::http::head::{self, Fields, Target as Aim};
use crate::listen::local::Local;
use crate::telemetry::own::Direction;
use crate::telemetry::record::{ClientFacts, Failure, Record};

/// Where a request goes, with everything that the author of its route asked for.
pub(super) struct Plan {
    pub(super) to: To,
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) destination_edits: HeaderEdits,
    pub(super) hash: Option<u64>,
}

/// What endpoints there are to choose from.
pub(super) enum To {
    /// Those of a cluster.
    Cluster(Arc<Cluster>),
    /// The workload that was dialled, as a cluster treats it.
    Direct(Arc<Cluster>, Arc<Endpoint>),
    /// The address that was dialled, as a cluster treats it.
    DialledAs(Arc<Cluster>),
    /// The address that was dialled.
    Dialled,
}

pub(super) enum Planned {
    To(Plan),
    Answer(Box<Response<Body>>),
}

/// Asks the routes, and changes the head as their author wants.
pub(super) fn decide(
    local: &Local,
    view: &View,
    client: &ClientFacts,
    way: &Way,
    parts: &mut Parts,
    aim: &mut Aim,
    record: &mut Record,
) -> Result<Planned, Failure> {
    let dialled = |record: &mut Record, to, endpoint: Option<&Endpoint>| {
        label(local, view, record, None, (labels::PASSTHROUGH, &aim.authority), endpoint, false);
        record.cluster = Some(labels::PASSTHROUGH.into());
        Ok(Planned::To(Plan { to, rule: None, destination_edits: HeaderEdits::default(), hash: None }))
    };
    let (name, port, direct) = match way {
        Way::Service { name, port, direct } => (name, *port, direct.as_ref()),
        Way::Original => return dialled(record, To::Dialled, None),
        // Opaque by their nature; connections to them never come here.
        Way::Workload(_) | Way::Hidden(_) | Way::ByNameOnly => return Err(Reason::Internal.into()),
    };
    label(local, view, record, Some(name), ("", ""), direct.map(|endpoint| &**endpoint), false);
    let Some(routes) = view.routes(name) else {
        return Err(Failure::new(Reason::DestinationMissing, format!("no routes for {name}")));
    };
    let fields = Fields(&parts.headers);
    let request = head::view(&parts.method, aim, &fields);
    let decision = local.with_rng(|rng| routes.compiled.decide(&request, port, rng));
    let origin = routes.compiled.origin.as_ref();
    record.policy = origin.map(ToString::to_string);
    let (destination, rule, edits, rewritten) = match &decision {
        Decision::Implicit => {
            record.route = Some("default".into());
            let cluster = cluster(view, name, None, port)?;
            let hash = hash(&cluster, Some(&request), client);
            let to = to_endpoints(view, cluster, direct);
            return Ok(Planned::To(Plan { to, rule: None, destination_edits: HeaderEdits::default(), hash }));
        }
        Decision::Route(routed) => {
            let rewritten = routed.rewrite(&aim.path, aim.query.as_deref());
            (&routed.destination.destination, routed.rule, &routed.destination.headers, rewritten)
        }
        Decision::Redirect { rule, redirect, matched } => {
            record.route = Some(Arc::clone(&rule.name));
            let location = route::location(redirect, *matched, &request, port);
            return Ok(Planned::Answer(Box::new(edits::redirect(redirect.status, &location))));
        }
        Decision::Direct { rule, response } => {
            record.route = Some(Arc::clone(&rule.name));
            return Ok(Planned::Answer(Box::new(edits::direct(response))));
        }
        Decision::Invalid { rule, why } => {
            record.route = Some(Arc::clone(&rule.name));
            return Err(Failure::new(Reason::InvalidRule, format!("{}: {why}", route_name(origin, rule))));
        }
        Decision::NotFound => {
            let whose = origin.map_or_else(|| name.to_string(), ToString::to_string);
            return Err(Failure::new(Reason::NoRoute, whose));
        }
    };
    record.route = Some(Arc::clone(&rule.name));
    let ports: SmallVec<[u16; 4]> = service_ports(view, &destination.service);
    let port = route::destination_port(destination, &ports, port);
    let cluster = cluster(view, &destination.service, destination.subset.as_deref(), port)?;
    let hash = hash(&cluster, Some(&request), client);
    // Whoever dialled a workload himself and is routed to its own service meant that workload.
    let direct = direct.filter(|_| destination.service == *name && destination.subset.is_none());
    let to = to_endpoints(view, cluster, direct);
    let (rule, destination_edits) = (Arc::clone(rule), edits.clone());
    if let Some(rewritten) = rewritten {
        let (path_and_query, authority) = (rewritten.path_and_query, rewritten.authority.map(str::to_owned));
        if let Some(target) = path_and_query {
            let (path, query) = match target.split_once('?') {
                Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
                None => (target, None),
            };
            (aim.path, aim.query) = (path, query);
        }
        if let Some(authority) = authority {
            aim.authority = authority;
        }
    }
    edits::request(&mut parts.headers, &rule.headers);
    edits::request(&mut parts.headers, &destination_edits);
    Ok(Planned::To(Plan { to, rule: Some(rule), destination_edits, hash }))
}

fn route_name(origin: Option<&mesh_core::config::Origin>, rule: &Rule) -> String {
    match origin {
        Some(origin) => format!("{origin} rule {}", rule.name),
        None => format!("rule {}", rule.name),
    }
}

pub(super) fn service_ports(view: &View, name: &ServiceName) -> SmallVec<[u16; 4]> {
    let service = view.service(name).and_then(|held| held.service.as_ref());
    service.map(|service| service.ports.keys().copied().collect()).unwrap_or_default()
}

fn cluster(view: &View, name: &ServiceName, subset: Option<&str>, port: u16) -> Result<Arc<Cluster>, Failure> {
    view.cluster(name, subset, port).cloned().ok_or_else(|| {
        let subset = subset.map(|subset| format!(" subset {subset}")).unwrap_or_default();
        Failure::new(Reason::DestinationMissing, format!("{name}{subset} port {port}"))
    })
}

fn to_endpoints(view: &View, cluster: Arc<Cluster>, direct: Option<&Arc<Endpoint>>) -> To {
    let resolution =
        view.service(&cluster.service).and_then(|held| held.service.as_ref()).map(|service| &service.resolution);
    let as_dialled = matches!(resolution, Some(Resolution::OriginalDestination | Resolution::ExternalName(_)));
    match direct {
        Some(endpoint) => To::Direct(cluster, Arc::clone(endpoint)),
        None if as_dialled || cluster.balancer(false).is_passthrough() => To::DialledAs(cluster),
        None => To::Cluster(cluster),
    }
}

pub(super) fn hash(
    cluster: &Cluster,
    request: Option<&mesh_core::request::RequestHead<'_>>,
    client: &ClientFacts,
) -> Option<u64> {
    let Balancer::ConsistentHash(HashSpec { key, .. }) = &cluster.policy.balancer else { return None };
    match balance::request_hash(key, request, client.remote.ip()) {
        RequestHash::Of(hash) => Some(hash),
        RequestHash::MakeCookie | RequestHash::Nothing => None,
    }
}

/// Delays and aborts on purpose.
pub(super) async fn inject_faults(
    local: &Local,
    plan: &Plan,
    record: &mut Record,
    deadline: Option<Instant>,
) -> Result<Option<Response<Body>>, Failure> {
    let Some(fault) = plan.rule.as_ref().and_then(|rule| rule.fault) else { return Ok(None) };
    let drawn = local.with_rng(|rng| fault::draw(&fault, rng));
    if let Some(delay) = drawn.delay {
        record.delayed();
        let until = Instant::now() + delay;
        if let Some(deadline) = deadline.filter(|deadline| *deadline < until) {
            tokio::time::sleep_until(deadline).await;
            return Err(Reason::RequestTimeout.into());
        }
        tokio::time::sleep_until(until).await;
    }
    Ok(drawn.abort.map(|abort| {
        local.count_refusal(Direction::Outbound, Reason::FaultInjected);
        record.explain(Reason::FaultInjected, None);
        edits::abort(&abort, record.grpc)
    }))
}

/// Names the series of a request, as far as its destination is known.
pub(super) fn label(
    local: &Local,
    view: &View,
    record: &mut Record,
    service: Option<&ServiceName>,
    instead: (&'static str, &str),
    endpoint: Option<&Endpoint>,
    mutual_tls: bool,
) {
    let to = Destination { service, instead, endpoint, mutual_tls };
    record.labels = Some(labels::request(local, view, &to, record.protocol()));
}

impl To {
    /// What says how to treat it.
    pub(super) fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::Cluster(cluster) | Self::Direct(cluster, _) | Self::DialledAs(cluster) => Some(cluster),
            Self::Dialled => None,
        }
    }
}
