//! A rule: one of `from`, and one of `to`, and all of `when`.

use super::term::{CompiledTerm, Facts, Truth};
use crate::config::{AuthzPolicy, AuthzRule};

type All = Vec<CompiledTerm>;

#[derive(Debug)]
pub(super) struct Rule {
    from: Vec<All>,
    to: Vec<All>,
    when: All,
    /// Some term is unknown whatever the traffic: as an ALLOW rule it never matches.
    has_unknown: bool,
    /// Some term is about requests: as an ALLOW rule it never matches other traffic.
    has_http: bool,
}

impl Rule {
    pub(super) fn compile(
        written: &AuthzRule,
        policy: &AuthzPolicy,
        trust_domains: &[String],
        problems: &mut Vec<String>,
    ) -> Self {
        let mut compile = |terms: &[crate::config::Term], section| -> All {
            terms
                .iter()
                .map(|term| {
                    let (compiled, problem) = CompiledTerm::compile(term, section, trust_domains);
                    problems.extend(problem.map(|problem| format!("{}: {}: {problem}", policy.origin, compiled.field)));
                    compiled
                })
                .collect()
        };
        let from: Vec<All> = written.from.iter().map(|source| compile(&source.terms, "source")).collect();
        let to: Vec<All> = written.to.iter().map(|operation| compile(&operation.terms, "operation")).collect();
        let when: All = written.when.iter().flat_map(|condition| compile(&condition.terms, "when")).collect();
        let terms = || from.iter().chain(&to).flatten().chain(&when);
        let has_unknown = terms().any(CompiledTerm::is_unknown);
        let has_http = terms().any(CompiledTerm::is_http);
        Self { has_unknown, has_http, from, to, when }
    }

    /// As a DENY or CUSTOM rule: unknown counts as matching. On traffic that is not HTTP, terms about requests are
    /// unknown, and so are left out (istio-api 1.8: it may deny more).
    pub(super) fn may_match(&self, facts: &Facts<'_>) -> bool {
        let all = |terms: &All| terms.iter().all(|term| term.holds(facts) != Truth::No);
        any(&self.from, all) && any(&self.to, all) && all(&self.when)
    }

    /// As an ALLOW (or AUDIT) rule: whatever is unknown, it does not match.
    pub(super) fn surely_matches(&self, facts: &Facts<'_>) -> bool {
        if self.has_unknown || (self.has_http && facts.request.is_none()) {
            return false;
        }
        let all = |terms: &All| terms.iter().all(|term| term.holds(facts) == Truth::Yes);
        any(&self.from, all) && any(&self.to, all) && all(&self.when)
    }

    /// How many parts of the rule do not hold, and the first field among them.
    pub(super) fn miss(&self, facts: &Facts<'_>) -> (usize, &str) {
        let mut missing = 0;
        let mut field: Option<&str> = None;
        for part in [&self.from, &self.to] {
            if let Some((count, first)) = part.iter().map(|terms| misses(terms, facts)).min_by_key(|(count, _)| *count)
            {
                missing += count;
                field = field.or(first);
            }
        }
        let (count, first) = misses(&self.when, facts);
        (missing + count, field.or(first).unwrap_or(self.blanket_field(facts)))
    }

    /// The field that keeps the rule from ever matching, where every part that was looked at holds.
    fn blanket_field(&self, facts: &Facts<'_>) -> &str {
        let mut terms = self.from.iter().chain(&self.to).flatten().chain(&self.when);
        let culprit = terms.find(|term| term.is_unknown() || (term.is_http() && facts.request.is_none()));
        culprit.map_or("", |term| &term.field)
    }

    /// Whether the rule looks at requests, on this port of the workload.
    pub(super) fn looks_at_requests_on(&self, port: u16) -> bool {
        let reaches = |terms: &All| !terms.iter().any(|term| term.excludes_port(port));
        self.has_http && any(&self.to, reaches) && reaches(&self.when)
    }
}

/// One of the lists, or no lists at all.
fn any(lists: &[All], holds: impl Fn(&All) -> bool) -> bool {
    lists.is_empty() || lists.iter().any(holds)
}

fn misses<'r>(terms: &'r All, facts: &Facts<'_>) -> (usize, Option<&'r str>) {
    let mut failed = terms.iter().filter(|term| term.holds(facts) != Truth::Yes);
    let first = failed.next().map(|term| &*term.field);
    (usize::from(first.is_some()) + failed.count(), first)
}
