//! The listener of port 15012: bounded, with our own TLS, so that the identity that was verified in the handshake travels
//! with every call.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use mesh_api::limits::{CERTIFICATE_MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
use mesh_api::proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use mesh_api::proto::istio::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use mesh_tls::ServerTls;
use mesh_tls::leaf::{Leaf, Side};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::Ads;
use super::peers::{Peers, Place};
use crate::authn::Connection;
use crate::ca::CertificateService;
use crate::metrics::Metrics;

/// Connections at once, unfinished handshakes included.
const CONNECTIONS_MAX: usize = 20_000;
/// Handshakes that are waited for at once.
const HANDSHAKES_MAX: usize = 1_024;
/// Time for a handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// Connections that are ready for HTTP/2 and wait for it.
const READY_MAX: usize = 64;
/// Streams of one connection: configuration, certificates, and room.
const STREAMS_PER_CONNECTION_MAX: u32 = 16;
/// A call for a certificate, in bytes: it is read before its caller is known.
const SIGNING_REQUEST_BYTES_MAX: usize = 2 * mesh_tls::authority::CSR_BYTES_MAX;
/// What a peer may have on its way to us, in bytes, per stream and per connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Time until a call is answered: for a certificate, or that a stream begins.
const CALL_WAIT: Duration = Duration::from_secs(30);
/// Header list of one call, in bytes; a token takes about 1,500.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// HTTP/2 ping after this silence, and how long it may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that a peer may reset before they were accepted.
const PENDING_RESETS_MAX: usize = 64;
/// Pause after `accept` failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection with its verified peer.
struct Accepted {
    tls: Box<TlsStream<TcpStream>>,
    connection: Connection,
    _slot: OwnedSemaphorePermit,
    _place: Place,
}

/// Finished handshakes, as tonic wants them.
type Incoming = tokio_stream::wrappers::ReceiverStream<io::Result<Accepted>>;

/// Serves both services until `stop`, then lets streams end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: ServerTls,
    ads: Ads,
    certificates: CertificateService,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (ready, incoming) = mpsc::channel(READY_MAX);
    let acceptor = Acceptor {
        tls,
        ready,
        metrics,
        peers: Arc::default(),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        tasks: TaskTracker::new(),
    };
    let accepting = acceptor.run(listener, stop.clone());
    let ads = AggregatedDiscoveryServiceServer::new(ads)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let certificates = IstioCertificateServiceServer::new(certificates)
        .max_decoding_message_size(SIGNING_REQUEST_BYTES_MAX)
        .max_encoding_message_size(CERTIFICATE_MESSAGE_BYTES_MAX);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(Some(STREAM_WINDOW_BYTES))
        .initial_connection_window_size(Some(CONNECTION_WINDOW_BYTES))
        .timeout(CALL_WAIT)
        .add_service(ads)
        .add_service(certificates)
        .serve_with_incoming_shutdown(Incoming::new(incoming), stop.cancelled_owned());
    let (served, ()) = tokio::join!(serving, accepting);
    Ok(served?)
}

struct Acceptor {
    tls: ServerTls,
    ready: mpsc::Sender<io::Result<Accepted>>,
    metrics: Arc<Metrics>,
    peers: Arc<Peers>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&listener) => accepted,
                () = stop.cancelled() => break,
            };
            let Some((socket, peer, slot, handshake)) = accepted else { continue };
            let Some(place) = self.peers.enter(peer.ip()) else {
                failed(&self.metrics, peer, "this address has too many connections");
                continue;
            };
            self.metrics.connections.set((CONNECTIONS_MAX - self.connections.available_permits()) as u64);
            let (tls, ready, metrics, stop) =
                (self.tls.clone(), self.ready.clone(), self.metrics.clone(), stop.clone());
            self.tasks.spawn(async move {
                let shaken = tokio::select! {
                    shaken = timeout(HANDSHAKE_WAIT, shake(&tls, socket)) => shaken,
                    () = stop.cancelled() => return,
                };
                drop(handshake);
                let tls = match shaken {
                    Ok(Ok(tls)) => tls,
                    Ok(Err(error)) => return failed(&metrics, peer, &error.to_string()),
                    Err(_) => return failed(&metrics, peer, "it took too long"),
                };
                let connection = describe(&tls, peer);
                // The receiver is gone only when the server ends.
                let _ = ready.send(Ok(Accepted { tls: Box::new(tls), connection, _slot: slot, _place: place })).await;
            });
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The next connection, once there is room for it and for its handshake.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let slot = self.connections.clone().acquire_owned().await.ok()?;
        let handshake = self.handshakes.clone().acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Small answers must not wait for more.
                let _ = socket.set_nodelay(true);
                Some((socket, peer, slot, handshake))
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted: raise the limit of open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

async fn shake(tls: &ServerTls, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
    let config = tls.for_hello(&start.client_hello());
    start.into_stream(config).await
}

fn failed(metrics: &Metrics, peer: SocketAddr, reason: &str) {
    metrics.handshakes_failed.add(1);
    tracing::debug!(%peer, reason, "a handshake failed");
}

/// What the handshake proved.
fn describe(tls: &TlsStream<TcpStream>, peer: SocketAddr) -> Connection {
    let session = tls.get_ref().1;
    let certificate = mesh_tls::peer(session, Side::Client).and_then(|verified| {
        let leaf = Leaf::parse(session.peer_certificates()?.first()?).ok()?;
        Some((verified.identity, leaf.not_after))
    });
    // A peer whose certificate's end cannot be read counts as one without.
    let certificate = certificate.filter(|(_, end): &(_, SystemTime)| *end > SystemTime::UNIX_EPOCH);
    Connection { peer: Some(peer.ip().to_canonical()), certificate }
}

impl Connected for Accepted {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
