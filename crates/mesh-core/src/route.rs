//! Where a request or a connection goes: a route table, compiled once, asked for every request.
//!
//! The first rule that matches decides, in the author's order. What can be decided when configuration arrives is decided
//! then: the client's own labels, regular expressions, cumulative weights, rewrite patterns. [`CompiledRoutes::decide`]
//! neither allocates nor formats.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    Destination, DirectResponse, Fault, HeaderEdits, Origin, Redirect, ServiceName, WeightedDestination,
};
use crate::request::RequestHead;
use crate::retry::Retry;

mod compile;
mod condition;
mod rewrite;

use compile::{L4Rule, Split};
use condition::HttpCondition;
use rewrite::Rewriter;
pub use rewrite::{Rewritten, location};

/// A route table as the proxy uses it.
#[derive(Debug)]
pub struct CompiledRoutes {
    /// The host that it routes.
    pub name: ServiceName,
    /// The VirtualService behind it, if there is one.
    pub origin: Option<Origin>,
    implicit: bool,
    http: Vec<Arc<Rule>>,
    tls: Vec<L4Rule>,
    tcp: Vec<L4Rule>,
    destinations: Vec<WeightedDestination>,
}

/// A compiled HTTP rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, or its index as text.
    pub name: Arc<str>,
    /// Its place among the table's HTTP rules.
    pub index: usize,
    /// Header changes for every destination of the rule.
    pub headers: HeaderEdits,
    /// Whole time, retries included; `None` is without limit.
    pub timeout: Option<Duration>,
    /// Retries.
    pub retry: Retry,
    /// Injected faults.
    pub fault: Option<Fault>,
    conditions: Vec<HttpCondition>,
    always: bool,
    action: Action,
    rewriter: Option<Rewriter>,
}

#[derive(Debug)]
enum Action {
    Route(Split),
    Redirect(Redirect),
    Direct(DirectResponse),
    Invalid(Box<str>),
}

/// What to do with a request.
#[derive(Debug)]
pub enum Decision<'r> {
    /// No rules: to the service itself, with default policies.
    Implicit,
    /// To a destination.
    Route(Routed<'r>),
    /// Answer with a redirect: [`location`] says where to.
    Redirect {
        /// The rule.
        rule: &'r Arc<Rule>,
        /// What was asked for; `status` is the answer's.
        redirect: &'r Redirect,
        /// The condition that matched, for [`location`].
        matched: Matched,
    },
    /// Answer directly.
    Direct {
        /// The rule.
        rule: &'r Arc<Rule>,
        /// The answer.
        response: &'r DirectResponse,
    },
    /// The rule is broken: 500, reason `invalid_rule`.
    Invalid {
        /// The rule.
        rule: &'r Arc<Rule>,
        /// What is wrong with it.
        why: &'r str,
    },
    /// No rule matches: 404, reason `no_route`.
    NotFound,
}

/// A request that goes to a destination.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'r> {
    /// The rule: timeout, retries, faults, header changes. Cloning the `Arc` keeps it for the response's way.
    pub rule: &'r Arc<Rule>,
    /// Where to, and the header changes for it.
    pub destination: &'r WeightedDestination,
    /// The destination's index in [`CompiledRoutes::destinations`].
    pub destination_index: usize,
    /// How long a prefix the matching condition matched.
    pub matched: Matched,
}

/// What a matching condition says about the path, for rewriting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// Its first bytes, this many, by a prefix.
    Prefix(usize),
    /// The path as a whole, or no condition on the path.
    Whole,
}

impl Routed<'_> {
    /// The changed path and authority, if the rule rewrites any. `path` is the normalized one, without query.
    #[must_use]
    pub fn rewrite(&self, path: &str, query: Option<&str>) -> Option<Rewritten<'_>> {
        self.rule.rewriter.as_ref().map(|rewriter| rewriter.apply(path, query, self.matched))
    }
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L4Decision<'r> {
    /// No rules: to the service itself.
    Implicit,
    /// To a destination; its index in [`CompiledRoutes::destinations`] beside it.
    Route(&'r WeightedDestination, usize),
    /// No rule matches, or its weights add up to nothing: close, reason `no_route`.
    NotFound,
}

