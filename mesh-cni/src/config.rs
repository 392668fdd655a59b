//! What is to be captured, parsed: the words of the command line become types here and nowhere else.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Entries that one list may have.
const LIST_ENTRIES_MAX: usize = 1024;
/// Bytes that the name of an interface may have (`IFNAMSIZ` less the final zero).
const INTERFACE_BYTES_MAX: usize = 15;

/// What to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The proxy's user; what it sends is not captured.
    pub(crate) proxy_uid: u32,
    /// The proxy's group; what it sends is not captured.
    pub(crate) proxy_gid: u32,
    /// Where outgoing connections go.
    pub(crate) outbound_port: u16,
    /// Where incoming connections go.
    pub(crate) inbound_port: u16,
    pub(crate) include_inbound_ports: Which<u16>,
    pub(crate) exclude_inbound_ports: List<u16>,
    pub(crate) include_outbound_ranges: Which<IpNet>,
    pub(crate) exclude_outbound_ranges: List<IpNet>,
    pub(crate) include_outbound_ports: List<u16>,
    pub(crate) exclude_outbound_ports: List<u16>,
    pub(crate) exclude_interfaces: List<Interface>,
    /// The name servers whose answers the proxy is to give; `None` leaves DNS alone.
    pub(crate) dns_servers: Option<Vec<IpAddr>>,
}

/// All, or those listed (none, if the list is empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which<T> {
    All,
    Listed(List<T>),
}

/// A list with commas; each entry once, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

/// The name of a network interface, or its beginning and `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface(pub(crate) String);

/// One entry of a list.
pub(crate) trait Entry: Sized + PartialEq {
    /// Parses an entry; the error says what would be right.
    fn parse(text: &str) -> Result<Self, String>;
}

impl Entry for u16 {
    fn parse(text: &str) -> Result<u16, String> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let port = text.parse().ok().filter(|port| *port != 0 && digits);
        port.ok_or_else(|| format!("{text:?} is not a port (1 to 65535)"))
    }
}

impl Entry for IpNet {
    /// A CIDR, or an address, which is a range of one.
    fn parse(text: &str) -> Result<IpNet, String> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net| net.trunc()).map_err(|_| format!("{text:?} is not a CIDR such as 10.0.0.0/8"))
    }
}

impl Entry for Interface {
    fn parse(text: &str) -> Result<Interface, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        let name = text.strip_suffix('+').unwrap_or(text);
        let fits = !name.is_empty() && text.len() <= INTERFACE_BYTES_MAX && !name.starts_with('-');
        if fits && name.chars().all(plain) {
            return Ok(Interface(text.to_owned()));
        }
        Err(format!("{text:?} is not the name of a network interface"))
    }
}

impl<T: Entry> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<List<T>, String> {
        let mut list = Vec::new();
        for entry in text.split(',').map(|entry| entry.trim_matches(' ')).filter(|_| !text.is_empty()) {
            let entry = T::parse(entry)?;
            if !list.contains(&entry) {
                list.push(entry);
            }
            if list.len() > LIST_ENTRIES_MAX {
                return Err(format!("more than {LIST_ENTRIES_MAX} entries"));
            }
        }
        Ok(List(list))
    }
}

impl<T: Entry> FromStr for Which<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Which<T>, String> {
        match text {
            "*" => Ok(Which::All),
            _ => text.parse().map(Which::Listed),
        }
    }
}

/// The name servers of a `resolv.conf`.
pub(crate) fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A zone (`fe80::1%eth0`) cannot be written in a rule.
        if let Some(server) = words.next().and_then(|address| address.parse().ok())
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers
}
