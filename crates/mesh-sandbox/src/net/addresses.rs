//! The addresses of a sandbox. Every sandbox uses the same ones, since nothing is shared between sandboxes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bridge: the pods' router, and the "node" they run on.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The bridge's IPv6 address.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1);
/// The cluster DNS.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The name of the one node.
pub const NODE_NAME: &str = "sandbox";
/// Pod addresses, as written in rules.
pub const POD_RANGE: &str = "10.244.0.0/16";
/// Service addresses, as written in rules.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";

/// First and last number of a pod's address in its range, and of a Service's.
const POD: (u16, u16) = (10, 0xfffe);
/// See [`POD`]. The first 256 are left to Services that choose their own, as Kubernetes does.
const SERVICE: (u16, u16) = (0x0100, 0xfffe);

/// Hands out numbers round and round, so that an address is reused as late as possible.
#[derive(Debug)]
struct Pool {
    first: u16,
    last: u16,
    next: u16,
    used: BTreeSet<u16>,
}

impl Pool {
    fn new((first, last): (u16, u16)) -> Self {
        Self { first, last, next: first, used: BTreeSet::new() }
    }

    fn take(&mut self) -> Option<u16> {
        for _ in self.first..=self.last {
            let number = self.next;
            self.next = if number == self.last { self.first } else { number + 1 };
            if self.used.insert(number) {
                return Some(number);
            }
        }
        None
    }
}

/// The addresses that are in use.
#[derive(Debug)]
pub struct Addresses {
    pods: Pool,
    services: Pool,
    v6: bool,
}

impl Addresses {
    /// No address is used yet. `v6` says whether pods get an IPv6 address too.
    pub fn new(v6: bool) -> Self {
        Self { pods: Pool::new(POD), services: Pool::new(SERVICE), v6 }
    }

    /// Addresses for a pod, IPv4 first; `None` when all are used.
    pub fn take_pod(&mut self) -> Option<Vec<IpAddr>> {
        let number = self.pods.take()?;
        let [hi, lo] = number.to_be_bytes();
        let mut out = vec![IpAddr::from(Ipv4Addr::new(10, 244, hi, lo))];
        if self.v6 {
            out.push(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, number).into());
        }
        Some(out)
    }

    /// The address of a Service: the one it asks for where that is free and in range, else the next free one.
    pub fn take_service(&mut self, asked: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        if let Some(number) = asked.and_then(service_number)
            && self.services.used.insert(number)
        {
            return asked;
        }
        let [hi, lo] = self.services.take()?.to_be_bytes();
        Some(Ipv4Addr::new(10, 96, hi, lo))
    }

    /// Gives a pod's addresses back.
    pub fn free_pod(&mut self, addresses: &[IpAddr]) {
        if let Some(IpAddr::V4(v4)) = addresses.first() {
            let [.., hi, lo] = v4.octets();
            self.pods.used.remove(&u16::from_be_bytes([hi, lo]));
        }
    }

    /// Gives a Service's address back.
    pub fn free_service(&mut self, address: Ipv4Addr) {
        if let Some(number) = service_number(address) {
            self.services.used.remove(&number);
        }
    }
}

fn service_number(address: Ipv4Addr) -> Option<u16> {
    let [a, b, hi, lo] = address.octets();
    let number = u16::from_be_bytes([hi, lo]);
    (a == 10 && b == 96 && number != 0 && number != 10 && number != 0xffff).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_address_is_reused_last() {
        let mut addresses = Addresses::new(true);
        let first = addresses.take_pod().unwrap();
        assert_eq!(first[0].to_string(), "10.244.0.10");
        assert_eq!(first[1].to_string(), "fd00:10:244::a");
        addresses.free_pod(&first);
        assert_ne!(addresses.take_pod().unwrap(), first);
    }

    #[test]
    fn services_may_choose() {
        let mut addresses = Addresses::new(false);
        let asked = Some(Ipv4Addr::new(10, 96, 0, 20));
        assert_eq!(addresses.take_service(asked), asked);
        assert_eq!(addresses.take_service(asked), Some(Ipv4Addr::new(10, 96, 1, 0)));
        assert_eq!(addresses.take_service(Some(DNS)), Some(Ipv4Addr::new(10, 96, 1, 1)));
    }
}
