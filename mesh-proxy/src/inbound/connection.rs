//! One connection to the pod, from its first byte to the choice of what serves it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::config::MtlsMode;
use mesh_core::destination;
use mesh_core::detect::{self, First, Http, Inbound, SILENCE};
use mesh_core::reason::Reason;
use mesh_tls::leaf::Side;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::peer::Client;
use super::{http, port, tcp};
use crate::config::InboundView;
use crate::detect::first::{FirstBytes, FirstFault};
use crate::listen::local::Local;
use crate::listen::socket;
use crate::telemetry::own::Direction;
use crate::telemetry::record::ClientFacts;
use crate::upstream::io::{ClientSocket, Io, Transport};

/// Time for a client's handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection is closed without having been served.
pub(super) struct Refusal {
    reason: Reason,
    detail: String,
    /// The access log has it already, with what was known of the connection.
    logged: bool,
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), logged: false }
    }

    pub(super) fn logged(self) -> Self {
        Self { logged: true, ..self }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: String::new(), logged: false }
    }
}

impl From<FirstFault> for Refusal {
    fn from(fault: FirstFault) -> Self {
        let reason = match fault {
            FirstFault::Timeout => Reason::ClientTimeout,
            FirstFault::Closed | FirstFault::Io(_) => Reason::ClientGone,
            FirstFault::Tls(_) => Reason::BadRequest,
        };
        Self::new(reason, fault.to_string())
    }
}

/// Serves one connection to the pod.
pub(crate) async fn serve(local: Rc<Local>, stream: TcpStream, remote: SocketAddr) {
    let remote = socket::canonical(remote);
    let Some(original) = socket::original_destination(&stream) else {
        // Somebody dialled 15006 itself.
        return local.refuse(Direction::Inbound, Reason::ProxyPort, remote, None, "the connection was not redirected");
    };
    serve_meant_for(local, stream, remote, original).await;
}

/// Serves a connection of which it is known where it was going.
pub(crate) async fn serve_meant_for(local: Rc<Local>, stream: TcpStream, remote: SocketAddr, original: SocketAddr) {
    if let Err(refusal) = admit(&local, stream, remote, original).await {
        match refusal.logged {
            true => local.count_refusal(Direction::Inbound, refusal.reason),
            false => local.refuse(Direction::Inbound, refusal.reason, remote, Some(original), &refusal.detail),
        }
    }
}

async fn admit(local: &Rc<Local>, stream: TcpStream, remote: SocketAddr, original: SocketAddr) -> Result<(), Refusal> {
    let view = local.worker.views.load();
    let Some(own) = view.inbound().cloned() else {
        return Err(Refusal::new(Reason::DiscoveryUnavailable, "this proxy has no configuration yet"));
    };
    destination::inbound(original, &own.inbound.addresses)?;
    drop(view);
    let client = ClientFacts { remote, original, sni: None, principal: None };
    let mut bytes = FirstBytes::new(stream);
    let mut seen = First::Unread;
    loop {
        let known = port::facts(&own, original.port(), local.memories.get(original));
        if known.mtls == MtlsMode::Strict {
            // Only a ClientHello can come, and it comes at once; who has proved nothing holds no place for long.
            bytes.hurry(HANDSHAKE_TIMEOUT);
        }
        match detect::inbound(&known, seen) {
            Inbound::Read => seen = bytes.read(seen).await?,
            Inbound::TerminateMeshTls => return terminate(local, &own, client, bytes).await,
            Inbound::Http(version) => {
                let client = Client::new(with_sni(client, &bytes), None);
                let io = Io::new(Transport::Accepted(bytes.into_replayed()));
                http::serve(local, client, io, version).await;
                return Ok(());
            }
            Inbound::Opaque => {
                let client = Client::new(with_sni(client, &bytes), None);
                let io = Io::new(Transport::Accepted(bytes.into_replayed()));
                return tcp::serve(local, &client, io).await;
            }
            Inbound::ConnectAndHold => {
                let first = tcp::Racing::begin(local, &own, Client::new(client.clone(), None)).await?;
                match first.hold(&mut bytes, SILENCE).await? {
                    tcp::Spoke::Client(now_seen) => seen = now_seen,
                    tcp::Spoke::Server(racing) => {
                        racing.pass(Io::new(Transport::Accepted(bytes.into_replayed()))).await;
                        return Ok(());
                    }
                }
            }
            Inbound::Refused(reason) => return Err(reason.into()),
        }
    }
}

