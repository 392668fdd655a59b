//! Which addresses may be the mesh's.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// Whether an address lies where mesh addresses can lie: in one of the prefixes that the control plane lists, or in a
/// private range (10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7), listed or not.
pub(super) fn may_be_mesh(prefixes: &[IpNet], address: IpAddr) -> bool {
    is_private(address) || prefixes.iter().any(|prefix| prefix.contains(&address))
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => is_unique_local(v6) || v6.to_ipv4_mapped().is_some_and(|v4| is_private(v4.into())),
    }
}

fn is_unique_local(address: Ipv6Addr) -> bool {
    address.octets()[0] & 0xfe == 0xfc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_ranges_are_inside_and_others_only_when_listed() {
        let listed: Vec<IpNet> = vec!["203.0.113.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        for (address, inside) in [
            ("10.1.2.3", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("192.168.0.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("203.0.113.9", true),
            ("203.0.114.9", false),
            ("fd00::1", true),
            ("fe80::1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(may_be_mesh(&listed, address.parse().unwrap()), inside, "{address}");
        }
    }
}
