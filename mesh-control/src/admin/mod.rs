//! What people and tools ask: readiness and metrics (15014), and the control API on loopback (15016). GET only, JSON.

mod http;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub(crate) use http::serve;

use crate::ca::Ca;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::serve::Proxies;
use crate::status;
use crate::watch::Barrier;

/// How long `/v1/sync` waits for the source, and then for the proxies.
const SYNC_WAIT: Duration = Duration::from_secs(2);
/// How often it looks at the proxies.
const SYNC_LOOK: Duration = Duration::from_millis(5);

/// What the answers are made of.
pub(crate) struct State {
    pub(crate) index: Arc<Index>,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) barriers: mpsc::Sender<Barrier>,
}

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// 15014: reachable by the kubelet and by Prometheus.
    Monitoring,
    /// 15016: loopback only.
    Control,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

/// The answer of `/v1/sync`.
#[derive(Serialize)]
struct Synchronised {
    /// What the source held is published.
    published: bool,
    /// Every connected proxy has acknowledged it.
    acknowledged: bool,
}

#[derive(Serialize)]
struct ProxyStatus {
    pod: String,
    namespace: String,
    uid: String,
    identity: String,
    address: Option<String>,
    connected_at: String,
    version: String,
    types: std::collections::BTreeMap<&'static str, &'static str>,
    rejected: Vec<RejectedStatus>,
    certificate_expiry: Option<String>,
}

#[derive(Serialize)]
struct RejectedStatus {
    name: String,
    reason: String,
}

impl State {
    fn answer(&self, port: Port, method: &Method, path: &str) -> Answer {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match (port, path) {
            (Port::Monitoring, "/ready") => match self.index.is_synced() {
                true => text(StatusCode::OK, "ready\n"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: the objects are not read yet\n"),
            },
            (Port::Monitoring, "/metrics") => Answer {
                status: StatusCode::OK,
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                body: self.metrics.render(),
            },
            (Port::Monitoring, "/version") | (Port::Control, "/v1/version") => {
                json(&Version { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") })
            }
            (Port::Control, "/v1/proxies") => json(&self.proxies()),
            (Port::Control, "/v1/status") => json(&status::report(&self.index)),
            (Port::Monitoring, _) => text(StatusCode::NOT_FOUND, "here are /ready, /metrics and /version\n"),
            (Port::Control, _) => {
                text(StatusCode::NOT_FOUND, "here are /v1/proxies, /v1/status, /v1/sync and /v1/version\n")
            }
        }
    }

    /// `/v1/sync`: reads the source again, publishes at once, and waits until every proxy has it.
    async fn synchronise(&self) -> Answer {
        let (barrier, published) = oneshot::channel();
        let published = async { self.barriers.send(barrier).await.is_ok() && published.await.is_ok() };
        let published = timeout(SYNC_WAIT, published).await.unwrap_or(false);
        let acknowledged = async {
            while !self.proxies.in_sync() {
                tokio::time::sleep(SYNC_LOOK).await;
            }
        };
        let acknowledged = published && timeout(SYNC_WAIT, acknowledged).await.is_ok();
        json(&Synchronised { published, acknowledged })
    }

    fn proxies(&self) -> Vec<ProxyStatus> {
        let status = |proxy: crate::serve::Proxy| {
            let issued = self.ca.expiry(&proxy.identity, proxy.address);
            let expiry = issued.into_iter().chain(proxy.credential_expires).max();
            ProxyStatus {
                pod: proxy.pod,
                namespace: proxy.namespace,
                uid: proxy.uid.to_string(),
                identity: proxy.identity.to_string(),
                address: proxy.address.map(|ip| ip.to_string()),
                connected_at: time(proxy.connected_at),
                version: proxy.version,
                types: proxy.types.iter().map(|(kind, sync)| (kind.as_str(), sync.as_str())).collect(),
                rejected: proxy
                    .rejected
                    .into_iter()
                    .map(|one| RejectedStatus { name: one.name, reason: one.reason })
                    .collect(),
                certificate_expiry: expiry.map(time),
            }
        };
        self.proxies.list().into_iter().map(status).collect()
    }
}

/// RFC 3339, in seconds.
fn time(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.unwrap_or_default().to_string()
}

fn text(status: StatusCode, body: &str) -> Answer {
    Answer { status, content_type: TEXT, body: body.to_owned() }
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(body) => Answer { status: StatusCode::OK, content_type: JSON, body },
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
