//! An HTTP client of one connection, on hyper's low-level parts: no pool and no retries, so that what it reports is
//! what happened on the wire.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::client::{Failure, Kind, target};
use crate::net::resolve::connect;
use crate::reply::{Body, full};

/// A request that can be sent again and again.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) url: Uri,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) http2: bool,
}

impl Plan {
    /// A GET of a URL without headers of its own.
    pub(crate) fn get(url: Uri) -> Plan {
        Plan { url, method: Method::GET, headers: HeaderMap::new(), body: Bytes::new(), http2: false }
    }

    /// The request as it goes on the wire: HTTP/1 in origin form with Host, HTTP/2 with scheme and authority.
    ///
    /// A `Host` among the plan's headers is what the peer is told, whatever host the URL names.
    pub(crate) fn request(&self, body: Body) -> Request<Body> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let named = self.headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = named.or(self.url.authority().map(|authority| authority.as_str())).unwrap_or_default();

        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let uri = if self.http2 {
            request.headers_mut().remove(HOST);
            *request.version_mut() = Version::HTTP_2;
            format!("http://{authority}{path}").parse()
        } else {
            if let Ok(host) = HeaderValue::from_str(authority) {
                request.headers_mut().insert(HOST, host);
            }
            path.parse()
        };
        *request.uri_mut() = uri.unwrap_or_else(|_| self.url.clone()); // a strange Host: say what the URL says
        request
    }
}

/// The sending side of one connection.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// Connects to the host of `url` and shakes hands.
    ///
    /// # Errors
    /// [`Kind::Resolve`], [`Kind::Connect`], or [`Kind::Exchange`] when the peer leaves during the handshake.
    pub(crate) async fn open(url: &Uri, http2: bool) -> Result<Connection, Failure> {
        let (host, port) = target(url).map_err(|error| Failure::new(Kind::Resolve, error.to_string()))?;
        let stream = connect(&host, port).await?;
        Connection::over(stream, http2).await
    }

    async fn over(stream: TcpStream, http2: bool) -> Result<Connection, Failure> {
        let io = TokioIo::new(stream);
        // The connection's task ends when the sender is dropped or the peer leaves; its error reaches the request.
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) = builder.timer(TokioTimer::new()).handshake(io).await.map_err(exchange_failed)?;
            tokio::spawn(connection);
            Ok(Connection::Http2(sender))
        } else {
            let (sender, connection) = http1::Builder::new().handshake(io).await.map_err(exchange_failed)?;
            tokio::spawn(connection);
            Ok(Connection::Http1(sender))
        }
    }

    /// Waits until the connection can take a request; false when it has ended.
    pub(crate) async fn ready(&mut self) -> bool {
        match self {
            Connection::Http1(sender) => sender.ready().await.is_ok(),
            Connection::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Kind::Exchange`], with the request when it is certain that nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, (Failure, Option<Box<Request<Body>>>)> {
        let sent = match self {
            Connection::Http1(sender) => sender.try_send_request(request).await,
            Connection::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            (exchange_failed(error.into_error()), unsent)
        })
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

/// Reads an answer to its end.
///
/// # Errors
/// [`Kind::Body`] when it breaks off or has more than `bytes_max` bytes.
pub(crate) async fn read(response: Response<Incoming>, bytes_max: usize) -> Result<Answer, Failure> {
    let (head, body) = response.into_parts();
    let whole = Limited::new(body, bytes_max).collect().await;
    let whole = whole.map_err(|error| Failure::new(Kind::Body, describe(&*error)))?;
    let trailers = whole.trailers().cloned().unwrap_or_default();
    Ok(Answer { status: head.status, version: head.version, headers: head.headers, body: whole.to_bytes(), trailers })
}

/// One request on a connection of its own, to the end of its answer.
///
/// # Errors
/// Any [`Kind`]; [`Kind::Timeout`] when all of it takes longer than `time_max`.
pub(crate) async fn call(plan: &Plan, bytes_max: usize, time_max: Duration) -> Result<Answer, Failure> {
    let exchange = async {
        let mut connection = Connection::open(&plan.url, plan.http2).await?;
        let response = connection.send(plan.request(full(plan.body.clone()))).await.map_err(|(failure, _)| failure)?;
        read(response, bytes_max).await
    };
    match tokio::time::timeout(time_max, exchange).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(&plan.url, time_max)),
    }
}

/// The failure of a request that took too long.
pub(crate) fn timed_out(url: &Uri, time_max: Duration) -> Failure {
    Failure::new(Kind::Timeout, format!("{url}: no whole answer within {} ms", time_max.as_millis()))
}

/// Reads `name: value` as curl's `-H` takes it.
///
/// # Errors
/// When the colon is missing or a part has characters that a header cannot have.
pub(crate) fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected 'name: value'")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

pub(crate) fn exchange_failed(error: hyper::Error) -> Failure {
    Failure::new(Kind::Exchange, describe(&error))
}

/// An error with its causes, which is where hyper says what really happened.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        cause = inner.source();
    }
    words
}