fn with_sni<S>(client: ClientFacts, bytes: &FirstBytes<S>) -> ClientFacts {
    let sni = bytes.hello.as_ref().and_then(|hello| hello.sni.as_deref()).map(Into::into);
    ClientFacts { sni, ..client }
}

/// Terminates the mesh's mutual TLS, and asks again about what is inside.
async fn terminate(
    local: &Rc<Local>,
    own: &Arc<InboundView>,
    client: ClientFacts,
    bytes: FirstBytes<TcpStream>,
) -> Result<(), Refusal> {
    let client = with_sni(client, &bytes);
    let stream = Box::pin(handshake(local, bytes)).await?;
    let verified = mesh_tls::peer(stream.get_ref().1, Side::Client)
        .ok_or_else(|| Refusal::new(Reason::PeerTlsFailed, "the client showed no certificate"))?;
    let original = client.original;
    let client = Client::new(client, Some(verified));
    let mut bytes = FirstBytes::new(stream);
    let mut seen = First::Unread;
    loop {
        let known = port::facts(own, original.port(), local.memories.get(original));
        match detect::inbound_inner(&known, seen) {
            Inbound::Read => seen = bytes.read(seen).await?,
            Inbound::Http(version) => {
                http::serve(local, client, decrypted(bytes), version).await;
                return Ok(());
            }
            Inbound::Opaque => return tcp::serve(local, &client, decrypted(bytes)).await,
            Inbound::ConnectAndHold => {
                let first = tcp::Racing::begin(local, own, Rc::clone(&client)).await?;
                match first.hold(&mut bytes, Duration::ZERO).await? {
                    tcp::Spoke::Client(now_seen) => seen = now_seen,
                    tcp::Spoke::Server(racing) => {
                        racing.pass(decrypted(bytes)).await;
                        return Ok(());
                    }
                }
            }
            // Mesh TLS within mesh TLS is nothing that a proxy of the mesh sends.
            Inbound::TerminateMeshTls => return Err(Reason::TlsOnHttpPort.into()),
            Inbound::Refused(reason) => return Err(reason.into()),
        }
    }
}

async fn handshake(local: &Local, bytes: FirstBytes<TcpStream>) -> Result<TlsStream<ClientSocket>, Refusal> {
    let offered: Vec<Vec<u8>> = bytes.hello.as_ref().map(|hello| hello.alpn.clone()).unwrap_or_default();
    let config = local.worker.server_tls.choose(offered.iter().map(Vec::as_slice));
    let accepting = TlsAcceptor::from(config).accept(bytes.into_replayed());
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Refusal::new(Reason::PeerTlsFailed, error.to_string())),
        Err(_) => Err(Refusal::new(Reason::ClientTimeout, "the handshake did not end in time")),
    }
}

fn decrypted(bytes: FirstBytes<TlsStream<ClientSocket>>) -> Io {
    Io::new(Transport::AcceptedTls(Box::new(bytes.into_replayed())))
}

/// What is read from while it is not known what it is.
pub(super) trait Unknown: AsyncRead + Unpin {}
impl<S: AsyncRead + Unpin> Unknown for S {}

impl From<Http> for crate::upstream::target::Speaks {
    fn from(version: Http) -> Self {
        match version {
            Http::One => Self::Http1,
            Http::Two => Self::Http2,
        }
    }
}
