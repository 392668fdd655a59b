//! Requests to the application: policy on exactly the target that is forwarded, then the application's answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use mesh_core::detect::{Http, Memory};
use mesh_core::reason::Reason;

use super::peer::Client;
use super::{labels, port, tcp};
use crate::config::{InboundView, View};
use crate::http::body::{Body, Observed};
use crate::http::head::{self, Fields, Target as Aim};
use crate::http::hop::{self, Hop};
use crate::http::hygiene::{self, MESH_UPGRADED};
use crate::http::local as answers;
use crate::http::replay::Replay;
use crate::http::serve::{self, Answering, Served, UpgradeSlot};
use crate::listen::local::Local;
use crate::telemetry::own::Direction;
use crate::telemetry::record::{Failure, Record};
use crate::upstream::failure::{SendFault, unsent};
use crate::upstream::io::Io;
use crate::upstream::pool::Lease;
use crate::upstream::target::Speaks;

/// Attempts with the application: its pooled connections may end at any moment, and what was provably unsent on one of
/// them is sent on another. The last attempt always opens a new one.
const ATTEMPTS_MAX: u32 = 3;

/// Time for clients to learn that the pod ends, until their idle HTTP/1 connections are closed. Also after TERM: an
/// application that is gone is told as `unsent`, and the request goes elsewhere.
const IDLE_WHILE_DRAINING: Duration = Duration::from_secs(1);

/// Serves the requests of one connection.
pub(super) async fn serve(local: &Rc<Local>, client: Rc<Client>, io: Io, version: Http) {
    let mut drain = local.worker.drain.clone();
    // HTTP/2 says goodbye without loss. HTTP/1 cannot: a connection that is closed while it is idle may have a request
    // on its way. So it is told with its next answer (`Connection: close`), and closed only when it had none for a while.
    let goodbye = async move {
        drain.draining().await;
        if version == Http::One {
            tokio::time::sleep(IDLE_WHILE_DRAINING).await;
        }
    };
    let upgrade = UpgradeSlot::default();
    let connection = Rc::new(Connection { local: Rc::clone(local), client, upgrade: upgrade.clone() });
    let answer = {
        let connection = Rc::clone(&connection);
        move |request| Box::pin(serve_request(Rc::clone(&connection), request)) as Answering
    };
    let served = match version {
        Http::One => serve::http1(io, goodbye, upgrade, answer).await,
        Http::Two => serve::http2(io, goodbye, answer).await,
    };
    if let Served::Refused(reason) = served {
        let facts = &connection.client.facts;
        local.refuse(
            Direction::Inbound,
            reason,
            facts.remote,
            Some(facts.original),
            "refused before a request was read",
        );
    }
}

struct Connection {
    local: Rc<Local>,
    client: Rc<Client>,
    upgrade: UpgradeSlot,
}

