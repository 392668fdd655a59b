//! What the kernel knows about a TCP connection.

use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};

/// The beginning of Linux' `struct tcp_info` (`include/uapi/linux/tcp.h`, stable since 4.1 up to here). Fields that are
/// not used have no names of their own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[expect(unreachable_pub, reason = "nix's macro makes a public socket option, whose value must be public too")]
pub struct TcpInfoHead {
    state_and_options: [u8; 8],
    counters: [u32; 24],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
}

sockopt_impl!(
    /// `TCP_INFO`, as far as we need it.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    TcpInfoHead
);

/// How many bytes of ours the other side's kernel has acknowledged on this connection, the SYN included. `None` where
/// the kernel does not say.
pub(crate) fn bytes_acked(socket: &impl AsFd) -> Option<u64> {
    getsockopt(socket, TcpInfo).ok().map(|info| info.bytes_acked)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn acknowledged_bytes_are_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let before = bytes_acked(&client).unwrap();
        client.write_all(&[7; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(bytes_acked(&client).unwrap() - before, 1000);
    }
}
