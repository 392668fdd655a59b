//! One scrape for two: the application's metrics behind the proxy's own (`MESH_PROMETHEUS`).
//!
//! The injector points a pod's `prometheus.io` annotations at port 15020. The proxy asks the application as Prometheus
//! would have, and passes on what it says, last, since OpenMetrics ends with a mark that must stay the end. An
//! application that cannot be scraped is counted and costs nothing else: the proxy's own numbers are still told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{ACCEPT, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Empty;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::ask::{self, Answer};
use crate::listen::socket::is_proxy_port;

/// Bytes that the application may tell.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Scrapes of the application at once: each may hold [`BODY_BYTES_MAX`].
const SCRAPES_MAX: usize = 2;
/// Time for a scrape where Prometheus does not say; its own default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a scrape, whatever Prometheus says.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Kept from Prometheus' time for our own part of the answer.
const TIMEOUT_RESERVE: Duration = Duration::from_millis(250);
/// What Prometheus says how long it will wait, in seconds.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
/// What is asked for where Prometheus accepts no text, or does not say.
const ACCEPT_TEXT: HeaderValue = HeaderValue::from_static("text/plain;version=0.0.4,*/*;q=0.1");
/// Istio's defaults for what the annotations leave out.
const DEFAULT_PORT: u16 = 80;
const DEFAULT_PATH: &str = "/metrics";

/// The application's metrics, and how often they were asked for.
#[derive(Debug)]
pub(super) struct Application {
    /// `Ok(None)`: it has none.
    target: Result<Option<Target>, String>,
    scraping: Semaphore,
    /// Scrapes tried.
    pub(super) scrapes: AtomicU64,
    /// Scrapes failed.
    pub(super) failures: AtomicU64,
}

#[derive(Debug)]
struct Target {
    addresses: Vec<SocketAddr>,
    path: String,
}

/// The annotations' values, as their author wrote them.
#[derive(Deserialize)]
struct Written {
    scrape: Option<String>,
    path: Option<String>,
    port: Option<String>,
}

/// What the application told.
pub(super) struct Scraped {
    /// Its type, if it is one that Prometheus takes as text.
    pub(super) content_type: Option<HeaderValue>,
    /// Its bytes.
    pub(super) body: Vec<u8>,
}

impl Application {
    /// Reads `MESH_PROMETHEUS`.
    pub(super) fn parse(json: Option<&str>, own: &[IpAddr]) -> Self {
        let target = json.map_or(Ok(None), |json| target(json, own));
        let (scrapes, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { target, scraping: Semaphore::new(SCRAPES_MAX), scrapes, failures }
    }

    /// Why it cannot be scraped, though it should be.
    pub(super) fn problem(&self) -> Option<&str> {
        self.target.as_ref().err().map(String::as_str)
    }

    /// Asks the application. `None`: it has no metrics, or they could not be had, which is counted.
    pub(super) async fn scrape(&self, asked_with: &HeaderMap) -> Option<Scraped> {
        let Ok(Some(target)) = &self.target else { return None };
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        let limit = timeout(asked_with);
        let asking = async {
            // Never closed.
            let _permit = self.scraping.acquire().await;
            target.ask(asked_with).await
        };
        let scraped = tokio::time::timeout(limit, asking).await;
        let scraped = scraped.unwrap_or_else(|_| Err(format!("no answer within {:.1} s", limit.as_secs_f64())));
        scraped
            .inspect_err(|reason| {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::info!(reason, path = target.path, "the application's metrics could not be had");
            })
            .ok()
    }
}

impl Target {
    async fn ask(&self, asked_with: &HeaderMap) -> Result<Scraped, String> {
        let mut refused = String::new();
        for address in &self.addresses {
            match ask::connect(*address).await {
                Ok(stream) => {
                    let request = self.request(*address, asked_with)?;
                    let answer = ask::http1(stream, request, BODY_BYTES_MAX).await;
                    return answer.map_err(|error| format!("{address}: {error}")).and_then(check);
                }
                Err(error) => refused = format!("{address}: {error}"),
            }
        }
        Err(refused)
    }

