//! Rules for TLS that is not terminated here, and for everything else that is not HTTP.

use std::collections::BTreeMap;

use mesh_core::config::{L4Match, TcpRule, TlsRule, WeightedDestination};
use mesh_crd::networking::{L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute};

use super::{Rules, host_pattern, shares};
use crate::hosts;
use crate::objects::parse_network;
use crate::problem::{Code, Problems};

impl Rules<'_, '_> {
    pub(super) fn tls_rule(&self, index: usize, rule: &TlsRoute, problems: &mut Problems) -> Option<TlsRule> {
        let at = format!("spec.tls[{index}]");
        let mut matches = Vec::new();
        for (number, written) in rule.match_.iter().enumerate() {
            if self.applies(&written.gateways, &written.source_namespace) {
                matches.push(self.tls_match(written, &format!("{at}.match[{number}]"), problems));
            }
        }
        if matches.is_empty() && !rule.match_.is_empty() {
            return None;
        }
        if rule.match_.is_empty() {
            let why = "a TLS rule needs a match with sniHosts; it never matches";
            problems.error(Code::InvalidValue, &at, why, "write match: [{sniHosts: [...]}]");
            matches.push(L4Match { unsupported: Some(why.to_owned()), ..L4Match::default() });
        }
        Some(TlsRule { matches, destinations: self.destinations(&rule.route, &at, problems) })
    }

    pub(super) fn tcp_rule(&self, index: usize, rule: &TcpRoute, problems: &mut Problems) -> Option<TcpRule> {
        let at = format!("spec.tcp[{index}]");
        let mut matches = Vec::new();
        for (number, written) in rule.match_.iter().enumerate() {
            if self.applies(&written.gateways, &written.source_namespace) {
                matches.push(self.tcp_match(written, &format!("{at}.match[{number}]"), problems));
            }
        }
        if matches.is_empty() && !rule.match_.is_empty() {
            return None;
        }
        let list = format!("{at}.match");
        if rule.match_.is_empty() && self.object.issues.iter().any(|issue| issue.path == list) {
            matches.push(L4Match { unsupported: self.unread(&list), ..L4Match::default() });
        }
        Some(TcpRule { matches, destinations: self.destinations(&rule.route, &at, problems) })
    }

    fn tls_match(&self, written: &TlsMatchAttributes, at: &str, problems: &mut Problems) -> L4Match {
        let mut out = self.l4(&written.destination_subnets, written.port, &written.source_labels, at, problems);
        let own = &self.object.spec.hosts;
        let namespace = &self.object.meta.namespace;
        let own: Vec<_> = own.iter().map(|host| self.view.objects.expand(host, namespace)).collect();
        for (index, host) in written.sni_hosts.iter().enumerate() {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            if !own.iter().any(|pattern| hosts::covers(pattern, &host)) {
                let field = format!("{at}.sniHosts[{index}]");
                let message = format!("{host} is none of the object's hosts; the match never matches");
                problems.error(Code::InvalidValue, &field, message, "add it to spec.hosts");
                out.unsupported.get_or_insert(format!("{field} is none of the object's hosts"));
            }
            out.sni.push(host_pattern(&host));
        }
        if written.sni_hosts.is_empty() {
            let why = format!("{at}.sniHosts is empty");
            problems.error(Code::InvalidValue, at, "sniHosts is empty; the match never matches", "name the SNI hosts");
            out.unsupported.get_or_insert(why);
        }
        out
    }

    fn tcp_match(&self, written: &L4MatchAttributes, at: &str, problems: &mut Problems) -> L4Match {
        let mut out = self.l4(&written.destination_subnets, written.port, &written.source_labels, at, problems);
        if !written.source_subnet.is_empty() {
            let field = format!("{at}.sourceSubnet");
            problems.unsupported(&field, "the match never matches");
            out.unsupported.get_or_insert(format!("{field} is not built"));
        }
        out
    }

    fn l4(
        &self,
        subnets: &[String],
        port: Option<u32>,
        labels: &BTreeMap<String, String>,
        at: &str,
        problems: &mut Problems,
    ) -> L4Match {
        let mut out = L4Match { unsupported: self.unread(at), source_labels: labels.clone(), ..L4Match::default() };
        for (index, text) in subnets.iter().enumerate() {
            match parse_network(text) {
                Some(network) => out.destination_subnets.push(network),
                None => {
                    let field = format!("{at}.destinationSubnets[{index}]");
                    let message = format!("{text:?} is no address range; the match never matches");
                    problems.error(Code::InvalidValue, &field, message, "write an IP or a CIDR");
                    out.unsupported.get_or_insert(format!("{field} is no address range"));
                }
            }
        }
        if let Some(port) = port.filter(|port| *port != 0) {
            out.port = u16::try_from(port).ok();
            if out.port.is_none() {
                let field = format!("{at}.port");
                problems.error(Code::InvalidValue, &field, format!("{port} is no port number"), "write 1 to 65535");
                out.unsupported.get_or_insert(format!("{field} is no port number"));
            }
        }
        out
    }

    /// The destinations of a connection rule; one that leads nowhere where they cannot be read.
    fn destinations(&self, route: &[RouteDestination], at: &str, problems: &mut Problems) -> Vec<WeightedDestination> {
        let read = || {
            if let Some(unread) = self.unread_beside_matches(at) {
                return Err(unread);
            }
            if route.is_empty() {
                return Err("the rule has no route".to_owned());
            }
            let weights: Vec<_> = route.iter().map(|to| to.weight).collect();
            let one = |(index, weight): (usize, u32)| {
                let destination = self.destination(route[index].destination.as_ref())?;
                Ok(WeightedDestination { destination, weight, headers: Default::default() })
            };
            shares(&weights)?.into_iter().map(one).collect()
        };
        read().unwrap_or_else(|why: String| {
            if self.unread_beside_matches(at).is_none() {
                let message = format!("{why}; connections that match are closed");
                problems.error(Code::InvalidValue, at, message, "correct the rule");
            }
            vec![self.nowhere()]
        })
    }
}
