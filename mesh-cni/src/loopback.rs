//! The address `::6` on lo, from which the inbound proxy reaches the application.
//!
//! All of 127.0.0.0/8 is local by itself; of IPv6 only `::1` is, so a bind to `::6` would fail. Spoken in netlink
//! directly: one message, and no dependence on the program `ip`.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv6Addr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;

/// The address.
pub(crate) const PASSTHROUGH: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
/// The addresses of this network namespace; empty or absent where IPv6 is off.
const ADDRESSES: &str = "/proc/self/net/if_inet6";

// From <linux/netlink.h>, <linux/rtnetlink.h> and <linux/if_addr.h>.
const AF_NETLINK: i32 = 16;
const AF_INET6: u8 = 10;
const NETLINK_ROUTE: i32 = 0;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RT_SCOPE_HOST: u8 = 254;
/// Bytes of the header before every message and reply.
const HEADER_BYTES: usize = 16;

/// How much IPv6 a network namespace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    /// None: no address, not even `::1`.
    Off,
    /// Addresses that reach nobody beyond the link.
    Local,
    /// An address of a wider scope.
    Routed,
}

/// How much IPv6 this network namespace has.
pub(crate) fn ipv6() -> Ipv6 {
    read_ipv6(&addresses().unwrap_or_default())
}

/// Reads the kernel's list: address, index, prefix length, scope, flags, interface.
fn read_ipv6(list: &str) -> Ipv6 {
    let mut found = Ipv6::Off;
    for line in list.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[_, _, _, scope, _, interface] = words.as_slice() else { continue };
        match (scope, interface) {
            ("00", interface) if interface != "lo" => return Ipv6::Routed,
            _ => found = Ipv6::Local,
        }
    }
    found
}

/// Whether [`PASSTHROUGH`] is there.
pub(crate) fn is_present() -> bool {
    let wanted: String = PASSTHROUGH.octets().iter().map(|byte| format!("{byte:02x}")).collect();
    addresses().is_some_and(|list| list.lines().any(|line| line.starts_with(&wanted)))
}

fn addresses() -> Option<String> {
    fs::read_to_string(ADDRESSES).ok()
}

/// Adds [`PASSTHROUGH`] to lo; it does no harm if it is there.
pub(crate) fn add() -> Result<(), Error> {
    let added = || -> io::Result<()> {
        let index = nix::net::if_::if_nametoindex("lo")?;
        let mut socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_ROUTE)))?;
        socket.write_all(&request(index))?;
        let mut reply = [0; 512];
        let length = socket.read(&mut reply)?;
        answer(&reply[..length])
    };
    added().map_err(|source| Error::Loopback { source })?;
    match is_present() {
        true => Ok(()),
        false => Err(Error::Loopback { source: io::Error::other("the kernel agreed, but the address is not there") }),
    }
}

fn request(index: u32) -> Vec<u8> {
    let mut body = vec![AF_INET6, 128, IFA_F_NODAD, RT_SCOPE_HOST];
    body.extend(index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend(20u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(PASSTHROUGH.octets());
    }
    let length = u32::try_from(HEADER_BYTES + body.len()).expect("a short message");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(RTM_NEWADDR.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    message
}

/// Reads the acknowledgement: a negated error number, zero for success.
fn answer(reply: &[u8]) -> io::Result<()> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is not an acknowledgement");
    let kind = reply.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code =
        reply.get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(strange()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ipv6_there_is_is_read_from_the_kernels_list() {
        let own = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let passthrough = "00000000000000000000000000000006 01 80 00 82       lo\n";
        let link = "fe80000000000000a00000fffe000001 02 40 20 80     eth0\n";
        let wide = "fd000077000000000000000000000002 02 40 00 82     eth0\n";
        assert_eq!(read_ipv6(""), Ipv6::Off);
        assert_eq!(read_ipv6(&[own, passthrough, link].concat()), Ipv6::Local);
        assert_eq!(read_ipv6(&[own, wide].concat()), Ipv6::Routed);
    }

    #[test]
    fn the_kernels_answer_is_an_error_number() {
        let reply = |kind: u16, code: i32| {
            let mut bytes = vec![0; HEADER_BYTES];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert!(answer(&reply(NLMSG_ERROR, 0)).is_ok());
        let denied = answer(&reply(NLMSG_ERROR, -1)).expect_err("EPERM");
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        assert!(answer(&reply(20, 0)).is_err());
        assert!(answer(&[]).is_err() && answer(&[0; 17]).is_err());
        assert_eq!(request(1).len(), HEADER_BYTES + 8 + 2 * 20);
    }
}
