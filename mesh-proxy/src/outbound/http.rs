//! Requests of the pod's application.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use mesh_core::balance::{self, RequestHash};
use mesh_core::config::{Balancer, Endpoint, HashSpec, HeaderEdits, Protocol, ProxyKind, Resolution, ServiceName};
use mesh_core::detect::Http;
use mesh_core::limits::Limit;
use mesh_core::outlier;
use mesh_core::reason::Reason;
use mesh_core::retry::{self, Next, Retry};
use mesh_core::route::{self, Decision, Rule};
use mesh_core::{fault, retry::Attempt};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::attempt::{self, Attempted};
use super::labels::{self, Destination};
use super::place::{Place, Way};
use super::{edits, named};
use crate::config::{Cluster, View};
use crate::http::body::{Body, Observed};
use crate::http::head::{self, Fields, Target as Aim};
use crate::http::hop::{self, Hop};
use crate::http::hygiene::{self, MESH_PEER, MESH_REASON, MESH_UPGRADED};
use crate::http::replay::Replay;
use crate::http::serve::{self, Answering, Served, UpgradeSlot};
use crate::listen::local::Local;
use crate::telemetry::own::Direction;
use crate::telemetry::record::{ClientFacts, Failure, Record};
use crate::upstream::io::Io;
use crate::upstream::pool::Terms;
use crate::upstream::target::{Security, Speaks, Target};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// One connection of the application.
struct Connection {
    local: Rc<Local>,
    client: Rc<ClientFacts>,
    place: Place,
    upgrade: UpgradeSlot,
}

/// Where a request goes, with everything that the author of its route asked for.
struct Plan {
    to: To,
    rule: Option<Arc<Rule>>,
    destination_edits: HeaderEdits,
    hash: Option<u64>,
}

/// What endpoints there are to choose from.
enum To {
    /// Those of a cluster.
    Cluster(Arc<Cluster>),
    /// The workload that was dialled, as a cluster treats it.
    Direct(Arc<Cluster>, Arc<Endpoint>),
    /// The address that was dialled, as a cluster treats it.
    DialledAs(Arc<Cluster>),
    /// The address that was dialled.
    Dialled,
}

/// Serves the requests of one connection.
pub(super) async fn serve(local: &Rc<Local>, client: ClientFacts, place: Place, io: Io, version: Http) {
    let upgrade = UpgradeSlot::default();
    let client = Rc::new(client);
    let connection = Rc::new(Connection { local: Rc::clone(local), client, place, upgrade: upgrade.clone() });
    let answer = {
        let connection = Rc::clone(&connection);
        move |request| Box::pin(serve_request(Rc::clone(&connection), request)) as Answering
    };
    run(local, &connection.client, io, version, upgrade, answer).await;
}

/// Answers all requests of a connection whose address is refused.
pub(super) async fn refuse_all(local: &Rc<Local>, client: ClientFacts, failure: Failure, io: Io, version: Http) {
    let client = Rc::new(client);
    let failure = Rc::new(failure);
    let answer = {
        let (local, client) = (Rc::clone(local), Rc::clone(&client));
        move |request: Request<Incoming>| {
            let view = local.worker.views.load();
            let (parts, _) = request.into_parts();
            let mut record = Record::begin(&local, &view, Direction::Outbound, &client, &parts);
            let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            label(&local, &view, &mut record, None, (labels::BLACK_HOLE, host), None, false);
            let failure = Rc::clone(&failure);
            Box::pin(async move { record.fail(&failure) }) as Answering
        }
    };
    run(local, &client, io, version, UpgradeSlot::default(), answer).await;
}

async fn run(
    local: &Rc<Local>,
    client: &ClientFacts,
    io: Io,
    version: Http,
    upgrade: UpgradeSlot,
    answer: impl Fn(Request<Incoming>) -> Answering,
) {
    let mut drain = local.worker.drain.clone();
    // Outbound serves until TERM: the application may still need others while it ends.
    let goodbye = async move {
        drain.stopping().await;
    };
    let served = match version {
        Http::One => serve::http1(io, goodbye, upgrade, answer).await,
        Http::Two => serve::http2(io, goodbye, answer).await,
    };
    if let Served::Refused(reason) = served {
        local.refuse(Direction::Outbound, reason, client.remote, "hyper answered");
    }
}

/// One request, from head to answer. Decisions are mesh-core's; this function only waits.
async fn serve_request(connection: Rc<Connection>, request: Request<Incoming>) -> Response<Observed> {
    let Connection { local, client, .. } = &*connection;
    let view = local.worker.views.load();
    let (mut parts, body) = request.into_parts();
    let mut record = Record::begin(local, &view, Direction::Outbound, client, &parts);
    let replay = Replay::new(Body::Incoming(body));
    if record.grpc {
        replay.count_messages();
    }
    record.body = Some(replay.clone());
    match exchange(&connection, view, &mut parts, &replay, &mut record).await {
        Ok(response) => record.deliver(response),
        Err(failure) => record.fail(&failure),
    }
}

