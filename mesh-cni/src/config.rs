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

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Result<Vec<u16>, String> {
        text.parse::<List<u16>>().map(|list| list.0)
    }

    #[test]
    fn lists_are_parsed_completely_or_refused() {
        assert_eq!(ports(""), Ok(vec![]));
        assert_eq!(ports("80, 443,80"), Ok(vec![80, 443]));
        for bad in [",", "80,", "0", "65536", "+80", "80\n", "http", "*", "80;443", "80 443"] {
            assert!(ports(bad).is_err(), "{bad:?}");
        }
        let ranges: List<IpNet> = "10.1.2.3/8,1.1.1.1,fd00::1/64".parse().expect("ranges");
        assert_eq!(
            ranges.0.iter().map(IpNet::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "1.1.1.1/32", "fd00::/64"]
        );
        assert!("10.0.0.0/33".parse::<List<IpNet>>().is_err());
        assert_eq!("*".parse::<Which<u16>>(), Ok(Which::All));
        assert_eq!("".parse::<Which<u16>>(), Ok(Which::Listed(List(vec![]))));
        let many: Vec<String> = (1..=1025).map(|port| port.to_string()).collect();
        assert!(ports(&many.join(",")).is_err());
    }

    #[test]
    fn interfaces_are_names_and_not_options() {
        for good in ["eth0", "net+", "br-lan.5", "veth1@if2"] {
            assert!(Interface::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "+", "-j", "eth0 -j ACCEPT", "eth0\n-A", "a234567890123456", "et+h0"] {
            assert!(Interface::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text = "search shop.svc\nnameserver 10.96.0.10\n nameserver\tfd00::a \nnameserver 10.96.0.10\n#nameserver 1.1.1.1\nnameserver fe80::1%eth0\nnameserver\n";
        let found: Vec<String> = name_servers(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["10.96.0.10", "fd00::a"]);
    }
}
