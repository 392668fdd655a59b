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

/// Whether this network namespace has IPv6 at all (an address, `::1` on lo included).
pub(crate) fn has_ipv6() -> bool {
    addresses().is_some_and(|list| !list.trim().is_empty())
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
