//! The application's probes and hooks, which the kubelet asks the proxy instead of the application.
//!
//! The kubelet has no certificate, so under strict mutual TLS its requests to the application would be refused. The
//! injector leads them to port 15020 and hands the originals over in `MESH_APP_PROBERS` ([`spec`]). What the kubelet would
//! have asked, the proxy asks: [`http`], [`grpc`], or whether a connection comes about; [`tls`] is for
//! `scheme: HTTPS`. Only the outcome is passed on, never what the application said: this port is not behind its
//! policies.

pub(super) mod grpc;
mod http;
mod spec;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ::http::{HeaderMap, StatusCode};

use self::spec::{Action, Prober};
use super::ask;
use crate::listen::socket::is_proxy_port;

pub(super) use self::spec::Probers;

/// Paths of lifecycle hooks. Their time is the pod's, not `timeoutSeconds`, which hooks do not have.
const HOOKS: &str = "/app-lifecycle/";
/// The longest time that a probe may take, whatever it says.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// How a probe ended: the status to answer with (what is below 400 is success to the kubelet), and a line for people.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Outcome {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// The application could not be asked.
    fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, text)
    }
}

/// Asks the application what the probe of this path would have asked. `None`: there is no such probe.
pub(super) async fn run(
    probers: &Probers,
    path: &str,
    asked_with: &HeaderMap,
    own: &[IpAddr],
    grace_period: Duration,
) -> Option<Outcome> {
    let prober = match probers.find(path) {
        Ok(found) => found?,
        Err(error) => return Some(Outcome::new(StatusCode::INTERNAL_SERVER_ERROR, error)),
    };
    let limit = if path.starts_with(HOOKS) { grace_period } else { prober.timeout() };
    let limit = limit.clamp(Duration::from_secs(1), TIMEOUT_MAX);
    let outcome = tokio::time::timeout(limit, ask(prober, asked_with, own)).await;
    Some(outcome.unwrap_or_else(|_| {
        let text = format!("{}: no answer within {} s", prober.action, limit.as_secs());
        Outcome::new(StatusCode::GATEWAY_TIMEOUT, text)
    }))
}

async fn ask(prober: &Prober, asked_with: &HeaderMap, own: &[IpAddr]) -> Outcome {
    let address = match address(&prober.action, own) {
        Ok(address) => address,
        Err(reason) => return Outcome::failed(format!("{}: {reason}", prober.action)),
    };
    let stream = match ask::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return Outcome::failed(format!("{}: no connection to {address}: {error}", prober.action)),
    };
    let outcome = match &prober.action {
        Action::TcpSocket(_) => Ok(Outcome::new(StatusCode::OK, "connected")),
        Action::HttpGet(get) => http::ask(stream, address, get, asked_with).await,
        Action::Grpc(check) => grpc::ask(stream, address, check.service.as_deref().unwrap_or_default()).await,
    };
    match outcome {
        Ok(Outcome { status, text }) => Outcome::new(status, format!("{}: {text}", prober.action)),
        Err(reason) => Outcome::failed(format!("{}: {reason}", prober.action)),
    }
}

/// Where the kubelet would have asked: the pod's first address, unless the probe says loopback. Never anywhere else than
/// in this pod, and never the proxy itself.
fn address(action: &Action, own: &[IpAddr]) -> Result<SocketAddr, String> {
    let port = action.port();
    if is_proxy_port(port) {
        return Err("the port is one of the proxy's own".to_owned());
    }
    let primary = own.first().copied().ok_or("the pod has no address")?;
    let host = action.host().unwrap_or_default();
    let address = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) if host.is_empty() => primary,
        Err(_) if host.eq_ignore_ascii_case("localhost") => IpAddr::from([127, 0, 0, 1]),
        Err(_) => return Err(format!("the host {host:?} is not this pod")),
    };
    if address.is_loopback() || own.contains(&address) {
        Ok((address, port).into())
    } else {
        Err(format!("the host {address} is not this pod"))
    }
}
