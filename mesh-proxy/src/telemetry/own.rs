//! The proxy's own numbers, `mesh_*`: what it refused and why, its connections and pools, and what its log lost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::labels::label;

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// To the pod's application.
    Inbound,
    /// From the pod's application.
    Outbound,
}

impl Direction {
    /// The name in metrics and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Counters of one process. All may be written by any thread.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Client connections accepted: inbound, outbound.
    pub(crate) accepted: [AtomicU64; 2],
    /// Client connections open: inbound, outbound.
    pub(crate) open: [AtomicU64; 2],
    /// Client connections that were closed at once, since there were too many.
    pub(crate) shed: AtomicU64,
    /// Connections that ended by a bug.
    pub(crate) panics: AtomicU64,
    /// Failures to accept (no descriptors, …).
    pub(crate) accept_errors: AtomicU64,
    /// Connections opened to destinations.
    pub(crate) upstream_opened: AtomicU64,
    /// Requests that found a pooled connection.
    pub(crate) upstream_reused: AtomicU64,
    /// Connections to destinations that are open now.
    pub(crate) upstream_open: AtomicU64,
    /// Requests tried again.
    pub(crate) retries: AtomicU64,
    /// Lines of the access log that were written.
    pub(crate) log_lines: AtomicU64,
    /// Lines of the access log that were lost because the disk or the reader was slow.
    pub(crate) log_lines_lost: AtomicU64,
    /// Requests and connections that the proxy refused or failed itself. Bounded: reasons are a fixed set.
    refusals: Mutex<BTreeMap<(Direction, &'static str, &'static str), u64>>,
}

impl Own {
    /// Counts a refusal by its reason code and responsible party.
    pub(crate) fn refuse(&self, direction: Direction, reason: &'static str, responsible: &'static str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry((direction, reason, responsible)).or_default() += 1;
    }

    /// Writes all of them in Prometheus' text format.
    pub(crate) fn write(&self, out: &mut String) {
        for (name, help, kind, values) in [
            ("mesh_connections_accepted_total", "Client connections accepted.", "counter", &self.accepted),
            ("mesh_connections_open", "Client connections open now.", "gauge", &self.open),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for direction in [Direction::Inbound, Direction::Outbound] {
                let value = values[direction as usize].load(Ordering::Relaxed);
                let _ = writeln!(out, "{name}{{direction=\"{}\"}} {value}", direction.as_str());
            }
        }
        for (name, help, kind, value) in [
            ("mesh_connections_shed_total", "Connections closed at once: too many.", "counter", &self.shed),
            ("mesh_connection_panics_total", "Connections that ended by a bug.", "counter", &self.panics),
            ("mesh_accept_errors_total", "Failures to accept a connection.", "counter", &self.accept_errors),
            ("mesh_upstream_connections_opened_total", "Connections opened.", "counter", &self.upstream_opened),
            ("mesh_upstream_connections_open", "Connections to destinations open now.", "gauge", &self.upstream_open),
            ("mesh_upstream_reused_total", "Requests on a pooled connection.", "counter", &self.upstream_reused),
            ("mesh_retries_total", "Requests tried again.", "counter", &self.retries),
            ("mesh_access_log_lines_total", "Lines written to the access log.", "counter", &self.log_lines),
            ("mesh_access_log_lines_lost_total", "Lines that the access log lost.", "counter", &self.log_lines_lost),
        ] {
            let value = value.load(Ordering::Relaxed);
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        let name = "mesh_refusals_total";
        let _ = writeln!(out, "# HELP {name} What the proxy refused or failed itself.\n# TYPE {name} counter");
        for ((direction, reason, responsible), count) in &*self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let _ = write!(out, "{name}{{");
            label(out, "direction", direction.as_str());
            label(out, "reason", reason);
            label(out, "responsible", responsible);
            out.pop();
            let _ = writeln!(out, "}} {count}");
        }
    }
}
