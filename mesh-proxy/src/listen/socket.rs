//! The sockets that captured connections arrive on, and where those connections were really going.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that wait to be accepted, per listener.
const BACKLOG: i32 = 4096;

/// Where applications' outgoing connections are redirected to (loopback only: nobody outside the pod can reach it).
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// Where connections to the pod are redirected to.
pub(crate) const INBOUND_PORT: u16 = 15006;

/// Whether the port is one of the proxy's own.
pub(crate) fn is_proxy_port(port: u16) -> bool {
    mesh_core::destination::PROXY_PORTS.contains(&port)
}

/// The addresses of the outbound listeners.
pub(crate) fn outbound_addresses() -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, OUTBOUND_PORT).into(), (Ipv6Addr::LOCALHOST, OUTBOUND_PORT).into()]
}

/// The addresses of the inbound listeners.
pub(crate) fn inbound_addresses() -> [SocketAddr; 2] {
    [(Ipv4Addr::UNSPECIFIED, INBOUND_PORT).into(), (Ipv6Addr::UNSPECIFIED, INBOUND_PORT).into()]
}

/// Opens a listener that shares its port with those of the other workers; the kernel spreads connections over them.
///
/// # Errors
/// What the system says; [`is_without_family`] tells whether the machine only lacks this address family.
pub(crate) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether the error only says that the machine has no IPv6 (or no IPv4).
pub(crate) fn is_without_family(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Where a redirected connection was going, from the kernel's connection tracking. `None` where it was not redirected.
pub(crate) fn original_destination(stream: &tokio::net::TcpStream) -> Option<SocketAddr> {
    let local = canonical(stream.local_addr().ok()?);
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let original = canonical(original.ok()?.as_socket()?);
    (original != local).then_some(original)
}

/// The address without its IPv6 mapping, if it has one.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_workers_share_a_port_and_a_direct_connection_has_no_original_destination() {
        let first = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = first.local_addr().unwrap();
        let second = listen(address).unwrap();
        drop(second);
        let listener = tokio::net::TcpListener::from_std(first).unwrap();
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        assert_eq!(original_destination(&accepted.unwrap().0), None);
        drop(client);
    }
}
