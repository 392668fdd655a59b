//! The labels of Istio's standard metrics.

use std::fmt::Write;
use std::sync::Arc;

use super::peer::Peer;

/// Which side of the connection counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reporter {
    /// The client's proxy.
    Source,
    /// The server's proxy.
    Destination,
}

/// `connection_security_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    /// Mesh mutual TLS, as the server sees it.
    MutualTls,
    /// None, as the server sees it.
    None,
    /// A client does not say (as Istio's clients do not).
    Unknown,
}

/// `request_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP of any version.
    Http,
    /// gRPC.
    Grpc,
    /// Opaque bytes.
    Tcp,
}

/// Everything but the outcome: resolved once per destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) reporter: Reporter,
    pub(crate) source: Arc<Peer>,
    pub(crate) destination: Arc<Peer>,
    /// The service's host, or what stands in its place (`PassthroughCluster`, …).
    pub(crate) service: Arc<str>,
    pub(crate) service_name: Arc<str>,
    pub(crate) service_namespace: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) security: Security,
}

/// What stands for a service where nobody described the destination.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// What stands for a service where such a destination is refused.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";

impl Route {
    /// Whether it names a destination that no configuration describes.
    pub(crate) fn is_undescribed(&self) -> bool {
        matches!(&*self.service_name, PASSTHROUGH | BLACK_HOLE)
    }
}

/// How one request or connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outcome {
    /// HTTP status; 0 where the client went away first. `None` for connections.
    pub(crate) code: Option<u16>,
    /// gRPC status, if there was one.
    pub(crate) grpc: Option<u8>,
    /// Envoy's flags; empty is none.
    pub(crate) flags: &'static str,
}

/// A whole label set. `None` is the overflow series `other`.
pub(crate) type Key = Option<(Arc<Route>, Outcome)>;

/// Writes `{label="value",…}` without the braces.
pub(crate) fn write(out: &mut String, key: &Key) {
    let Some((route, outcome)) = key else {
        out.push_str("reporter=\"other\"");
        return;
    };
    let reporter = match route.reporter {
        Reporter::Source => "source",
        Reporter::Destination => "destination",
    };
    let security = match route.security {
        Security::MutualTls => "mutual_tls",
        Security::None => "none",
        Security::Unknown => "unknown",
    };
    let protocol = match route.protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    };
    label(out, "reporter", reporter);
    side(out, "source", &route.source);
    side(out, "destination", &route.destination);
    label(out, "destination_service", &route.service);
    label(out, "destination_service_name", &route.service_name);
    label(out, "destination_service_namespace", &route.service_namespace);
    label(out, "request_protocol", protocol);
    if let Some(code) = outcome.code {
        label(out, "response_code", &code.to_string());
        label(out, "grpc_response_status", &outcome.grpc.map(|status| status.to_string()).unwrap_or_default());
    }
    label(out, "response_flags", if outcome.flags.is_empty() { "-" } else { outcome.flags });
    label(out, "connection_security_policy", security);
    out.pop();
}

fn side(out: &mut String, side: &str, peer: &Peer) {
    let parts = [
        ("workload", &peer.workload),
        ("workload_namespace", &peer.namespace),
        ("principal", &peer.principal),
        ("app", &peer.app),
        ("version", &peer.version),
        ("cluster", &peer.cluster),
        ("canonical_service", &peer.canonical_service),
        ("canonical_revision", &peer.canonical_revision),
    ];
    for (name, value) in parts {
        let _ = write!(out, "{side}_{name}=\"");
        escape(out, value);
        out.push_str("\",");
    }
}

/// Writes `name="value",`.
pub(crate) fn label(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value);
    out.push_str("\",");
}

fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}