/// A connection, as L4 rules see it.
#[derive(Clone, Copy, Debug)]
pub struct L4Head<'a> {
    /// The original destination's address.
    pub destination: IpAddr,
    /// The port that the client dialled.
    pub port: u16,
    /// The SNI, if the bytes are TLS and have one.
    pub sni: Option<&'a str>,
}

impl CompiledRoutes {
    /// Every destination that some rule can lead to, in a fixed order. [`Routed::destination_index`] points into it, so
    /// that the proxy resolves each once per configuration and not per request.
    #[must_use]
    pub fn destinations(&self) -> &[WeightedDestination] {
        &self.destinations
    }

    /// The services that the rules name, each once: they are held before the table is used.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        let mut seen = std::collections::BTreeSet::new();
        self.destinations.iter().map(|d| &d.destination.service).filter(move |name| seen.insert(*name))
    }

    /// Whether requests go to the service itself where there are no rules for their protocol.
    #[must_use]
    pub fn implicit(&self) -> bool {
        self.implicit
    }

    /// The compiled HTTP rules, in order.
    #[must_use]
    pub fn http_rules(&self) -> &[Arc<Rule>] {
        &self.http
    }

    /// Whether there are rules by SNI, so that a TLS connection's ClientHello must be read.
    #[must_use]
    pub fn has_tls_rules(&self) -> bool {
        !self.tls.is_empty()
    }

    /// Decides about an HTTP request that came in on `port` (the service port that the client dialled).
    #[must_use]
    pub fn decide<'r>(&'r self, head: &RequestHead<'_>, port: u16, rng: &mut fastrand::Rng) -> Decision<'r> {
        if self.http.is_empty() {
            return if self.implicit { Decision::Implicit } else { Decision::NotFound };
        }
        for rule in &self.http {
            let Some(matched) = rule.matches(head, port) else { continue };
            return match &rule.action {
                Action::Route(split) => {
                    let destination_index = split.pick(rng);
                    let destination = &self.destinations[destination_index];
                    Decision::Route(Routed { rule, destination, destination_index, matched })
                }
                Action::Redirect(redirect) => Decision::Redirect { rule, redirect, matched },
                Action::Direct(response) => Decision::Direct { rule, response },
                Action::Invalid(why) => Decision::Invalid { rule, why },
            };
        }
        Decision::NotFound
    }

    /// Decides about a TLS connection that is passed unread, by its SNI (lower case).
    #[must_use]
    pub fn decide_tls(&self, head: &L4Head<'_>, rng: &mut fastrand::Rng) -> L4Decision<'_> {
        self.decide_l4(&self.tls, head, rng)
    }

    /// Decides about an opaque connection.
    #[must_use]
    pub fn decide_tcp(&self, head: &L4Head<'_>, rng: &mut fastrand::Rng) -> L4Decision<'_> {
        self.decide_l4(&self.tcp, head, rng)
    }

    fn decide_l4<'r>(&'r self, rules: &[L4Rule], head: &L4Head<'_>, rng: &mut fastrand::Rng) -> L4Decision<'r> {
        if rules.is_empty() {
            return if self.implicit { L4Decision::Implicit } else { L4Decision::NotFound };
        }
        match rules.iter().find(|rule| rule.matches(head)).map(|rule| &rule.split) {
            Some(Some(split)) => {
                let index = split.pick(rng);
                L4Decision::Route(&self.destinations[index], index)
            }
            Some(None) | None => L4Decision::NotFound,
        }
    }
}

impl Rule {
    fn matches(&self, head: &RequestHead<'_>, port: u16) -> Option<Matched> {
        if self.always {
            return Some(Matched::Whole);
        }
        self.conditions.iter().find_map(|condition| condition.matches(head, port))
    }

    /// Where the rule routes to, if it routes.
    #[must_use]
    pub fn routes(&self) -> bool {
        matches!(self.action, Action::Route(_))
    }
}

/// The port of a destination's service: the one that is written, else the service's single port, else the port that the
/// client dialled (VirtualService, `destination.port`).
#[must_use]
pub fn destination_port(destination: &Destination, service_ports: &[u16], dialled: u16) -> u16 {
    match (destination.port, service_ports) {
        (Some(port), _) => port,
        (None, [single]) => *single,
        (None, _) => dialled,
    }
}

#[cfg(test)]
mod tests;
