//! Listening on both address families with one socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;

/// Listens on `[::]:port` for IPv6 and IPv4, or on `0.0.0.0:port` where the machine has no IPv6.
///
/// # Errors
/// When neither socket can be bound, naming the port.
pub(crate) fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let both = bind(Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    both.or_else(|_| bind(Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
        .with_context(|| format!("cannot listen on port {port}"))
}

fn bind(domain: Domain, address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
