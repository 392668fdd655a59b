//! What becomes known of one opaque connection: counted while it passes, logged once at its end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mesh_core::reason::Reason;

use super::access::Line;
use super::labels::{Outcome, Route};
use super::own::Direction;
use super::record::ClientFacts;
use super::series::TcpNumbers;
use crate::config::View;
use crate::listen::local::Local;
use crate::upstream::copy::{Copied, Ended};
use crate::upstream::io::{Counter, Io};

/// One connection.
pub(crate) struct Passed {
    local: Rc<Local>,
    view: Arc<View>,
    direction: Direction,
    client: Rc<ClientFacts>,
    begun: Instant,
    start: SystemTime,
    route: Arc<Route>,
    live: Option<Rc<Live>>,
    /// Where it went.
    pub(crate) upstream_host: Option<SocketAddr>,
    /// From where.
    pub(crate) upstream_local: Option<SocketAddr>,
    /// `outbound|9000||tcp-echo…`.
    pub(crate) cluster: Option<Rc<str>>,
    reason: Option<Reason>,
    details: Option<String>,
    termination: Option<String>,
    flags: &'static str,
    bytes: (u64, u64),
    forgotten: bool,
}

/// An open connection whose bytes are counted now and then.
#[derive(Debug)]
pub(crate) struct Live {
    route: Arc<Route>,
    read: Counter,
    written: Counter,
    reported: Cell<(u64, u64)>,
}

/// The label set of a connection that is open.
const OPEN: Outcome = Outcome { code: None, grpc: None, flags: "" };

impl Passed {
    /// Begins with a client whose connection was accepted.
    pub(crate) fn begin(
        local: &Rc<Local>,
        view: &Arc<View>,
        direction: Direction,
        client: &Rc<ClientFacts>,
        route: Arc<Route>,
    ) -> Self {
        Self {
            local: Rc::clone(local),
            view: Arc::clone(view),
            direction,
            client: Rc::clone(client),
            begun: Instant::now(),
            start: SystemTime::now(),
            route,
            live: None,
            upstream_host: None,
            upstream_local: None,
            cluster: None,
            reason: None,
            details: None,
            termination: None,
            flags: "",
            bytes: (0, 0),
            forgotten: false,
        }
    }

    /// The labels are known better now: an endpoint was chosen.
    pub(crate) fn relabel(&mut self, route: Arc<Route>) {
        self.route = route;
    }

    /// Both halves are there.
    pub(crate) fn opened(&mut self, client: &Io) {
        self.local.tcp.with(&self.route, OPEN, TcpNumbers::open);
        let (read, written) = client.counters();
        let live = Rc::new(Live { route: Arc::clone(&self.route), read, written, reported: Cell::new((0, 0)) });
        self.local.watch(&live);
        self.live = Some(live);
    }

    /// Notes why a proxy ended it.
    pub(crate) fn explain(&mut self, reason: Reason, detail: Option<&str>) {
        self.reason = Some(reason);
        self.flags = Some(reason.flag()).filter(|flag| *flag != "-").unwrap_or_default();
        self.details = Some(match detail {
            Some(detail) => format!("{}{{{detail}}}", reason.code()),
            None => reason.code().to_owned(),
        });
    }

    /// How the copying ended.
    pub(crate) fn ended(&mut self, copied: &Copied) {
        self.bytes = (copied.sent, copied.received);
        match &copied.ended {
            // A reset is an ordinary end of many protocols; only what we decided has a reason.
            Ended::Closed => {}
            Ended::Client(error) => self.termination = Some(format!("client: {error}")),
            Ended::Server(error) => self.termination = Some(format!("server: {error}")),
            Ended::Idle => {
                self.local.count_refusal(self.direction, Reason::IdleTimeout);
                self.explain(Reason::IdleTimeout, None);
            }
        }
    }

    /// It was no opaque connection after all: nothing is counted or logged.
    pub(crate) fn forget(&mut self) {
        self.forgotten = true;
    }
}

impl Live {
    /// Adds what has passed since the last time.
    pub(crate) fn report(&self, local: &Local) {
        let (received, sent) = (self.read.get(), self.written.get());
        let before = self.reported.replace((received, sent));
        if before != (received, sent) {
            local.tcp.with(&self.route, OPEN, |numbers| numbers.add_bytes(sent - before.1, received - before.0));
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        if self.forgotten {
            return;
        }
        let outcome = Outcome { flags: self.flags, ..OPEN };
        match self.live.take() {
            Some(live) => {
                live.report(&self.local);
                self.local.tcp.with(&self.route, outcome, TcpNumbers::close);
            }
            // Refused: opened and closed at once, so that the two always agree.
            None => self.local.tcp.with(&self.route, outcome, |numbers| {
                numbers.open();
                numbers.close();
            }),
        }
        let Some(log) = self.local.access_log(&self.view) else { return };
        let line = Line {
            start: Some(self.start),
            flags: self.flags,
            details: self.details.as_deref().or(Some("-")),
            termination: self.termination.as_deref(),
            bytes_received: self.bytes.0,
            bytes_sent: self.bytes.1,
            duration: self.begun.elapsed(),
            upstream_host: self.upstream_host,
            upstream_cluster: self.cluster.as_deref(),
            upstream_local: self.upstream_local,
            downstream_local: Some(self.client.original),
            downstream_remote: Some(self.client.remote),
            server_name: self.client.sni.as_deref(),
            reason: self.reason.map(Reason::code),
            responsible: self.reason.map(|reason| reason.responsible().as_str()),
            peer: self.client.principal.as_deref(),
            ..Line::default()
        };
        self.local.log.add(log, &line);
    }
}

/// The open connections of one worker that are counted now and then.
#[derive(Debug, Default)]
pub(crate) struct Watched(Vec<Weak<Live>>);

impl Watched {
    /// Watches one more.
    pub(crate) fn push(&mut self, live: &Rc<Live>) {
        self.0.push(Rc::downgrade(live));
    }

    /// Those that are still open.
    pub(crate) fn open(&mut self) -> Vec<Rc<Live>> {
        self.0.retain(|live| live.strong_count() > 0);
        self.0.iter().filter_map(Weak::upgrade).collect()
    }
}
