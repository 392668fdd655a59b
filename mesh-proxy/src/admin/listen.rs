//! Takes the connections of one port and bounds what they may cost.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::reply::Reply;

/// Connections of one port at once; more wait in the kernel's queue.
pub(super) const CONNECTIONS_MAX: usize = 128;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Time for a request's head, and time that a connection may stay without one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a client may leave our bytes unread.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Wait after a failure to accept: out of descriptors, perhaps, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which addresses a port listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// 127.0.0.1 and ::1.
    Loopback,
    /// All, of both families.
    All,
}

/// Opens the listeners of a port. A machine without IPv6 has them for IPv4 only.
///
/// # Errors
/// What the system says, with the address.
pub(super) fn open(on: On, port: u16) -> io::Result<Vec<TcpListener>> {
    let open = |address: IpAddr| listener((address, port).into());
    match on {
        On::Loopback => {
            let mut listeners = vec![open(Ipv4Addr::LOCALHOST.into())?];
            listeners.extend(if_family(open(Ipv6Addr::LOCALHOST.into()))?);
            Ok(listeners)
        }
        On::All => match if_family(open(Ipv6Addr::UNSPECIFIED.into()))? {
            Some(both) => Ok(vec![both]),
            None => Ok(vec![open(Ipv4Addr::UNSPECIFIED.into())?]),
        },
    }
}

/// `None` where the machine only lacks the address family.
fn if_family<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    const EAFNOSUPPORT: i32 = 97;
    match opened {
        Err(error) if error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable => {
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Whatever the system's default is: the unspecified address takes both families.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves a listener's connections until this future is dropped, which ends them too.
pub(super) async fn serve<F>(listener: TcpListener, answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static)
where
    F: Future<Output = Reply> + Send + 'static,
{
    let answer = Arc::new(answer);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&answer)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to one of the proxy's own ports cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<F>(stream: TcpStream, answer: Arc<impl Fn(Request<Incoming>) -> F + Send + Sync + 'static>)
where
    F: Future<Output = Reply> + Send + 'static,
{
    // A socket on which these fail is broken in a way that its first use will tell.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT));
    let service = service_fn(|request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to one of the proxy's own ports failed");
    }
}
