//! Names of the cluster and their addresses, after Kubernetes' DNS specification 1.1.0.
//!
//! `<service>.<namespace>.svc.<domain>`: the virtual address, or for a headless Service the addresses of its ready
//! endpoints; `<hostname>.<service>…` for each endpoint that has a host name; `_<port>._<protocol>.<service>…` as SRV;
//! an ExternalName is a CNAME.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr as _;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// How long an answer may be kept, in seconds, and how long the absence of one. Short: pods come and go.
const TTL_SECONDS: u32 = 5;

/// How many CNAMEs are followed for one question.
const CNAME_DEPTH_MAX: usize = 8;

/// What one name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Addresses, for A and AAAA.
    pub addresses: Vec<IpAddr>,
    /// Another name.
    pub alias: Option<String>,
    /// Port and target of each SRV record.
    pub ports: Vec<(u16, String)>,
}

/// All names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    domain: String,
    names: BTreeMap<String, Entry>,
    /// Names that exist only because something lies below them: they have no records, but are not absent.
    parents: BTreeSet<String>,
}

/// An answer: the code, the records, and whether the zone's SOA is to be added (for negative answers).
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `NoError` or `NXDomain`.
    pub code: ResponseCode,
    /// The records of the answer section.
    pub records: Vec<Record>,
    /// The record of the authority section.
    pub soa: Option<Record>,
}

impl Zone {
    /// An empty zone for the cluster's domain.
    pub fn new(domain: &str) -> Self {
        Self { domain: domain.to_ascii_lowercase(), ..Self::default() }
    }

    /// Adds to what `name` stands for; the name is complete and without a final dot.
    pub fn entry(&mut self, name: &str) -> &mut Entry {
        let name = name.to_ascii_lowercase();
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if !self.parents.insert(parent.to_owned()) || parent == self.domain {
                break;
            }
            rest = parent;
        }
        self.names.entry(name).or_default()
    }

    /// Answers a question.
    pub fn answer(&self, question: &Name, kind: RecordType) -> Answer {
        let mut records = Vec::new();
        let mut owner = question.clone();
        let mut name = text(question);
        let mut code = ResponseCode::NoError;
        for _ in 0..CNAME_DEPTH_MAX {
            let Some(entry) = self.names.get(&name) else {
                // A name outside has no address here; a name inside that does not exist is absent.
                if !self.parents.contains(&name) && records.is_empty() {
                    code = ResponseCode::NXDomain;
                }
                break;
            };
            let alias = entry.alias.as_ref().filter(|_| kind != RecordType::CNAME).and_then(|a| Name::from_str(a).ok());
            let Some(target) = alias else {
                records.extend(entry.records(kind).map(|data| Record::from_rdata(owner.clone(), TTL_SECONDS, data)));
                break;
            };
            let target = absolute(target);
            records.push(Record::from_rdata(owner, TTL_SECONDS, RData::CNAME(CNAME(target.clone()))));
            name = text(&target);
            owner = target;
        }
        let soa = records.is_empty().then(|| self.soa()).flatten();
        Answer { code, records, soa }
    }

    fn soa(&self) -> Option<Record> {
        let name = absolute(Name::from_str(&self.domain).ok()?);
        let of = |label: &str| Some(absolute(Name::from_str(&format!("{label}.{}", self.domain)).ok()?));
        let soa = SOA::new(of("ns.dns")?, of("hostmaster")?, 1, 7200, 1800, 86400, TTL_SECONDS);
        Some(Record::from_rdata(name, TTL_SECONDS, RData::SOA(soa)))
    }
}

impl Entry {
    fn records(&self, kind: RecordType) -> impl Iterator<Item = RData> {
        let addresses = self.addresses.iter().filter_map(move |address| match (address, kind) {
            (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => Some(RData::A(A(*v4))),
            (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(*v6))),
            _ => None,
        });
        let alias = self.alias.iter().filter(move |_| kind == RecordType::CNAME);
        let alias = alias.filter_map(|a| Some(RData::CNAME(CNAME(absolute(Name::from_str(a).ok()?)))));
        let ports = self.ports.iter().filter(move |_| kind == RecordType::SRV);
        let ports = ports.filter_map(|(port, target)| {
            Some(RData::SRV(SRV::new(0, 100, *port, absolute(Name::from_str(target).ok()?))))
        });
        addresses.chain(alias).chain(ports)
    }
}

fn absolute(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let mut zone = Zone::new("cluster.local");
        zone.entry("web.shop.svc.cluster.local").addresses.push("10.96.1.0".parse().unwrap());
        zone.entry("out.shop.svc.cluster.local").alias = Some("web.shop.svc.cluster.local".into());
        zone.entry("far.shop.svc.cluster.local").alias = Some("example.com".into());
        zone.entry("empty.shop.svc.cluster.local");
        zone
    }

    fn check(name: &str, kind: RecordType, code: ResponseCode, expect: &[&str]) {
        let answer = zone().answer(&Name::from_str(name).unwrap(), kind);
        let records: Vec<_> = answer.records.iter().map(|r| r.data.to_string()).collect();
        assert_eq!(
            (answer.code, records.as_slice()),
            (code, expect.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice()),
            "{name} {kind}"
        );
        assert_eq!(answer.soa.is_some(), expect.is_empty(), "{name}");
    }

    #[test]
    fn names_types_and_absence() {
        use RecordType as T;
        use ResponseCode as C;
        check("web.shop.svc.cluster.local.", T::A, C::NoError, &["10.96.1.0"]);
        check("WEB.Shop.svc.cluster.local.", T::A, C::NoError, &["10.96.1.0"]);
        check("web.shop.svc.cluster.local.", T::AAAA, C::NoError, &[]);
        check("empty.shop.svc.cluster.local.", T::A, C::NoError, &[]);
        check("shop.svc.cluster.local.", T::A, C::NoError, &[]);
        check("none.shop.svc.cluster.local.", T::A, C::NXDomain, &[]);
        check("none.svc.cluster.local.", T::A, C::NXDomain, &[]);
        check("example.com.", T::A, C::NXDomain, &[]);
        check("out.shop.svc.cluster.local.", T::A, C::NoError, &["web.shop.svc.cluster.local.", "10.96.1.0"]);
        check("far.shop.svc.cluster.local.", T::A, C::NoError, &["example.com."]);
        check("far.shop.svc.cluster.local.", T::CNAME, C::NoError, &["example.com."]);
    }
}
