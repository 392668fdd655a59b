//! Authorization: who may, and by which rule of whose policy.
//!
//! Order: CUSTOM, then DENY, then ALLOW; AUDIT and dry-run policies are only reported and never change the answer. A
//! term is three-valued. What is *unknown* (not built, or not applicable to the traffic) never widens access: an ALLOW
//! rule with an unknown never matches, DENY and CUSTOM take it as matching.

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::config::{AuthzAction, AuthzPolicy, Origin};
use crate::identity::SpiffeId;
use crate::request::RequestHead;

mod rule;
mod term;

use rule::Rule;
use term::Facts;

/// The policies of one workload, compiled.
#[derive(Debug, Default)]
pub struct CompiledPolicies {
    custom: Vec<Policy>,
    deny: Vec<Policy>,
    allow: Vec<Policy>,
    reported: Vec<Policy>,
}

#[derive(Debug)]
struct Policy {
    origin: Origin,
    action: AuthzAction,
    rules: Vec<Rule>,
}

/// A connection, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The peer's verified identity; `None` on plaintext and behind TLS that was not terminated.
    pub identity: Option<&'a SpiffeId>,
    /// Address of the direct peer.
    pub source: IpAddr,
    /// The address on which the connection was received.
    pub destination: IpAddr,
    /// The workload's own port.
    pub port: u16,
    /// SNI, if there was any.
    pub sni: Option<&'a str>,
}

/// A rule that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'p> {
    /// Whose.
    pub policy: &'p Origin,
    /// Its index within the policy.
    pub rule: usize,
}

/// The rule that came closest to allowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearMiss<'p> {
    /// Whose.
    pub policy: &'p Origin,
    /// Its index within the policy; `None`: the policy has no rules.
    pub rule: Option<usize>,
    /// The first field that did not hold, as its author wrote it: `source.principals`, `operation.paths`,
    /// `when[request.headers[x-user]]`, …
    pub field: &'p str,
}

