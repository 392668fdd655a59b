//! The virtual addresses of Services, as rules for a pod's own nat table.
//!
//! The jump to our chain is always the last rule of OUTPUT: the mesh's own chains are asked first, so what they redirect
//! never gets here, and what they let pass (the proxy's own traffic) does, like that of pods outside the mesh.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::addresses::{DNS, SERVICE_RANGE};

/// The chain's name, in the tables nat and filter.
pub const CHAIN: &str = "SANDBOX_SERVICES";

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualPort {
    /// The Service's address.
    pub address: Ipv4Addr,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The Service's port.
    pub port: u16,
    /// Where connections go, each with the same share. Empty: refused.
    pub backends: Vec<SocketAddrV4>,
}

/// What `iptables-restore --noflush` reads. With `installed` false the jumps do not exist yet.
///
/// Each table is replaced in one step, so that no connection sees half of the rules.
pub fn rules(ports: &[VirtualPort], installed: bool) -> String {
    let mut out = String::from("*nat\n");
    let put = "writing to a String cannot fail";
    writeln!(out, ":{CHAIN} - [0:0]").expect(put);
    if installed {
        writeln!(out, "-D OUTPUT -j {CHAIN}").expect(put);
    }
    writeln!(out, "-A OUTPUT -j {CHAIN}").expect(put);
    for port in ports {
        let VirtualPort { address, protocol, port: number, backends } = port;
        for (index, backend) in backends.iter().enumerate() {
            let left = backends.len() - index;
            write!(out, "-A {CHAIN} -d {address}/32 -p {protocol} -m {protocol} --dport {number}").expect(put);
            if left > 1 {
                // The first of n takes 1/n, the next 1/(n-1) of what is left, and so on: equal shares.
                let share = 1.0 / f64::from(u32::try_from(left).unwrap_or(u32::MAX));
                write!(out, " -m statistic --mode random --probability {share:.10}").expect(put);
            }
            writeln!(out, " -j DNAT --to-destination {backend}").expect(put);
        }
    }
    out.push_str("COMMIT\n");
    if !installed {
        // What still has a Service's address behind nat has no endpoint: refused at once, not lost.
        write!(
            out,
            "*filter\n:{CHAIN} - [0:0]\n-A OUTPUT -j {CHAIN}\n-A {CHAIN} -d {DNS}/32 -j RETURN\n\
             -A {CHAIN} -d {SERVICE_RANGE} -p tcp -j REJECT --reject-with tcp-reset\n\
             -A {CHAIN} -d {SERVICE_RANGE} -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n"
        )
        .expect(put);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_the_jump_is_last() {
        let ports = [VirtualPort {
            address: Ipv4Addr::new(10, 96, 1, 0),
            protocol: "tcp",
            port: 80,
            backends: (1..=3).map(|n| SocketAddrV4::new(Ipv4Addr::new(10, 244, 0, n), 8080)).collect(),
        }];
        let text = rules(&ports, true);
        assert_eq!(
            text,
            "*nat\n:SANDBOX_SERVICES - [0:0]\n-D OUTPUT -j SANDBOX_SERVICES\n-A OUTPUT -j SANDBOX_SERVICES\n\
             -A SANDBOX_SERVICES -d 10.96.1.0/32 -p tcp -m tcp --dport 80 -m statistic --mode random --probability 0.3333333333 -j DNAT --to-destination 10.244.0.1:8080\n\
             -A SANDBOX_SERVICES -d 10.96.1.0/32 -p tcp -m tcp --dport 80 -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.244.0.2:8080\n\
             -A SANDBOX_SERVICES -d 10.96.1.0/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.0.3:8080\n\
             COMMIT\n"
        );
        assert!(rules(&[], false).contains("tcp-reset"));
    }
}
