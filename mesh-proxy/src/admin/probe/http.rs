//! `httpGet`, as the kubelet asks it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::Empty;
use tokio::net::TcpStream;

use super::spec::HttpGet;
use super::{Outcome, tls};
use crate::admin::ask;

/// Bytes of the answer's body that are read (and thrown away), as the kubelet does: an application that sends a little
/// more than a status is not answered with a reset.
const BODY_BYTES_MAX: usize = 10 * 1024;
/// Headers that say how this very message is sent; a probe cannot set them.
const NOT_SET_BY_PROBES: [HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Asks, and passes the status on. Redirects are not followed: a redirect is a success, as it is to the kubelet where
/// it leads to another host.
pub(super) async fn ask(
    stream: TcpStream,
    address: SocketAddr,
    get: &HttpGet,
    asked_with: &HeaderMap,
) -> Result<Outcome, String> {
    let request = request(address, get, asked_with)?;
    let answer = match get.scheme.as_deref().unwrap_or("HTTP") {
        "HTTP" => ask::http1(stream, request, BODY_BYTES_MAX).await,
        "HTTPS" => {
            let stream = tls::connect(stream, address.ip()).await.map_err(|error| format!("no TLS: {error}"))?;
            ask::http1(stream, request, BODY_BYTES_MAX).await
        }
        other => return Err(format!("the scheme {other:?} is neither HTTP nor HTTPS")),
    };
    let answer = answer.map_err(|error| format!("no answer: {error}"))?;
    Ok(Outcome::new(answer.status, format!("the application answered {}", answer.status)))
}

/// The probe's own headers, and from the kubelet's request who asks and what is accepted.
fn request(address: SocketAddr, get: &HttpGet, asked_with: &HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
    let mut headers = HeaderMap::new();
    for header in get.http_headers.iter().flatten() {
        let name: HeaderName = header.name.parse().map_err(|_| format!("{:?} is not a header's name", header.name))?;
        let value =
            HeaderValue::from_str(&header.value).map_err(|_| format!("the value of header {name} is not one"))?;
        if !NOT_SET_BY_PROBES.contains(&name) {
            headers.append(name, value);
        }
    }
    for name in [USER_AGENT, ACCEPT] {
        if let (false, Some(value)) = (headers.contains_key(&name), asked_with.get(&name)) {
            headers.insert(name, value.clone());
        }
    }
    if !headers.contains_key(HOST) {
        let host = HeaderValue::from_str(&address.to_string()).map_err(|error| error.to_string())?;
        headers.insert(HOST, host);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::new(Empty::new());
    let target = target(get.path.as_deref().unwrap_or_default());
    *request.uri_mut() = target.parse().map_err(|_| format!("the path {target:?} is not one"))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The path as it is sent: with a slash before it, without fragment, and what must not stand in a request line encoded.
fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut target = String::from(slash);
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => target.push(char::from(byte)),
            other => target.push_str(&format!("%{other:02X}")),
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_sent_as_the_kubelet_sends_them() {
        for (written, sent) in [
            ("", "/"),
            ("healthz", "/healthz"),
            ("/a?b=c&d=%20", "/a?b=c&d=%20"),
            ("/a b#c", "/a%20b"),
            ("/ü\r\nX: y", "/%C3%BC%0D%0AX:%20y"),
        ] {
            assert_eq!(target(written), sent, "{written}");
            assert!(sent.parse::<http::Uri>().is_ok());
        }
    }

    #[test]
    fn the_probes_headers_win_over_the_kubelets() {
        let get = HttpGet {
            host: None,
            port: 1,
            path: None,
            scheme: None,
            http_headers: Some(
                [("Host", "shop.example"), ("Accept", "x/y"), ("Content-Length", "9"), ("A", "1"), ("A", "2")]
                    .map(|(name, value)| super::super::spec::Header { name: name.into(), value: value.into() })
                    .into(),
            ),
        };
        let asked_with = HeaderMap::from_iter([
            (USER_AGENT, HeaderValue::from_static("kube-probe/1.33")),
            (ACCEPT, HeaderValue::from_static("*/*")),
        ]);
        let request = request("10.0.0.1:1".parse().unwrap(), &get, &asked_with).unwrap();
        let headers = request.headers();
        assert_eq!(headers.get(HOST).unwrap(), "shop.example");
        assert_eq!(headers.get(ACCEPT).unwrap(), "x/y");
        assert_eq!(headers.get(USER_AGENT).unwrap(), "kube-probe/1.33");
        assert_eq!(headers.get_all("a").iter().count(), 2);
        assert!(!headers.contains_key(CONTENT_LENGTH));
    }
}