async fn exchange(
    connection: &Connection,
    view: Arc<View>,
    parts: &mut Parts,
    replay: &Replay,
    record: &mut Record,
) -> Result<Response<Body>, Failure> {
    let Connection { local, client, place, .. } = connection;
    let normalization = view.settings().map(|settings| settings.path_normalization).unwrap_or_default();
    let mut aim =
        head::take_target(parts, normalization).map_err(|bad| Failure::new(Reason::BadRequest, bad.to_string()))?;
    let hop = hop::strip(&mut parts.headers);
    hygiene::from_plaintext_peer(&mut parts.headers);
    local.with_rng(|rng| hygiene::ensure_request_id(&mut parts.headers, rng));
    record.aimed(&aim.authority, &parts.headers);

    let (view, way) = match named::find(local, Arc::clone(&view), place, &aim.authority, client.original.port()).await {
        Ok(found) => found,
        Err(failure) => {
            label(local, &view, record, None, (labels::BLACK_HOLE, &aim.authority), None, false);
            return Err(failure);
        }
    };
    let plan = match decide(local, &view, client, &way, parts, &mut aim, record)? {
        Planned::To(plan) => plan,
        Planned::Answer(response) => return Ok(*response),
    };
    let deadline = plan.rule.as_ref().and_then(|rule| rule.timeout).map(|timeout| Instant::now() + timeout);
    if let Some(response) = inject_faults(local, &plan, record, deadline).await? {
        return Ok(response);
    }
    let response = attempts(connection, &view, &plan, parts, &aim, &hop, replay, record, deadline).await?;
    Ok(back_to_application(response, &plan, record))
}

enum Planned {
    To(Plan),
    Answer(Box<Response<Body>>),
}