    fn request(&self, address: SocketAddr, asked_with: &HeaderMap) -> Result<Request<Empty<bytes::Bytes>>, String> {
        let mut request = Request::get(self.path.as_str())
            .header(HOST, address.to_string())
            .header(CONNECTION, "close")
            .header(ACCEPT, accept(asked_with))
            .body(Empty::new())
            .map_err(|error| format!("path {:?}: {error}", self.path))?;
        for name in [TIMEOUT_HEADER, USER_AGENT] {
            if let Some(value) = asked_with.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        Ok(request)
    }
}

/// Where the application serves metrics: on the pod's address, as Prometheus would have asked, else on loopback.
fn target(json: &str, own: &[IpAddr]) -> Result<Option<Target>, String> {
    let told = |reason: String| format!("the injector's MESH_PROMETHEUS cannot be used: {reason}");
    let written: Written = serde_json::from_str(json).map_err(|error| told(error.to_string()))?;
    if written.scrape.as_deref() != Some("true") {
        return Ok(None);
    }
    let port = written.port.as_deref().filter(|port| !port.is_empty());
    let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| told(format!("port {port:?}"))))?;
    if is_proxy_port(port) {
        return Err(told(format!("port {port} is the proxy's own")));
    }
    let path = written.path.filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.to_owned());
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    if path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(told(format!("path {path:?}")));
    }
    let mut addresses: Vec<SocketAddr> = own.first().map(|own| (*own, port).into()).into_iter().collect();
    addresses.push((Ipv4Addr::LOCALHOST, port).into());
    addresses.dedup();
    Ok(Some(Target { addresses, path }))
}

fn timeout(asked_with: &HeaderMap) -> Duration {
    let seconds = asked_with.get(TIMEOUT_HEADER).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
    let said = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    said.map_or(TIMEOUT, |said| said.saturating_sub(TIMEOUT_RESERVE)).clamp(TIMEOUT_RESERVE, TIMEOUT_MAX)
}

/// What Prometheus accepts, less what cannot be put together with our own text (protobuf).
fn accept(asked_with: &HeaderMap) -> HeaderValue {
    let accepted = asked_with.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_text = |kind: &&str| kind.starts_with("text/plain") || kind.starts_with("application/openmetrics-text");
    let texts: Vec<&str> = accepted.split(',').map(str::trim).filter(is_text).collect();
    HeaderValue::try_from(texts.join(",")).ok().filter(|value| !value.is_empty()).unwrap_or(ACCEPT_TEXT)
}

fn check(answer: Answer) -> Result<Scraped, String> {
    if answer.status != StatusCode::OK {
        return Err(format!("the application answered {}", answer.status));
    }
    if answer.cut {
        return Err(format!("the application told more than {BODY_BYTES_MAX} bytes"));
    }
    if let Some(encoding) = answer.headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(format!("the application encoded its answer ({encoding:?}), though nobody asked it to"));
    }
    let content_type = answer.headers.get(CONTENT_TYPE);
    let kind = content_type.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/vnd.google.protobuf") {
        return Err("the application answered protobuf, though text was asked for".to_owned());
    }
    let is_text = kind.starts_with("text/plain") || kind.starts_with("application/openmetrics-text");
    Ok(Scraped { content_type: content_type.filter(|_| is_text).cloned(), body: answer.body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Option<(Vec<String>, String)>, String> {
        let own = ["10.0.0.9".parse().unwrap()];
        let target = target(json, &own)?;
        Ok(target.map(|target| (target.addresses.iter().map(ToString::to_string).collect(), target.path)))
    }

    #[test]
    fn the_annotations_are_read_as_istio_reads_them() {
        let at = |port: u16, path: &str| {
            Ok(Some((vec![format!("10.0.0.9:{port}"), format!("127.0.0.1:{port}")], path.to_owned())))
        };
        assert_eq!(parse(r#"{"scrape":"true","path":"/m","port":"9102"}"#), at(9102, "/m"));
        assert_eq!(parse(r#"{"scrape":"true"}"#), at(80, "/metrics"));
        assert_eq!(parse(r#"{"scrape":"true","path":"m?x=1"}"#), at(80, "/m?x=1"));
        assert_eq!(parse(r#"{"port":"1"}"#), Ok(None));
        for broken in [r#"{"scrape":"true","port":"metrics"}"#, r#"{"scrape":"true","port":"15020"}"#, "[", "[]"] {
            assert!(parse(broken).unwrap_err().contains("MESH_PROMETHEUS"), "{broken}");
        }
    }

    #[test]
    fn only_text_is_asked_for_and_time_is_bounded() {
        let with =
            |name: HeaderName, value: &'static str| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let prometheus =
            "application/vnd.google.protobuf;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
        assert_eq!(accept(&with(ACCEPT, prometheus)), "application/openmetrics-text;version=1.0.0;q=0.5");
        assert_eq!(accept(&HeaderMap::new()), ACCEPT_TEXT);
        assert_eq!(timeout(&HeaderMap::new()), TIMEOUT);
        assert_eq!(timeout(&with(TIMEOUT_HEADER, "2")), Duration::from_millis(1750));
        for (said, taken) in [("1e9", TIMEOUT_MAX), ("-1", TIMEOUT), ("NaN", TIMEOUT), ("0", TIMEOUT_RESERVE)] {
            assert_eq!(timeout(&with(TIMEOUT_HEADER, said)), taken, "{said}");
        }
    }
}
