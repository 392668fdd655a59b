//! From the written table to the compiled one: everything that can be decided when configuration arrives.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::HttpCondition;
use super::rewrite::Rewriter;
use super::{Action, CompiledRoutes, L4Head, Rule};
use crate::config::{HttpAction, HttpRule, L4Match, RouteTable, WeightedDestination};
use crate::retry::Retry;

impl CompiledRoutes {
    /// Compiles a table for a client with these labels.
    ///
    /// Never fails as a whole: a condition that does not compile never matches and is named in the problems; rules
    /// without any condition left never match.
    #[must_use]
    pub fn compile(table: &RouteTable, own_labels: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut compiled = Self {
            name: table.name.clone(),
            origin: table.origin.clone(),
            implicit: table.implicit,
            http: Vec::with_capacity(table.http.len()),
            tls: Vec::with_capacity(table.tls.len()),
            tcp: Vec::with_capacity(table.tcp.len()),
            destinations: Vec::new(),
        };
        for (index, rule) in table.http.iter().enumerate() {
            let rule = compiled.compile_rule(index, rule, own_labels, &mut problems);
            compiled.http.push(Arc::new(rule));
        }
        for rule in &table.tls {
            let rule = compiled.compile_l4(&rule.matches, &rule.destinations, own_labels, false);
            compiled.tls.push(rule);
        }
        for rule in &table.tcp {
            let rule = compiled.compile_l4(&rule.matches, &rule.destinations, own_labels, rule.matches.is_empty());
            compiled.tcp.push(rule);
        }
        for (protocol, rules) in [("tls", &compiled.tls), ("tcp", &compiled.tcp)] {
            let weightless = rules.iter().enumerate().filter(|(_, rule)| rule.split.is_none());
            problems.extend(weightless.map(|(index, _)| {
                format!(
                    "{protocol} rule {index}: the weights of its destinations add up to 0, it refuses what it matches"
                )
            }));
        }
        (compiled, problems)
    }

    fn compile_rule(
        &mut self,
        index: usize,
        rule: &HttpRule,
        own_labels: &BTreeMap<String, String>,
        problems: &mut Vec<String>,
    ) -> Rule {
        let mut conditions = Vec::with_capacity(rule.matches.len());
        for written in rule.matches.iter().filter(|m| m.unsupported.is_none() && has_all(own_labels, &m.source_labels))
        {
            match HttpCondition::compile(written) {
                Ok(condition) => conditions.push(condition),
                Err(error) => problems.push(format!("http rule {}: {error}", rule.name)),
            }
        }
        let rewriter = rule.rewrite.as_ref().map(Rewriter::compile).transpose();
        let action = match (&rule.action, &rewriter) {
            (HttpAction::Invalid(why), _) => Action::Invalid(why.as_str().into()),
            (_, Err(error)) => Action::Invalid(error.to_string().into()),
            (HttpAction::Redirect(redirect), Ok(_)) => Action::Redirect(redirect.clone()),
            (HttpAction::Direct(response), Ok(_)) => Action::Direct(response.clone()),
            (HttpAction::Route(destinations), Ok(_)) => match self.split(destinations) {
                Some(split) => Action::Route(split),
                None => Action::Invalid("the weights of its destinations add up to 0".into()),
            },
        };
        if let (Action::Invalid(why), false) = (&action, matches!(rule.action, HttpAction::Invalid(_))) {
            problems.push(format!("http rule {}: {why}", rule.name));
        }
        Rule {
            name: rule.name.as_str().into(),
            index,
            headers: rule.headers.clone(),
            timeout: rule.timeout,
            retry: Retry::compile(&rule.retry),
            fault: rule.fault,
            always: rule.matches.is_empty(),
            conditions,
            action,
            rewriter: rewriter.unwrap_or_default(),
        }
    }

    fn compile_l4(
        &mut self,
        matches: &[L4Match],
        destinations: &[WeightedDestination],
        own_labels: &BTreeMap<String, String>,
        always: bool,
    ) -> L4Rule {
        let usable = |m: &&L4Match| m.unsupported.is_none() && has_all(own_labels, &m.source_labels);
        let split = self.split(destinations);
        L4Rule { always, matches: matches.iter().filter(usable).cloned().collect(), split }
    }

    /// Gives the destinations their places; `None` if there is nothing to choose from.
    fn split(&mut self, destinations: &[WeightedDestination]) -> Option<Split> {
        let first = self.destinations.len();
        let mut until = Vec::with_capacity(destinations.len());
        let mut sum = 0_u64;
        for destination in destinations {
            sum += u64::from(destination.weight);
            until.push(sum);
        }
        self.destinations.extend_from_slice(destinations);
        match destinations.len() {
            0 => None,
            // A single destination is taken whatever its weight.
            1 => Some(Split { first, until: Vec::new() }),
            _ => (sum > 0).then_some(Split { first, until }),
        }
    }
}

/// Destinations by weight: the cumulative weight up to each, or nothing where there is one destination.
#[derive(Debug)]
pub(super) struct Split {
    first: usize,
    until: Vec<u64>,
}

impl Split {
    pub(super) fn pick(&self, rng: &mut fastrand::Rng) -> usize {
        let Some(&sum) = self.until.last() else { return self.first };
        let drawn = rng.u64(0..sum);
        self.first + self.until.partition_point(|&until| until <= drawn)
    }
}

#[derive(Debug)]
pub(super) struct L4Rule {
    always: bool,
    matches: Vec<L4Match>,
    pub(super) split: Option<Split>,
}

impl L4Rule {
    pub(super) fn matches(&self, head: &L4Head<'_>) -> bool {
        let holds = |m: &L4Match| {
            m.port.is_none_or(|port| port == head.port)
                && (m.sni.is_empty() || head.sni.is_some_and(|sni| m.sni.iter().any(|pattern| pattern.matches(sni))))
                && (m.destination_subnets.is_empty()
                    || m.destination_subnets.iter().any(|net| net.contains(&head.destination)))
        };
        self.always || self.matches.iter().any(holds)
    }
}

fn has_all(own: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| own.get(key) == Some(value))
}
