//! `grpc`: one call of `grpc.health.v1.Health/Check` over HTTP/2 in clear, as the kubelet makes it.

use std::net::SocketAddr;
use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use prost::Message;
use tokio::net::TcpStream;

use super::Outcome;

/// Bytes of the answer's message that are read; a real one has two.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the answer's headers.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// gRPC's prefix of a message: a byte for compression and four for the length.
const PREFIX_BYTES: usize = 5;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::admin) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(in crate::admin) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; unknown statuses are kept as numbers.
#[derive(Clone, PartialEq, Message)]
pub(in crate::admin) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(in crate::admin) status: i32,
}

/// Asks whether the service (empty: the server as a whole) is serving.
pub(super) async fn ask(stream: TcpStream, address: SocketAddr, service: &str) -> Result<Outcome, String> {
    let told = |error: h2::Error| format!("no gRPC answer: {error}");
    let mut client = h2::client::Builder::new();
    client.enable_push(false).max_header_list_size(HEADERS_BYTES_MAX);
    let (sender, connection) = client.handshake::<_, Bytes>(stream).await.map_err(told)?;
    let mut call = pin!(call(sender, address, service));
    let called = tokio::select! {
        called = &mut call => called,
        // The connection is done; what it has read is still in the call's hands.
        _ = connection => call.await,
    };
    let (status, message) = called.map_err(told)?;
    let trailers = match status {
        Ok(trailers) => trailers,
        Err(status) => return Err(format!("no gRPC answer: HTTP status {status}")),
    };
    let code = trailers.get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("missing");
    if code != "0" {
        let text = trailers.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
        return Ok(Outcome::new(StatusCode::SERVICE_UNAVAILABLE, format!("gRPC status {code} {text}")));
    }
    let answer = message.get(PREFIX_BYTES..).and_then(|bytes| HealthCheckResponse::decode(bytes).ok());
    Ok(match answer {
        Some(HealthCheckResponse { status: SERVING }) => Outcome::new(StatusCode::OK, "SERVING"),
        Some(HealthCheckResponse { status: 2 }) => Outcome::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_SERVING"),
        Some(HealthCheckResponse { status }) => {
            Outcome::new(StatusCode::SERVICE_UNAVAILABLE, format!("health status {status} is not SERVING"))
        }
        None => Outcome::failed("the answer is not a HealthCheckResponse"),
    })
}

/// The headers in which the call's status is, or an HTTP status that is none of gRPC's; and the message's bytes.
type Called = (Result<HeaderMap, StatusCode>, BytesMut);

async fn call(sender: h2::client::SendRequest<Bytes>, address: SocketAddr, service: &str) -> Result<Called, h2::Error> {
    let mut sender = sender.ready().await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", concat!("mesh-proxy/", env!("CARGO_PKG_VERSION")))
        .body(())
        .expect("invariant: an address makes a URI, and the headers are constants");
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(message(&HealthCheckRequest { service: service.to_owned() }), true)?;
    let (head, mut incoming) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        return Ok((Err(head.status), BytesMut::new()));
    }
    let mut received = BytesMut::new();
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        let room = ANSWER_BYTES_MAX - received.len();
        received.extend_from_slice(&data[..data.len().min(room)]);
    }
    // An answer without a body has its status in the head.
    let trailers = incoming.trailers().await?.unwrap_or(head.headers);
    Ok((Ok(trailers), received))
}

/// A message with gRPC's prefix.
pub(in crate::admin) fn message(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    message.encode(&mut bytes).expect("invariant: a BytesMut grows");
    bytes.freeze()
}
