//! Requests of the pod's application.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use mesh_core::detect::Http;
use mesh_core::reason::Reason;
use tokio::time::Instant;

use super::attempts::attempts;
use super::place::Place;
use super::plan::{Plan, Planned, decide, inject_faults, label};
use super::{edits, labels, named};
use crate::config::View;
use crate::http::body::{Body, Observed};
use crate::http::head;
use crate::http::hop;
use crate::http::hygiene::{self, MESH_REASON};
use crate::http::replay::Replay;
use crate::http::serve::{self, Answering, Served, UpgradeSlot};
use crate::listen::local::Local;
use crate::telemetry::own::Direction;
use crate::telemetry::record::{ClientFacts, Failure, Record};
use crate::upstream::io::Io;

/// One connection of the application.
pub(super) struct Connection {
    pub(super) local: Rc<Local>,
    pub(super) client: Rc<ClientFacts>,
    pub(super) place: Place,
    pub(super) upgrade: UpgradeSlot,
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
            let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
            // Series are kept: what is no name (and could be as long as a head) names none.
            let host = host.filter(|host| mesh_core::destination::parse_authority(host).is_ok()).unwrap_or_default();
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
        local.refuse(
            Direction::Outbound,
            reason,
            client.remote,
            Some(client.original),
            "refused before a request was read",
        );
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
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && hop.upgrade.is_none() {
        record.lease = None;
        return Err(Failure::new(Reason::BadResponse, "101 without having been asked to switch"));
    }
    Ok(back_to_application(response, &plan, record))
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