/// Why it was decided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis<'p> {
    /// No ALLOW policy selects the workload.
    NothingRequired,
    /// This rule allows.
    Allowed(Matched<'p>),
    /// This rule denies.
    Denied(Matched<'p>),
    /// A CUSTOM rule selects it, and external authorization is not built.
    Custom(Matched<'p>),
    /// There are ALLOW policies, and none of their rules matches.
    NotAllowed(Option<NearMiss<'p>>),
}

/// What a policy that is not enforced would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report<'p> {
    /// An AUDIT rule matched.
    Audited(Matched<'p>),
    /// A dry-run ALLOW rule matched.
    WouldAllow(Matched<'p>),
    /// A dry-run DENY or CUSTOM rule matched.
    WouldDeny(Matched<'p>),
    /// No rule of this dry-run ALLOW policy matched.
    WouldNotAllow(&'p Origin),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'p> {
    /// Why; [`Verdict::is_allowed`] is what.
    pub basis: Basis<'p>,
    /// What policies that are not enforced say.
    pub reports: SmallVec<[Report<'p>; 2]>,
}

impl Verdict<'_> {
    /// Whether it may go on.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        match self.basis {
            Basis::NothingRequired | Basis::Allowed(_) => true,
            Basis::Denied(_) | Basis::Custom(_) | Basis::NotAllowed(_) => false,
        }
    }
}

impl std::fmt::Display for Basis<'_> {
    /// In Istio's words where there are any (`response_code_details`), so that people's searches find it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NothingRequired => f.write_str("no ALLOW policy selects the workload"),
            Self::Allowed(m) => {
                write!(f, "allowed by ns[{}]-policy[{}]-rule[{}]", m.policy.namespace, m.policy.name, m.rule)
            }
            Self::Denied(m) | Self::Custom(m) => {
                write!(f, "matched_policy[ns[{}]-policy[{}]-rule[{}]]", m.policy.namespace, m.policy.name, m.rule)
            }
            Self::NotAllowed(None) => f.write_str("matched_policy[none]"),
            Self::NotAllowed(Some(near)) => {
                write!(f, "matched_policy[none]; nearest: ns[{}]-policy[{}]", near.policy.namespace, near.policy.name)?;
                match near.rule {
                    Some(rule) => write!(f, "-rule[{rule}], {} does not match", near.field),
                    None => f.write_str(", which has no rules"),
                }
            }
        }
    }
}

impl CompiledPolicies {
    /// Compiles the policies that select a workload. `trust_domains` are the mesh's own and its aliases: a principal
    /// written in one of them means the same in all.
    ///
    /// Never fails as a whole: a value that does not compile makes its term unknown, and is named in the problems.
    #[must_use]
    pub fn compile(policies: &[AuthzPolicy], trust_domains: &[String]) -> (Self, Vec<String>) {
        let mut compiled = Self::default();
        let mut problems = Vec::new();
        for written in policies {
            let rules = written.rules.iter().map(|rule| Rule::compile(rule, written, trust_domains, &mut problems));
            let policy = Policy { origin: written.origin.clone(), action: written.action, rules: rules.collect() };
            match (written.action, written.dry_run) {
                (AuthzAction::Audit, _) | (_, true) => compiled.reported.push(policy),
                (AuthzAction::Custom, false) => compiled.custom.push(policy),
                (AuthzAction::Deny, false) => compiled.deny.push(policy),
                (AuthzAction::Allow, false) => compiled.allow.push(policy),
            }
        }
        (compiled, problems)
    }

    /// Whether rules that are enforced look at requests on this port of the workload: then it must speak HTTP
    /// ([`crate::detect::Port::http_rules`]).
    #[must_use]
    pub fn has_http_rules(&self, port: u16) -> bool {
        let enforced = self.custom.iter().chain(&self.deny).chain(&self.allow);
        enforced.flat_map(|policy| &policy.rules).any(|rule| rule.looks_at_requests_on(port))
    }

    /// Decides about a connection whose bytes are not read as HTTP.
    #[must_use]
    pub fn connection(&self, connection: &Connection<'_>) -> Verdict<'_> {
        self.decide(&Facts { connection, request: None })
    }

    /// Decides about a request.
    #[must_use]
    pub fn request(&self, connection: &Connection<'_>, request: &RequestHead<'_>) -> Verdict<'_> {
        self.decide(&Facts { connection, request: Some(request) })
    }

    fn decide(&self, facts: &Facts<'_>) -> Verdict<'_> {
        Verdict { basis: self.basis(facts), reports: self.reports(facts) }
    }

    fn basis(&self, facts: &Facts<'_>) -> Basis<'_> {
        if let Some(matched) = first(&self.custom, |rule| rule.may_match(facts)) {
            return Basis::Custom(matched);
        }
        if let Some(matched) = first(&self.deny, |rule| rule.may_match(facts)) {
            return Basis::Denied(matched);
        }
        if self.allow.is_empty() {
            return Basis::NothingRequired;
        }
        match first(&self.allow, |rule| rule.surely_matches(facts)) {
            Some(matched) => Basis::Allowed(matched),
            None => Basis::NotAllowed(self.nearest(facts)),
        }
    }

    /// The ALLOW rule of which the fewest parts did not hold; the first of equals.
    fn nearest(&self, facts: &Facts<'_>) -> Option<NearMiss<'_>> {
        let misses = self.allow.iter().flat_map(|policy| {
            policy.rules.iter().enumerate().map(move |(index, rule)| {
                let (missing, field) = rule.miss(facts);
                (missing, NearMiss { policy: &policy.origin, rule: Some(index), field })
            })
        });
        let nearest = misses.min_by_key(|(missing, _)| *missing).map(|(_, near)| near);
        nearest.or_else(|| {
            self.allow.first().map(|policy| NearMiss { policy: &policy.origin, rule: None, field: "rules" })
        })
    }

    fn reports(&self, facts: &Facts<'_>) -> SmallVec<[Report<'_>; 2]> {
        self.reported.iter().filter_map(|policy| policy.report(facts)).collect()
    }
}

impl Policy {
    fn report(&self, facts: &Facts<'_>) -> Option<Report<'_>> {
        let only = std::slice::from_ref(self);
        match self.action {
            AuthzAction::Audit => first(only, |rule| rule.surely_matches(facts)).map(Report::Audited),
            AuthzAction::Deny | AuthzAction::Custom => first(only, |rule| rule.may_match(facts)).map(Report::WouldDeny),
            AuthzAction::Allow => match first(only, |rule| rule.surely_matches(facts)) {
                Some(matched) => Some(Report::WouldAllow(matched)),
                None => Some(Report::WouldNotAllow(&self.origin)),
            },
        }
    }
}

fn first(policies: &[Policy], matches: impl Fn(&Rule) -> bool) -> Option<Matched<'_>> {
    policies.iter().find_map(|policy| {
        let rule = policy.rules.iter().position(&matches)?;
        Some(Matched { policy: &policy.origin, rule })
    })
}

#[cfg(test)]
mod tests;
