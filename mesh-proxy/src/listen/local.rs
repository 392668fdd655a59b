//! What the connections of one worker share: pools, counters, log, memory, randomness. Nothing here is a lock.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::HeaderValue;
use mesh_core::config::AccessLog;
use mesh_core::reason::Reason;
use mesh_core::time::Millis;
use tracing::debug;

use crate::app::Worker;
use crate::config::View;
use crate::detect::memory::Memories;
use crate::outbound::Known;
use crate::telemetry::Telemetry;
use crate::telemetry::access::Line;
use crate::telemetry::exposition::Metrics;
use crate::telemetry::own::Direction;
use crate::telemetry::passed::{Live, Watched};
use crate::telemetry::peer::{self, Peer};
use crate::telemetry::series::{HttpNumbers, Recorder, TcpNumbers};
use crate::telemetry::sink::Buffer;
use crate::upstream::pool::Pool;
use crate::upstream::resolve::Names;

/// One worker's own.
pub(crate) struct Local {
    /// What the process handed it.
    pub(crate) worker: Worker,
    /// Connections to destinations.
    pub(crate) pool: Pool,
    /// Istio's metrics of requests.
    pub(crate) http: Recorder<HttpNumbers>,
    /// Istio's metrics of connections.
    pub(crate) tcp: Recorder<TcpNumbers>,
    /// The access log.
    pub(crate) log: Buffer,
    /// The process's counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Labels of destinations.
    pub(crate) labels: RefCell<Known>,
    /// Addresses of endpoints that have only a name.
    pub(crate) names: Names,
    /// What destinations' ports were seen to speak.
    pub(crate) memories: Memories,
    /// Client connections of the whole process in each direction.
    pub(crate) connections_max: u64,
    rng: RefCell<fastrand::Rng>,
    begun: Instant,
    me: RefCell<Option<Me>>,
    watched: RefCell<Watched>,
}

/// How this workload appears in telemetry, as long as its configuration does not change.
#[derive(Clone)]
pub(crate) struct Me {
    generation: u64,
    /// In labels.
    pub(crate) peer: Arc<Peer>,
    /// In the header for other proxies.
    pub(crate) description: Option<HeaderValue>,
}

impl Local {
    /// For one worker thread.
    pub(crate) fn new(worker: Worker, telemetry: &Telemetry, begun: Instant) -> Rc<Self> {
        let metrics = Arc::clone(&telemetry.metrics);
        Rc::new(Self {
            pool: Pool::new(worker.client_tls.clone(), Arc::clone(&metrics)),
            http: Recorder::new(Arc::clone(&metrics.http), worker.index),
            tcp: Recorder::new(Arc::clone(&metrics.tcp), worker.index),
            log: Buffer::new(telemetry.sink.clone()),
            metrics,
            labels: RefCell::default(),
            names: Names::default(),
            memories: Memories::default(),
            connections_max: super::accept::connections_max(super::accept::raise_descriptors()),
            rng: RefCell::new(fastrand::Rng::new()),
            begun,
            me: RefCell::default(),
            watched: RefCell::default(),
            worker,
        })
    }

    /// The time as decisions see it; the same on all workers.
    pub(crate) fn now(&self) -> Millis {
        Millis::since_start(self.begun.elapsed())
    }

    /// Draws.
    pub(crate) fn with_rng<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.rng.borrow_mut())
    }

    /// Counts an opaque connection's bytes from time to time.
    pub(crate) fn watch(&self, live: &Rc<Live>) {
        self.watched.borrow_mut().push(live);
    }

    /// Counts what has passed over open connections.
    pub(crate) fn report_open(&self) {
        let open = self.watched.borrow_mut().open();
        open.iter().for_each(|live| live.report(self));
    }

    /// How this workload appears in telemetry.
    pub(crate) fn me(&self, view: &View) -> Me {
        let mut me = self.me.borrow_mut();
        match &*me {
            Some(me) if me.generation == view.generation() => me.clone(),
            Some(_) | None => {
                let inbound = view.inbound().map(|inbound| &inbound.inbound);
                let made = Me {
                    generation: view.generation(),
                    peer: Arc::new(
                        inbound.map_or_else(Peer::unknown, |own| Peer::of(&own.workload, Some(&own.identity))),
                    ),
                    description: inbound.and_then(|own| peer::describe(&own.workload)),
                };
                me.insert(made).clone()
            }
        }
    }

    /// The access log that is configured for this workload, if any.
    pub(crate) fn access_log<'v>(&self, view: &'v View) -> Option<&'v AccessLog> {
        match view.inbound().and_then(|own| own.inbound.access_log.as_ref()) {
            Some(own) => own.as_ref(),
            None => view.settings().and_then(|settings| settings.access_log.as_ref()),
        }
    }

    /// Counts a refusal.
    pub(crate) fn count_refusal(&self, direction: Direction, reason: Reason) {
        self.metrics.own.refuse(direction, reason.code(), reason.responsible().as_str());
    }

    /// Counts and logs that a connection is closed without having been served; `original` is where it was going, where
    /// that is known.
    pub(crate) fn refuse(
        &self,
        direction: Direction,
        reason: Reason,
        client: SocketAddr,
        original: Option<SocketAddr>,
        detail: &str,
    ) {
        self.count_refusal(direction, reason);
        debug!(direction = direction.as_str(), reason = reason.code(), %client, detail, "connection refused");
        let view = self.worker.views.load();
        let Some(log) = self.access_log(&view) else { return };
        let details = format!("{}{{{detail}}}", reason.code());
        let line = Line {
            start: Some(SystemTime::now()),
            flags: Some(reason.flag()).filter(|flag| *flag != "-").unwrap_or_default(),
            details: Some(&details),
            downstream_local: original,
            downstream_remote: Some(client),
            reason: Some(reason.code()),
            responsible: Some(reason.responsible().as_str()),
            ..Line::default()
        };
        self.log.add(log, &line);
    }
}
