//! A small application: answers by path over HTTP/1, speaks gRPC health, and TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_tls::authority::Authority;
use mesh_tls::{Credentials, ServerTls, TrustBundle};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::certify;
use crate::admin::merge::BODY_BYTES_MAX;
use crate::admin::probe::grpc::{HealthCheckResponse, message};

/// Listens, and hands every connection to `serve`. Ends with the test's runtime.
async fn listen<F: Future<Output = ()> + Send + 'static>(
    on: &str,
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((on, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// HTTP/1 in clear on this address; `/from` tells where the request came from.
pub(super) async fn http_on(on: &str) -> SocketAddr {
    listen(on, |stream| async move {
        let from = stream.peer_addr().unwrap();
        serve(stream, from).await;
    })
    .await
}

/// HTTP/1 behind TLS, with a certificate that nobody trusts.
pub(super) async fn https() -> SocketAddr {
    let authority = Authority::self_signed("the application's own", SystemTime::now()).unwrap();
    let credentials = Credentials::new(TrustBundle::nobody());
    credentials.install(Arc::new(certify(&authority, "spiffe://elsewhere.example/ns/a/sa/b")));
    let acceptor = TlsAcceptor::from(ServerTls::with_optional_client(credentials, &[], &[]).choose([]));
    listen("127.0.0.1", move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let from = stream.peer_addr().unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, from).await;
            }
        }
    })
    .await
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, from: SocketAddr) {
    let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(request, from).await) });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, from: SocketAddr) -> Response<Full<Bytes>> {
    let with = |status: u16, body: &'static str| Response::builder().status(status).body(body.into()).unwrap();
    match request.uri().path() {
        "/ok" => with(200, "a secret of the application"),
        "/bad" => with(503, "a secret of the application"),
        "/moved" => Response::builder().status(302).header("location", "/bad").body("".into()).unwrap(),
        "/from" if from.ip().to_string() == "127.0.0.6" => with(200, ""),
        "/slow" => std::future::pending().await,
        "/headers" if request.headers().get("x-probe").is_some_and(|value| value == "yes") => with(200, ""),
        "/large" => Response::new(vec![b'a'; BODY_BYTES_MAX + 1].into()),
        "/metrics" => with(200, "# TYPE app_total counter\napp_total 7\n"),
        "/openmetrics" => Response::builder()
            .header("content-type", "application/openmetrics-text; version=1.0.0")
            .body("# TYPE app counter\napp_total 8\n# EOF\n".into())
            .unwrap(),
        _ => with(404, ""),
    }
}

/// gRPC health: the service `good` serves, `bad` does not, others are unknown.
pub(super) async fn grpc() -> SocketAddr {
    listen("127.0.0.1", |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(check(request, respond));
        }
    })
    .await
}

async fn check(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let asked = request.into_body().data().await.unwrap().unwrap();
    let known = match &asked[5..] {
        b"\x0a\x04good" => Some(1),
        b"\x0a\x03bad" => Some(2),
        _ => None,
    };
    let head = Response::builder().header("content-type", "application/grpc");
    let trailers = |status: &'static str| {
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))])
    };
    let Some(status) = known else {
        let mut response = head.body(()).unwrap();
        response.headers_mut().extend(trailers("5"));
        respond.send_response(response, true).unwrap();
        return;
    };
    let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
    body.send_data(message(&HealthCheckResponse { status }), false).unwrap();
    body.send_trailers(trailers("0")).unwrap();
}