/// Asks the routes, and changes the head as their author wants.
fn decide(
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

fn service_ports(view: &View, name: &ServiceName) -> SmallVec<[u16; 4]> {
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
async fn inject_faults(
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

/// Tries until there is an answer that is worth delivering.
#[expect(clippy::too_many_arguments, reason = "one request's whole state; a struct of it would have one user")]
async fn attempts(
    connection: &Connection,
    view: &Arc<View>,
    plan: &Plan,
    parts: &mut Parts,
    aim: &Aim,
    hop: &Hop,
    replay: &Replay,
    record: &mut Record,
    deadline: Option<Instant>,
) -> Result<Response<Incoming>, Failure> {
    let Connection { local, client, .. } = connection;
    let default_retry = Retry::default();
    let retry = plan.rule.as_ref().map_or(&default_retry, |rule| &rule.retry);
    let idempotent = retry::is_idempotent(parts.method.as_str(), parts.headers.contains_key(IDEMPOTENCY_KEY));
    let cluster = plan.to.cluster();
    if let Some(cluster) = cluster {
        record.cluster = Some(labels::cluster_name(&cluster.service, cluster.subset.as_deref(), cluster.port));
        let place = cluster.circuit.enter(Limit::Requests, &cluster.policy.pool.limits);
        record.guards.push(Box::new(place.ok_or(Reason::Overflow)?));
    }
    let mut tried: SmallVec<[u32; 4]> = SmallVec::new();
    let mut permit = None;
    loop {
        record.attempts += 1;
        let chosen = choose(local, plan, client, &tried).await?;
        let ended =
            one_attempt(connection, view, plan, &chosen, parts, aim, hop, replay, record, deadline, retry).await?;
        drop(permit.take());
        let told = ended.told(chosen.endpoint.as_ref());
        observe(local, cluster, &chosen, ended.health());
        let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let number = record.attempts;
        let attempt = Attempt { number, replayable: replay.can_replay(), idempotent, remaining };
        let next = match cluster {
            Some(cluster) => {
                local.with_rng(|rng| retry.after(ended.verdict(told), &attempt, &cluster.budget, &cluster.circuit, rng))
            }
            None => Next::Deliver,
        };
        match next {
            Next::RetryAfter(pause, retry_permit) => {
                local.metrics.own.retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tracing::debug!(to = %chosen.address, attempt = number, "trying again");
                tried.extend(chosen.index);
                permit = Some(retry_permit);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            Next::Deliver => {
                return match ended {
                    Attempted::Answered(response, lease) => {
                        if let Some(told) = told {
                            record.explain(told.reason, Some("told by the other proxy"));
                        }
                        replay.forget();
                        let terms = cluster.map_or(PASSTHROUGH_TERMS, |cluster| attempt::terms(&cluster.policy.pool));
                        record.lease = Some((*lease, terms));
                        Ok(*response)
                    }
                    other => {
                        record.upstream_failure = other.failure(chosen.address, replay.has_failed()).detail;
                        Err(other.failure(chosen.address, replay.has_failed()))
                    }
                };
            }
        }
    }
}

/// How connections to destinations that nobody described are treated.
const PASSTHROUGH_TERMS: Terms = Terms {
    connect_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(3600),
    requests_max: 0,
    life: None,
};

/// The endpoint of one attempt.
struct Chosen {
    address: SocketAddr,
    endpoint: Option<Arc<Endpoint>>,
    index: Option<u32>,
    state: Option<Arc<outlier::EndpointState>>,
}

async fn choose(local: &Local, plan: &Plan, client: &ClientFacts, tried: &[u32]) -> Result<Chosen, Failure> {
    let dialled = |endpoint| Chosen { address: client.original, endpoint, index: None, state: None };
    let cluster = match &plan.to {
        To::Cluster(cluster) => cluster,
        To::Direct(_, endpoint) => return Ok(dialled(Some(Arc::clone(endpoint)))),
        To::DialledAs(_) | To::Dialled => return Ok(dialled(None)),
    };
    let balancer = cluster.balancer(client.original.is_ipv6());
    let picked = local.with_rng(|rng| balancer.pick(plan.hash, tried, local.now(), rng));
    let picked = picked.map_err(|none| Failure::new(none.reason(), describe(cluster)))?;
    let member = picked.member;
    let address = match (member.address, &member.endpoint.hostname) {
        (Some(address), _) => address,
        (None, host) => {
            let host = host.as_deref().unwrap_or_default();
            let resolved = local.names.address(host, member.port, client.original.is_ipv6()).await;
            resolved.map_err(|error| Failure::new(Reason::DnsFailed, error))?
        }
    };
    Ok(Chosen {
        address,
        endpoint: Some(Arc::clone(&member.endpoint)),
        index: Some(picked.index),
        state: Some(Arc::clone(&member.state)),
    })
}

fn describe(cluster: &Cluster) -> String {
    let subset = cluster.subset.as_deref().map(|subset| format!(" subset {subset}")).unwrap_or_default();
    format!("{}{subset} port {}", cluster.service, cluster.port)
}

fn observe(local: &Local, cluster: Option<&Arc<Cluster>>, chosen: &Chosen, outcome: outlier::Outcome) {
    let (Some(cluster), Some(state)) = (cluster, &chosen.state) else { return };
    let Some(config) = &cluster.policy.outlier else { return };
    let balancer = cluster.balancer(false);
    let total = balancer.members().len();
    if let Some(ejection) = outlier::observe(config, state, balancer.pool(), outcome, total, local.now()) {
        tracing::info!(endpoint = %chosen.address, cause = ?ejection.cause, "endpoint is left out for a while");
    }
}

/// One attempt: connect (or take a pooled connection), send, and wait for the answer's head.
#[expect(clippy::too_many_arguments, reason = "as above")]
async fn one_attempt(
    connection: &Connection,
    view: &Arc<View>,
    plan: &Plan,
    chosen: &Chosen,
    parts: &mut Parts,
    aim: &Aim,
    hop: &Hop,
    replay: &Replay,
    record: &mut Record,
    deadline: Option<Instant>,
    retry: &Retry,
) -> Result<Attempted, Failure> {
    let Connection { local, client, upgrade, .. } = connection;
    let policy = plan.to.cluster().map(|cluster| &cluster.policy);
    let tls = policy.map(|policy| policy.tls.clone()).unwrap_or_default();
    let security = attempt::security(&tls, chosen.endpoint.as_deref(), chosen.address.port())?;
    let mutual_tls = matches!(security, Security::Mesh { .. });
    let service = plan.to.cluster().map(|cluster| &cluster.service);
    label(local, view, record, service, (labels::PASSTHROUGH, &aim.authority), chosen.endpoint.as_deref(), mutual_tls);
    record.upstream_host = Some(chosen.address);

    let speaks = speaks(view, plan, parts, hop);
    let target = Target { address: chosen.address, security, speaks, source: None };
    let terms = policy.map_or(PASSTHROUGH_TERMS, |policy| attempt::terms(&policy.pool));
    let try_deadline = retry.per_try_timeout.map(|timeout| Instant::now() + timeout);
    let until = [deadline, try_deadline].into_iter().flatten().min();
    let _active = chosen.state.as_ref().map(outlier::EndpointState::begin);

    let attempt = async {
        let connecting = plan.to.cluster().map(|cluster| {
            cluster.circuit.enter(Limit::Pending, &cluster.policy.pool.limits).ok_or(Failure::from(Reason::Overflow))
        });
        let connecting = connecting.transpose()?;
        // A connection that has failed once may not be the only one that went stale.
        let fresh = record.attempts > 1 && chosen.index.is_none();
        let mut lease = match local.pool.lease(&target, &terms, fresh).await {
            Ok(lease) => lease,
            Err(fault) => return Ok(Attempted::NotConnected(fault)),
        };
        drop(connecting);
        record.upstream_local = lease.connection.local;
        let body = replay.attempt();
        let mut head = parts.clone();
        hop::restore(&mut head.headers, hop, speaks == Speaks::Http2);
        head::aim(&mut head, aim, speaks == Speaks::Http2)
            .map_err(|bad| Failure::new(Reason::BadRequest, bad.to_string()))?;
        if speaks == Speaks::Http2 && parts.version != Version::HTTP_2 && !declares_http2(view, plan) {
            head.headers.insert(MESH_UPGRADED, HeaderValue::from_static("1"));
        }
        describe_once(local, view, chosen, &lease.connection, &mut head);
        let upgraded = hop.upgrade.is_some().then(|| lease.connection.expect_upgrade());
        let sent = std::time::Instant::now();
        match lease.send(Request::from_parts(head, body)).await {
            Ok(response) => {
                record.upstream_time = Some(sent.elapsed());
                if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgraded)) = (response.status(), upgraded) {
                    upgrade.set(upgraded);
                }
                if plan.to.cluster().is_some() {
                    local.memories.answered_http(client.original);
                }
                Ok(Attempted::Answered(Box::new(response), Box::new(lease)))
            }
            Err(fault) => Ok(Attempted::Failed(fault)),
        }
    };
    match until {
        None => attempt.await,
        Some(until) => match tokio::time::timeout_at(until, attempt).await {
            Ok(ended) => ended,
            // The route's own timeout ends the request; a try's only the attempt.
            Err(_) if deadline.is_some_and(|deadline| deadline <= until) => Err(Reason::RequestTimeout.into()),
            Err(_) => Ok(Attempted::TryTimeout),
        },
    }
}

/// What is spoken with an endpoint: what the port declares, or what the client speaks.
fn speaks(view: &View, plan: &Plan, parts: &Parts, hop: &Hop) -> Speaks {
    if parts.version == Version::HTTP_2 {
        return Speaks::Http2;
    }
    let Some(cluster) = plan.to.cluster() else { return Speaks::Http1 };
    let pool = &cluster.policy.pool;
    let wanted = (declares_http2(view, plan) || pool.upgrade_to_http2) && !pool.use_client_protocol;
    // An upgrade (WebSocket) exists in HTTP/1 only.
    if wanted && hop.upgrade.is_none() { Speaks::Http2 } else { Speaks::Http1 }
}

/// Whether the port that a request goes to is declared as HTTP/2.
fn declares_http2(view: &View, plan: &Plan) -> bool {
    let Some(cluster) = plan.to.cluster() else { return false };
    let port = view.service(&cluster.service).and_then(|held| held.service.as_ref()?.ports.get(&cluster.port));
    port.is_some_and(|port| matches!(port.protocol, Protocol::Http2 | Protocol::Grpc))
}

/// Tells another proxy who we are, in the first request of a connection.
fn describe_once(
    local: &Local,
    view: &View,
    chosen: &Chosen,
    connection: &crate::upstream::connection::Connection,
    head: &mut Parts,
) {
    let ours = chosen.endpoint.as_ref().is_some_and(|endpoint| endpoint.proxy == ProxyKind::Mesh);
    if !ours || connection.peer.is_none() || connection.described.replace(true) {
        return;
    }
    if let Some(description) = local.me(view).description {
        head.headers.insert(MESH_PEER, description);
    }
}

/// What comes back to the application: nothing that was meant for this hop, no mark of another proxy, the author's
/// changes.
fn back_to_application(response: Response<Incoming>, plan: &Plan, record: &Record) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let hop = hop::strip(&mut parts.headers);
    if switching {
        hop::restore(&mut parts.headers, &hop, false);
    }
    hygiene::remove_mesh(&mut parts.headers);
    if let Some(reason) = record.reason() {
        parts.headers.insert(MESH_REASON, HeaderValue::from_static(reason.code()));
    }
    if let Some(rule) = &plan.rule {
        edits::response(&mut parts.headers, &rule.headers);
        edits::response(&mut parts.headers, &plan.destination_edits);
    }
    Response::from_parts(parts, if switching { Body::Empty } else { Body::Incoming(body) })
}

fn label(
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
    fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::Cluster(cluster) | Self::Direct(cluster, _) | Self::DialledAs(cluster) => Some(cluster),
            Self::Dialled => None,
        }
    }
}