/// One request, from head to answer. Policy is mesh-core's; this function only asks and obeys.
async fn serve_request(connection: Rc<Connection>, request: Request<Incoming>) -> Response<Observed> {
    let Connection { local, client, .. } = &*connection;
    let view = local.worker.views.load();
    let (mut parts, body) = request.into_parts();
    let mut record = Record::begin(local, &view, Direction::Inbound, &client.facts, &parts);
    record.cluster = Some(port::cluster_name(client.facts.original.port()));
    record.route = Some("default".into());
    let answered = match view.inbound() {
        Some(own) => exchange(&connection, &view, own, &mut parts, body, &mut record).await,
        None => Err(Failure::new(Reason::DiscoveryUnavailable, "this proxy has no configuration yet")),
    };
    let mut response = match answered {
        Ok(response) => record.deliver(response),
        Err(failure) => record.fail(&failure),
    };
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if parts.version != Version::HTTP_2 && !switching && local.worker.drain.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn exchange(
    connection: &Connection,
    view: &Arc<View>,
    own: &Arc<InboundView>,
    parts: &mut Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<Body>, Failure> {
    let Connection { local, client, .. } = connection;
    let facts = &client.facts;
    client.take_description(&mut parts.headers);
    let protocol = record.protocol();
    let make = || local.http.route(labels::route(local, view, own, client, protocol));
    record.labels = Some(client.labels(view.generation(), protocol, make));

    let normalization = view.settings().map(|settings| settings.path_normalization).unwrap_or_default();
    let aim =
        head::take_target(parts, normalization).map_err(|bad| Failure::new(Reason::BadRequest, bad.to_string()))?;
    let hop = hop::strip(&mut parts.headers);
    let upgraded = client.verified.is_some() && parts.headers.contains_key(&MESH_UPGRADED);
    sanitize(own, client, parts);
    local.with_rng(|rng| hygiene::ensure_request_id(&mut parts.headers, rng));
    record.aimed(&aim.authority, &parts.headers);

    authorize(own, client, parts, &aim)?;

    let replay = Replay::new(Body::Incoming(body));
    if record.grpc {
        replay.count_messages();
    }
    record.body = Some(replay.clone());
    let speaks = if parts.version == Version::HTTP_2 && !upgraded { Speaks::Http2 } else { Speaks::Http1 };
    hop::restore(&mut parts.headers, &hop, speaks == Speaks::Http2);
    head::aim(parts, &aim, speaks == Speaks::Http2).map_err(|bad| Failure::new(Reason::BadRequest, bad.to_string()))?;

    let target = port::application(facts.original, speaks);
    let (response, lease) = send(local, parts, &replay, &target, &hop, connection, record).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && hop.upgrade.is_none() {
        return Err(Failure::new(Reason::BadResponse, "101 without having been asked to switch"));
    }
    record.lease = Some((lease, port::APPLICATION_TERMS));
    let known = port::facts(own, facts.original.port(), local.memories.get(facts.original));
    if known.memory != Memory::Http {
        local.memories.answered_http(facts.original);
    }
    Ok(back_to_client(response))
}

/// What the peer says about identities is kept only where it proved its own; then ours is added.
fn sanitize(own: &InboundView, client: &Client, parts: &mut Parts) {
    match &client.verified {
        Some(peer) => {
            hygiene::remove_mesh(&mut parts.headers);
            hygiene::append_xfcc(&mut parts.headers, &own.inbound.identity, peer);
        }
        None => hygiene::from_plaintext_peer(&mut parts.headers),
    }
}

fn authorize(own: &InboundView, client: &Client, parts: &Parts, aim: &Aim) -> Result<(), Failure> {
    let facts = &client.facts;
    let principal = client.verified.as_ref().map(|peer| &peer.identity);
    let port_mode = own.inbound.ports.get(&facts.original.port()).map_or(own.inbound.mtls, |port| port.mtls);
    port::mode_allows(port_mode, principal)?;
    let connection = port::facts_for_policy(principal, facts.remote, facts.original, facts.sni.as_deref());
    let fields = Fields(&parts.headers);
    let verdict = own.policies.request(&connection, &head::view(&parts.method, aim, &fields));
    if verdict.is_allowed() { Ok(()) } else { Err(port::denied(&verdict.basis)) }
}

/// Sends the request to the application, again where it provably did not arrive.
async fn send(
    local: &Rc<Local>,
    parts: &Parts,
    replay: &Replay,
    target: &crate::upstream::target::Target,
    hop: &Hop,
    connection: &Connection,
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Failure> {
    record.upstream_host = Some(target.address);
    loop {
        record.attempts += 1;
        let last = record.attempts >= ATTEMPTS_MAX;
        let mut lease = local.pool.lease(target, &port::APPLICATION_TERMS, last).await.map_err(|fault| {
            record.upstream_failure = Some(fault.to_string());
            Failure::new(tcp::dial_reason(&fault), fault.to_string()).unsent()
        })?;
        record.upstream_local = lease.connection.local;
        let upgraded = hop.upgrade.is_some().then(|| lease.connection.expect_upgrade());
        let request = Request::from_parts(parts.clone(), replay.attempt());
        let sent = Instant::now();
        match lease.send(request).await {
            Ok(response) => {
                record.upstream_time = Some(sent.elapsed());
                replay.forget();
                if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgraded)) = (response.status(), upgraded) {
                    connection.upgrade.set(upgraded);
                }
                return Ok((response, lease));
            }
            Err(fault) => {
                record.upstream_failure = Some(fault.to_string());
                let unsent = unsent(fault.proof).is_some();
                if !unsent || !replay.can_replay() || last {
                    return Err(failure(&fault, replay, unsent));
                }
            }
        }
    }
}

/// The failure of an attempt that reached the other side or broke on the way.
pub(crate) fn failure(fault: &SendFault, replay: &Replay, unsent: bool) -> Failure {
    let reason = if replay.has_failed() {
        Reason::ClientGone
    } else if fault.error.is_parse_too_large() {
        Reason::ResponseTooLarge
    } else if fault.error.is_parse() {
        Reason::BadResponse
    } else {
        Reason::UpstreamReset
    };
    let failure = Failure::new(reason, fault.to_string());
    if unsent { failure.unsent() } else { failure }
}

/// The application does not speak for the proxy, and its hop ends here.
fn back_to_client(response: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let hop = hop::strip(&mut parts.headers);
    if switching {
        hop::restore(&mut parts.headers, &hop, false);
    }
    hygiene::remove_mesh(&mut parts.headers);
    debug_assert!(answers::told(&parts.headers).is_none());
    Response::from_parts(parts, if switching { Body::Empty } else { Body::Incoming(body) })
}
