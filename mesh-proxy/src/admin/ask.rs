//! The client side: connections to the pod's own application, and one HTTP/1.1 exchange on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Where connections to the application come from, as those of the inbound proxy do: the redirect rules let them pass,
/// while the proxy's connections from any other address to the pod's own would be led back into the proxy.
const SOURCE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
/// The same for IPv6 (`mesh-init` adds it to lo).
const SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// Opens a connection to the pod's own application.
///
/// # Errors
/// What the system says.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if ![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&address.ip()) {
        let source = if address.is_ipv4() { SOURCE_V4 } else { SOURCE_V6 };
        // Without a port yet: it is chosen once the destination is known.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind((source, 0).into()).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot come from {source}, which the redirect rules ask for: {error}"),
            )
        })?;
    }
    let stream = socket.connect(address).await?;
    // A socket on which this fails is broken in a way that its first use will tell.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body, or as much of it as was asked for.
    pub(super) body: Vec<u8>,
    /// Whether there was more of the body.
    pub(super) cut: bool,
}

/// Sends a request and reads its answer, of the body at most `body_bytes_max`. The caller bounds the time.
///
/// # Errors
/// Where the other side does not speak HTTP/1, or goes away before the answer's end.
pub(super) async fn http1<T>(io: T, request: Request<Empty<Bytes>>, body_bytes_max: usize) -> hyper::Result<Answer>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = client.handshake(TokioIo::new(io)).await?;
    let mut exchange = pin!(async move {
        let (head, mut incoming) = sender.send_request(request).await?.into_parts();
        let mut answer = Answer { status: head.status, headers: head.headers, body: Vec::new(), cut: false };
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let room = body_bytes_max - answer.body.len();
            answer.body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                answer.cut = true;
                break;
            }
        }
        Ok(answer)
    });
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection is done; what it has read is still in the exchange's hands.
        _ = connection => exchange.await,
    }
}
