//! Which port answers what.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, StatusCode};
use mesh_tls::Credentials;
use serde::Serialize;
use tokio::task::JoinSet;

use super::listen::{self, On};
use super::merge::Application;
use super::probe::{self, Probers};
use super::reply::{self, Reply};
use super::{dump, local, metrics};
use crate::bootstrap::Bootstrap;
use crate::config::Views;
use crate::drain::DrainWatch;
use crate::ready::Ready;
use crate::telemetry::exposition::Metrics;

/// What these ports tell about: everything is shared with the rest of the process and only read.
pub(crate) struct Admin {
    /// How the process was set up.
    pub(crate) bootstrap: Arc<Bootstrap>,
    /// The configuration.
    pub(crate) views: Views,
    /// Readiness.
    pub(crate) ready: Ready,
    /// The end of life.
    pub(crate) drain: DrainWatch,
    /// The certificate and the roots.
    pub(crate) credentials: Arc<Credentials>,
    /// What the workers count.
    pub(crate) metrics: Arc<Metrics>,
    /// When the workers began (give or take some milliseconds): what they share about endpoints counts from then.
    pub(crate) begun: Instant,
}

/// What all ports share.
pub(super) struct State {
    pub(super) admin: Admin,
    pub(super) application: Application,
    probers: Probers,
}

/// One of the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// 15000.
    Admin,
    /// 15020.
    Status,
    /// 15021.
    Health,
    /// 15090.
    Metrics,
}

/// The ports, with their numbers and where they listen.
const PORTS: [(Port, u16, On); 4] = [
    (Port::Admin, 15000, On::Loopback),
    (Port::Status, 15020, On::All),
    (Port::Health, 15021, On::All),
    (Port::Metrics, 15090, On::All),
];

/// Paths of the admin port, with what is there.
const ADMIN_PATHS: [(&str, &str); 10] = [
    ("/config/services", "services, and the addresses and names that were asked for"),
    ("/config/routes", "route tables with their rules in order"),
    ("/config/endpoints", "endpoints with what this proxy knows of their state"),
    ("/config/inbound", "what this workload accepts, and from whom"),
    ("/config/secrets", "certificates: whose, and for how long; never a key"),
    ("/config/settings", "the mesh's settings, and this process's"),
    ("/config/all", "all of these, of the same moment"),
    ("/ready", "whether the proxy is ready, and what is missing"),
    ("/version", "the proxy's version"),
    ("/stats/prometheus", "the proxy's metrics"),
];

/// Serves all ports until this future is dropped, which ends them. A port that cannot be had is told, and the others
/// are served: a proxy that carries traffic is worth more than its metrics.
pub(crate) async fn run(admin: Admin) {
    let state = Arc::new(State::new(admin));
    let mut serving = JoinSet::new();
    for (port, number, on) in PORTS {
        match listen::open(on, number) {
            Ok(listeners) => {
                for listener in listeners {
                    let state = Arc::clone(&state);
                    serving.spawn(listen::serve(listener, move |request| answer(port, Arc::clone(&state), request)));
                }
            }
            Err(error) => {
                tracing::error!(%error, port = number, "cannot listen on one of the proxy's own ports; is another program on it?");
            }
        }
    }
    // Owned here: whoever drops this future ends them.
    let _serving = serving;
    pending().await
}

impl State {
    pub(super) fn new(admin: Admin) -> Self {
        let bootstrap = &admin.bootstrap;
        let probers = Probers::parse(bootstrap.app_probers.as_deref());
        let application = Application::parse(bootstrap.prometheus.as_deref(), &bootstrap.instance_ips);
        for problem in [probers.problem(), application.problem()].into_iter().flatten() {
            tracing::error!(problem, "the pod was injected with something that this proxy does not understand");
        }
        Self { admin, application, probers }
    }
}

/// Answers a request that came to a port.
pub(super) async fn answer<B>(port: Port, state: Arc<State>, request: Request<B>) -> Reply {
    // Taken apart, so that the body, which nobody reads, is gone before anything is waited for.
    let (request, _) = request.into_parts();
    let request = Request::from_parts(request, ());
    if port == Port::Admin && !local::names_loopback(&request) {
        return reply::text(StatusCode::FORBIDDEN, "ask by a loopback name, such as localhost:15000");
    }
    if request.method() != Method::GET {
        return reply::only_get();
    }
    let path = request.uri().path();
    match (port, path) {
        (Port::Admin, path) => admin(&state, path),
        (Port::Status | Port::Health, "/healthz/ready") => healthz(&state),
        (Port::Status, "/stats/prometheus") => merged(&state, &request).await,
        (Port::Status, path) => probe(&state, path, &request).await,
        (Port::Metrics, "/stats/prometheus") => own_metrics(&state),
        (Port::Health, _) => reply::not_found("/healthz/ready"),
        (Port::Metrics, _) => reply::not_found("/stats/prometheus"),
    }
}

fn admin(state: &State, path: &str) -> Reply {
    if let Some(part) = path.strip_prefix("/config/").and_then(dump::Part::parse) {
        return reply::json(StatusCode::OK, &dump::dump(&state.admin, part));
    }
    match path {
        "/" => reply::json(StatusCode::OK, &ADMIN_PATHS.iter().copied().collect::<BTreeMap<_, _>>()),
        "/ready" => {
            let (ready, explanation) = (state.admin.ready.is_ready(), state.admin.ready.explain());
            reply::json(status_of(ready), &ReadyAnswer { ready, explanation })
        }
        "/version" => reply::json(StatusCode::OK, &Version { name: "mesh-proxy", version: env!("CARGO_PKG_VERSION") }),
        "/stats/prometheus" => own_metrics(state),
        _ => reply::not_found(&ADMIN_PATHS.map(|(path, _)| path).join(" ")),
    }
}

/// The answer to `/ready`.
#[derive(Serialize)]
struct ReadyAnswer {
    ready: bool,
    /// What is there and what is missing, a line per thing.
    explanation: String,
}

/// The answer to `/version`.
#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

fn status_of(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn healthz(state: &State) -> Reply {
    reply::text(status_of(state.admin.ready.is_ready()), state.admin.ready.explain())
}

fn own_metrics(state: &State) -> Reply {
    reply::bytes(StatusCode::OK, reply::PROMETHEUS_TEXT, metrics::write(state))
}

/// The application's numbers come after ours, and decide the type.
async fn merged(state: &State, request: &Request<()>) -> Reply {
    let scraped = state.application.scrape(request.headers()).await;
    let mut body = metrics::write(state).into_bytes();
    let mut content_type = reply::PROMETHEUS_TEXT;
    if let Some(scraped) = scraped {
        body.extend_from_slice(&scraped.body);
        content_type = scraped.content_type.unwrap_or(content_type);
    }
    reply::bytes(StatusCode::OK, content_type, body)
}

async fn probe(state: &State, path: &str, request: &Request<()>) -> Reply {
    let bootstrap = &state.admin.bootstrap;
    let own = &bootstrap.instance_ips;
    match probe::run(&state.probers, path, request.headers(), own, bootstrap.grace_period).await {
        Some(outcome) => reply::text(outcome.status, outcome.text),
        None => reply::not_found("/healthz/ready /stats/prometheus, and those of the pod's probes"),
    }
}
