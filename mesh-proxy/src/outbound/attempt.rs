//! One attempt of a request with one endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Response;
use hyper::body::Incoming;
use mesh_core::config::{ClientTls, ConnectionPool, Endpoint, ProxyKind};
use mesh_core::identity::SpiffeId;
use mesh_core::outlier;
use mesh_core::reason::Reason;
use mesh_core::retry::{Unsent, Verdict};

use crate::http::local::{self as answers, Told};
use crate::telemetry::record::Failure;
use crate::upstream::dial::DialFault;
use crate::upstream::failure::SendFault;
use crate::upstream::pool::{Lease, Terms};
use crate::upstream::target::Security;

/// How an attempt ended.
pub(super) enum Attempted {
    /// An answer's head came.
    Answered(Box<Response<Incoming>>, Box<Lease>),
    /// There was no connection.
    NotConnected(DialFault),
    /// The connection failed before an answer.
    Failed(SendFault),
    /// The time for one attempt ran out.
    TryTimeout,
}

/// How to treat connections to a destination.
pub(super) fn terms(pool: &ConnectionPool) -> Terms {
    Terms {
        connect_timeout: pool.connect_timeout,
        idle_timeout: pool.http_idle_timeout,
        requests_max: pool.requests_per_connection_max,
        life: pool.max_connection_duration,
    }
}

/// How a connection to an endpoint's port is secured: to a meshed one there is never a fall-back to plaintext.
///
/// # Errors
/// The setting is not built, or configuration names nobody who could be believed.
pub(super) fn security(tls: &ClientTls, endpoint: Option<&Endpoint>, port: u16) -> Result<Security, Failure> {
    let mesh = |identities: Vec<SpiffeId>, sni: Option<&str>| {
        if identities.is_empty() {
            return Err(Failure::new(Reason::IdentityUnknown, "configuration names no identity for the endpoint"));
        }
        Ok(Security::Mesh { identities: identities.into(), sni: sni.map(Into::into) })
    };
    let own = || endpoint.and_then(|endpoint| endpoint.identity.clone()).into_iter().collect::<Vec<_>>();
    match tls {
        ClientTls::Disable => Ok(Security::Plain),
        ClientTls::Auto => match endpoint {
            Some(endpoint) if endpoint.mesh_tls && !endpoint.plaintext_ports.contains(&port) => mesh(own(), None),
            Some(_) | None => Ok(Security::Plain),
        },
        ClientTls::Mutual { subject_alt_names, sni } => {
            let mut identities = own();
            identities.extend(subject_alt_names.iter().filter_map(|name| name.parse().ok()));
            mesh(identities, sni.as_deref())
        }
        ClientTls::Simple { .. } => Err(Failure::new(Reason::UnsupportedTls, "tls.mode SIMPLE")),
        ClientTls::Unsupported(what) => Err(Failure::new(Reason::UnsupportedTls, what.clone())),
    }
}

impl Attempted {
    /// What a verified proxy of ours says about an answer that it gave itself.
    pub(super) fn told(&self, endpoint: Option<&Arc<Endpoint>>) -> Option<Told> {
        let Self::Answered(response, lease) = self else { return None };
        let ours = endpoint.is_some_and(|endpoint| endpoint.proxy == ProxyKind::Mesh);
        (ours && lease.connection.peer.is_some()).then(|| answers::told(response.headers())).flatten()
    }

    /// What it means for another attempt.
    pub(super) fn verdict(&self, told: Option<Told>) -> Verdict {
        match self {
            Self::Answered(..) if told.is_some_and(|told| told.unsent) => Verdict::Unsent(Unsent::PeerSaysUnsent),
            Self::Answered(response, _) => {
                Verdict::Answered { status: response.status().as_u16(), grpc: answers::grpc_status(response.headers()) }
            }
            Self::NotConnected(DialFault::Timeout(_)) => Verdict::Unsent(Unsent::ConnectTimeout),
            Self::NotConnected(DialFault::Connect(_) | DialFault::Source { .. }) => {
                Verdict::Unsent(Unsent::ConnectFailed)
            }
            Self::NotConnected(DialFault::WrongPeer(_) | DialFault::Tls(_)) => Verdict::Unsent(Unsent::TlsFailed),
            Self::Failed(fault) => crate::upstream::failure::unsent(fault.proof).map_or(Verdict::Lost, Verdict::Unsent),
            Self::TryTimeout => Verdict::TryTimeout,
        }
    }

    /// What it means for the endpoint's health.
    pub(super) fn health(&self) -> outlier::Outcome {
        match self {
            Self::Answered(response, _) => match answers::grpc_status(response.headers()) {
                Some(status) => outlier::Outcome::Grpc(status),
                None => outlier::Outcome::Status(response.status().as_u16()),
            },
            Self::NotConnected(_) | Self::Failed(_) | Self::TryTimeout => outlier::Outcome::LocalFailure,
        }
    }

    /// The failure that the client is told, where there is no answer.
    pub(super) fn failure(&self, endpoint: SocketAddr, client_failed: bool) -> Failure {
        let (reason, detail) = match self {
            Self::NotConnected(fault) => (dial_reason(fault), fault.to_string()),
            Self::Failed(_) if client_failed => (Reason::ClientGone, String::from("the request's body ended early")),
            Self::Failed(fault) => (send_reason(fault), fault.to_string()),
            Self::TryTimeout => (Reason::RequestTimeout, String::from("perTryTimeout")),
            Self::Answered(..) => (Reason::Internal, String::from("an answer is no failure")),
        };
        Failure::new(reason, format!("{endpoint}: {detail}"))
    }
}

/// What to call a connection that did not come about.
pub(super) fn dial_reason(fault: &DialFault) -> Reason {
    match fault {
        DialFault::Source { .. } | DialFault::Connect(_) => Reason::ConnectFailed,
        DialFault::Timeout(_) => Reason::ConnectTimeout,
        DialFault::WrongPeer(_) => Reason::PeerIdentityMismatch,
        DialFault::Tls(_) => Reason::TlsFailed,
    }
}

fn send_reason(fault: &SendFault) -> Reason {
    if fault.error.is_parse_too_large() {
        Reason::ResponseTooLarge
    } else if fault.error.is_parse() {
        Reason::BadResponse
    } else {
        Reason::UpstreamReset
    }
}
