//! What the injector wrote into `MESH_APP_PROBERS`: path → the original probe, with its port as a number.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// All probes and hooks of the pod's applications.
#[derive(Debug)]
pub(in crate::admin) struct Probers(Result<HashMap<String, Prober>, String>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Prober {
    #[serde(flatten)]
    pub(super) action: Action,
    /// Seconds; Kubernetes' default is one.
    timeout_seconds: Option<u64>,
}

/// What is asked: exactly one of three.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    HttpGet(HttpGet),
    TcpSocket(TcpSocket),
    Grpc(Grpc),
}

/// `httpGet`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpGet {
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) path: Option<String>,
    pub(super) scheme: Option<String>,
    pub(super) http_headers: Option<Vec<Header>>,
}

/// A header that the probe sends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Header {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
}

/// `tcpSocket`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct TcpSocket {
    host: Option<String>,
    port: u16,
}

/// `grpc`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Grpc {
    port: u16,
    pub(super) service: Option<String>,
}

impl Probers {
    /// Reads the JSON of the environment; without it there are none.
    pub(in crate::admin) fn parse(json: Option<&str>) -> Self {
        let parsed = json.map_or_else(|| Ok(HashMap::new()), serde_json::from_str);
        Self(parsed.map_err(|error| format!("the injector's MESH_APP_PROBERS cannot be read: {error}")))
    }

    /// Why there are none, though there should be.
    pub(in crate::admin) fn problem(&self) -> Option<&str> {
        self.0.as_ref().err().map(String::as_str)
    }

    pub(super) fn find(&self, path: &str) -> Result<Option<&Prober>, &str> {
        self.0.as_ref().map(|probers| probers.get(path)).map_err(String::as_str)
    }
}

impl Prober {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.unwrap_or(1))
    }
}

impl Action {
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::HttpGet(get) => get.port,
            Self::TcpSocket(socket) => socket.port,
            Self::Grpc(check) => check.port,
        }
    }

    /// gRPC probes have no host.
    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::HttpGet(get) => get.host.as_deref(),
            Self::TcpSocket(socket) => socket.host.as_deref(),
            Self::Grpc(_) => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HttpGet(get) => write!(f, "httpGet :{}{}", get.port, get.path.as_deref().unwrap_or("/")),
            Self::TcpSocket(socket) => write!(f, "tcpSocket :{}", socket.port),
            Self::Grpc(check) => write!(f, "grpc :{} {}", check.port, check.service.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_injector_writes_is_read() {
        let probers = Probers::parse(Some(
            r#"{
            "/app-health/web/livez": {"httpGet": {"path": "/live", "port": 8080, "scheme": "HTTPS",
                "httpHeaders": [{"name": "A", "value": "b"}]}, "timeoutSeconds": 4},
            "/app-health/web/readyz": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 1},
            "/app-health/web/startupz": {"grpc": {"port": 9000, "service": "s"}, "timeoutSeconds": 1},
            "/app-health/side/readyz": {"httpGet": {"port": 1}, "timeoutSeconds": 1}}"#,
        ));
        let find = |path| probers.find(path).unwrap().unwrap();
        assert_eq!(find("/app-health/web/livez").timeout(), Duration::from_secs(4));
        assert_eq!(find("/app-health/web/livez").action.to_string(), "httpGet :8080/live");
        assert_eq!(find("/app-health/web/readyz").action.to_string(), "tcpSocket :8080");
        assert_eq!(find("/app-health/web/startupz").action.to_string(), "grpc :9000 s");
        assert_eq!(find("/app-health/side/readyz").action.to_string(), "httpGet :1/");
        assert_eq!(probers.find("/app-health/web/other"), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_told_and_nothing_is_nothing() {
        let broken = Probers::parse(Some(r#"{"/app-health/web/livez": {"timeoutSeconds": 1}}"#));
        assert!(broken.find("/app-health/web/livez").unwrap_err().contains("MESH_APP_PROBERS"));
        assert_eq!(Probers::parse(None).find("/app-health/web/livez"), Ok(None));
    }
}
