//! The way to mesh-control: name, TCP, mesh TLS with the control plane's own identity required, gRPC.
//!
//! Used for both services on 15012, certificates and configuration. Every call makes a connection of its own, with
//! errors that name the step that failed: they are what `mesh-proxy ready --explain` shows.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hyper_util::rt::TokioIo;
use mesh_core::identity::SpiffeId;
use mesh_tls::{ClientTls, alpn, refusal};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::bootstrap::HostPort;

/// How long a TCP connection to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses tried at most.
const ADDRESSES_MAX: usize = 8;
/// A silent connection is probed after this time, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Where the control plane is and who it must be.
#[derive(Clone)]
pub(crate) struct ControlPlane {
    target: HostPort,
    tls: ClientTls,
    identity: Arc<[SpiffeId]>,
}

/// The step towards the control plane that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// Its name has no address.
    #[error("cannot resolve {host}: {reason}; is the cluster's DNS reachable from this pod?")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No address accepts connections.
    #[error("cannot connect to {address}: {reason}; is mesh-control running?")]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// TLS failed, for instance because the peer is not the control plane.
    #[error("TLS with {address} failed: {reason}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// Whom we met, or what the library said.
        reason: String,
    },
    /// The call failed.
    #[error("the control plane answered {code}: {message}")]
    Call {
        /// gRPC's code.
        code: tonic::Code,
        /// gRPC's message.
        message: String,
    },
    /// HTTP/2 could not be set up.
    #[error("HTTP/2 with the control plane failed: {0}")]
    Transport(String),
}

impl From<tonic::Status> for ControlError {
    fn from(status: tonic::Status) -> Self {
        Self::Call { code: status.code(), message: status.message().to_owned() }
    }
}

impl ControlPlane {
    /// Prepares; connects to nothing.
    pub(crate) fn new(target: HostPort, tls: ClientTls, identity: SpiffeId) -> Self {
        Self { target, tls, identity: Arc::from([identity]) }
    }

    /// Connects, and proves that the other end is the control plane. Our own certificate is shown if there is one.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) async fn connect(&self) -> Result<Channel, ControlError> {
        let stream = self.connect_tls().await?;
        // The name is only for the request's authority; who the peer is was settled by TLS.
        let endpoint = Endpoint::from_static("http://mesh-control")
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        endpoint
            .connect_with_connector(Once(Some(TokioIo::new(stream))))
            .await
            .map_err(|error| ControlError::Transport(chain(&error)))
    }

    async fn connect_tls(&self) -> Result<TlsStream<TcpStream>, ControlError> {
        let addresses = resolve(&self.target.host).await?;
        let mut last = None;
        for ip in addresses.into_iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(ip, self.target.port);
            match self.connect_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ControlError::Resolve {
            host: self.target.host.clone(),
            reason: "it has no address".to_owned(),
        }))
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>, ControlError> {
        let refused = |reason: String| ControlError::Connect { address, reason };
        let tcp = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_) => return Err(refused("no answer".to_owned())),
        };
        // Small messages in both directions; waiting to fill a segment would only delay them.
        let _ = tcp.set_nodelay(true);
        let config = self.tls.config(Arc::clone(&self.identity), &[alpn::H2]);
        let handshake = TlsConnector::from(config).connect(ClientTls::no_name(), tcp);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(ControlError::Tls { address, reason: tls_reason(&error) }),
            Err(_) => Err(ControlError::Tls { address, reason: "no answer".to_owned() }),
        }
    }
}

/// Addresses of a name, by the resolver that a static program can use.
async fn resolve(host: &str) -> Result<Vec<IpAddr>, ControlError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let failed = |reason: String| ControlError::Resolve { host: host.to_owned(), reason };
    // Made anew each time: `/etc/resolv.conf` may have changed, and a failed look-up must not be remembered.
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|error| failed(error.to_string()))?;
    let found = resolver.lookup_ip(host).await.map_err(|error| failed(error.to_string()))?;
    Ok(found.iter().collect())
}

fn tls_reason(error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.and_then(refusal).map_or_else(|| error.to_string(), ToString::to_string)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Hands over one connection that is already there. When it is gone, the channel ends; who needs another connects anew.
struct Once(Option<TokioIo<TlsStream<TcpStream>>>);

impl tower_service::Service<Uri> for Once {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let stream = self.0.take().ok_or_else(|| std::io::Error::other("the connection has ended"));
        Box::pin(std::future::ready(stream))
    }
}
