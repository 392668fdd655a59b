//! Makes a connection: TCP, from the right source, and mutual TLS with exactly the workload that config names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::identity::SpiffeId;
use mesh_tls::error::PeerRefused;
use mesh_tls::leaf::Side;
use mesh_tls::{ClientTls, Peer, alpn};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::io::{Io, Transport, Wire};
use super::target::{Security, Speaks, Target};

/// Idle time of a connection until the kernel asks whether the other side lives.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Time between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A new connection.
#[derive(Debug)]
pub(crate) struct Dialled {
    /// Its bytes.
    pub(crate) io: Io,
    /// Who is there, where mutual TLS proved it.
    pub(crate) peer: Option<Peer>,
}

/// Why there is no connection. Nothing of a request was sent, whichever it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFault {
    /// The address that we must come from is not there.
    #[error("cannot come from {address}: {error}")]
    Source {
        /// It.
        address: IpAddr,
        /// What the system says.
        error: io::Error,
    },
    /// TCP did not come about.
    #[error("{0}")]
    Connect(io::Error),
    /// Neither TCP nor TLS came about in time.
    #[error("no connection within {}", jiff::SignedDuration::try_from(*.0).map_or_else(|_| String::from("the time limit"), |d| format!("{d:#}")))]
    Timeout(Duration),
    /// The other side is not who it must be.
    #[error("{0}")]
    WrongPeer(PeerRefused),
    /// TLS did not come about for another reason.
    #[error("{0}")]
    Tls(io::Error),
}

/// Opens a connection to `target` within `limit`, handshake included.
///
/// # Errors
/// See [`DialFault`].
pub(crate) async fn dial(tls: &ClientTls, target: &Target, limit: Duration) -> Result<Dialled, DialFault> {
    let deadline = Instant::now() + limit;
    let connecting = connect(target.address, target.source);
    let stream = timeout_at(deadline, connecting).await.map_err(|_| DialFault::Timeout(limit))??;
    let (identities, sni) = match &target.security {
        Security::Plain => return Ok(Dialled { io: Io::new(Transport::Plain(Wire::new(stream))), peer: None }),
        Security::Mesh { identities, sni } => (identities, sni),
    };
    let (config, name) = tls_config(tls, identities, sni.as_deref(), target.speaks);
    // The handshake's state is large and short-lived: it does not belong into every connection's future.
    let handshake = Box::pin(TlsConnector::from(config).connect(name, Wire::new(stream)));
    let stream = timeout_at(deadline, handshake).await.map_err(|_| DialFault::Timeout(limit))?.map_err(tls_fault)?;
    let peer = mesh_tls::peer(stream.get_ref().1, Side::Server);
    Ok(Dialled { io: Io::new(Transport::Tls(Box::new(stream))), peer })
}

fn tls_config(
    tls: &ClientTls,
    identities: &Arc<[SpiffeId]>,
    sni: Option<&str>,
    speaks: Speaks,
) -> (Arc<rustls::ClientConfig>, ServerName<'static>) {
    let offer = match speaks {
        Speaks::Http1 => alpn::OFFER_HTTP1,
        Speaks::Http2 => alpn::OFFER_HTTP2,
        Speaks::Opaque => alpn::OFFER_TCP,
    };
    match sni.and_then(|sni| ServerName::try_from(sni.to_owned()).ok()) {
        Some(name) => (tls.config_with_sni(Arc::clone(identities), offer), name),
        None => (tls.config(Arc::clone(identities), offer), ClientTls::no_name()),
    }
}

fn tls_fault(error: io::Error) -> DialFault {
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).and_then(mesh_tls::refusal);
    match refusal {
        Some(refusal) => DialFault::WrongPeer(refusal.clone()),
        None => DialFault::Tls(error),
    }
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, DialFault> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(DialFault::Connect)?;
    if let Some(source) = source {
        bind(&socket, source).map_err(|error| DialFault::Source { address: source, error })?;
    }
    let stream = socket.connect(address).await.map_err(DialFault::Connect)?;
    tune(&stream);
    Ok(stream)
}

/// Comes from this address without choosing a port yet: the port is then chosen with the destination known, and the
/// number of connections is not limited by the ports of one address.
fn bind(socket: &TcpSocket, source: IpAddr) -> io::Result<()> {
    setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind((source, 0).into())
}

/// What every connection wants: no delay of small writes, and an end when the other machine has vanished.
pub(crate) fn tune(stream: &TcpStream) {
    // A socket on which this fails is broken in a way that its first use will tell.
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
