//! AuthorizationPolicies: which select a workload, and their rules in the mesh's words.
//!
//! What could not be read, or is not built, becomes [`Term::Unknown`], which an ALLOW rule never satisfies and a DENY
//! rule always does: so a mistake only ever denies. Each unknown is reported on the policy.

use ipnet::IpNet;
use mesh_core::config::{AuthzAction, AuthzPolicy, AuthzRule, Condition, Operation, Source, Term, ValueMatch};
use mesh_core::matching::PathTemplate;
use mesh_crd::kubernetes::Pod;
use mesh_crd::security::{self, Action, AuthorizationPolicy, Rule};
use mesh_crd::{Object, labels};

use crate::Objects;
use crate::objects::{origin, parse_network, selects};
use crate::problem::{Code, Problems};

impl Objects {
    /// The policies that select a pod: the root namespace's first, then by name.
    pub(crate) fn authorization_of(&self, pod: &Object<Pod>) -> Vec<AuthzPolicy> {
        let root = self.options.root_namespace.as_str();
        let own = Some(pod.meta.namespace.as_str()).filter(|namespace| *namespace != root);
        let all = [Some(root), own].into_iter().flatten().flat_map(|ns| self.authorization_policies_of(ns));
        let selected = all.filter(|policy| selects_pod(policy, pod));
        selected.map(|policy| self.authorization(policy, &mut Problems::of(policy))).collect()
    }

    /// A policy in the mesh's words.
    pub(crate) fn authorization(&self, policy: &Object<AuthorizationPolicy>, problems: &mut Problems) -> AuthzPolicy {
        let cx = Cx { policy };
        let spec = &policy.spec;
        let mut rules = Vec::new();
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            rules.push(cx.rule(rule, &format!("spec.rules[{index}]"), problems));
        }
        let mut action = match spec.action {
            Action::Allow => AuthzAction::Allow,
            Action::Deny => AuthzAction::Deny,
            Action::Audit => AuthzAction::Audit,
            Action::Custom => AuthzAction::Custom,
        };
        if let Some(field) = cx.broken() {
            // Something outside the rules could not be read: which requests, which workloads, even which action is
            // meant, is unclear. So nothing that this policy selects is let in.
            if policy.issues.touching("spec.action").is_some() {
                action = AuthzAction::Deny;
            }
            let unknown = Condition { terms: vec![Term::Unknown { field, http_only: false }] };
            rules.iter_mut().for_each(|rule| rule.when.push(unknown.clone()));
            if matches!(action, AuthzAction::Deny | AuthzAction::Custom) {
                rules.push(AuthzRule { when: vec![unknown], ..AuthzRule::default() });
            }
        }
        AuthzPolicy { origin: origin(policy), action, dry_run: is_dry_run(policy), rules }
    }
}

/// Whether a policy is only to be tried out.
pub(crate) fn is_dry_run(policy: &Object<AuthorizationPolicy>) -> bool {
    policy.meta.annotation(labels::DRY_RUN) == Some("true")
}

/// Whether a policy acts on a pod. One that is attached to gateways or waypoints does not act on sidecars.
fn selects_pod(policy: &Object<AuthorizationPolicy>, pod: &Object<Pod>) -> bool {
    let spec = &policy.spec;
    if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
        return false;
    }
    // A selector that could not be read selects everything, with rules that only deny (see `broken`).
    let readable = policy.issues.touching("spec.selector").is_none();
    match &spec.selector {
        Some(selector) if readable => selects(&selector.match_labels, &pod.meta.labels),
        _ => true,
    }
}

struct Cx<'o> {
    policy: &'o Object<AuthorizationPolicy>,
}

impl Cx<'_> {
    /// A field outside the rules that could not be read.
    fn broken(&self) -> Option<String> {
        let outside =
            |path: &str| path.is_empty() || mesh_crd::path::is_within(path, "spec") && !path.starts_with("spec.rules[");
        self.policy.issues.iter().find(|issue| outside(&issue.path)).map(|issue| issue.path.clone())
    }

    /// Unknowns for what could not be read directly in the message at `at`.
    fn unread(&self, at: &str) -> impl Iterator<Item = Term> {
        let direct = self
            .policy
            .issues
            .iter()
            .filter(move |issue| issue.path == at || mesh_crd::path::is_within(&issue.path, at));
        direct.map(|issue| Term::Unknown { field: issue.path.clone(), http_only: false })
    }

    fn rule(&self, rule: &Rule, at: &str, problems: &mut Problems) -> AuthzRule {
        let mut out = AuthzRule::default();
        let empty = |field: &str, problems: &mut Problems| {
            let message = "an empty list does not say what is meant; the rule is treated as unknown, so it only denies";
            problems.error(Code::InvalidValue, field, message, "write at least one entry, or remove the field");
            Term::Unknown { field: field.to_owned(), http_only: false }
        };
        for (index, from) in rule.from.iter().flatten().enumerate() {
            let at = format!("{at}.from[{index}]");
            let mut terms: Vec<_> = self.unread(&at).collect();
            let at = format!("{at}.source");
            if let Some(source) = &from.source {
                terms.extend(self.source(source, &at, problems));
            }
            if terms.is_empty() {
                terms.push(empty(&at, problems));
            }
            out.from.push(Source { terms });
        }
        for (index, to) in rule.to.iter().flatten().enumerate() {
            let at = format!("{at}.to[{index}]");
            let mut terms: Vec<_> = self.unread(&at).collect();
            let at = format!("{at}.operation");
            if let Some(operation) = &to.operation {
                terms.extend(operation_terms(operation, &at, problems));
            }
            if terms.is_empty() {
                terms.push(empty(&at, problems));
            }
            out.to.push(Operation { terms });
        }
        for (index, condition) in rule.when.iter().flatten().enumerate() {
            let at = format!("{at}.when[{index}]");
            let mut terms: Vec<_> = self.unread(&at).collect();
            terms.extend(self.condition(condition, &at, problems));
            if terms.is_empty() {
                terms.push(empty(&at, problems));
            }
            out.when.push(Condition { terms });
        }
        let lists = [
            ("from", rule.from.as_ref().map(Vec::len)),
            ("to", rule.to.as_ref().map(Vec::len)),
            ("when", rule.when.as_ref().map(Vec::len)),
        ];
        for (name, length) in lists {
            if length == Some(0) {
                out.when.push(Condition { terms: vec![empty(&format!("{at}.{name}"), problems)] });
            }
        }
        // What could not be read beside from, to and when.
        let inside = ["from[", "to[", "when["].map(|list| format!("{at}.{list}"));
        let beside = self.policy.issues.iter().filter(|issue| mesh_crd::path::is_within(&issue.path, at));
        for issue in beside.filter(|issue| !inside.iter().any(|list| issue.path.starts_with(list))) {
            out.when.push(Condition { terms: vec![Term::Unknown { field: issue.path.clone(), http_only: false }] });
        }
        out
    }

    fn source(&self, source: &security::Source, at: &str, problems: &mut Problems) -> Vec<Term> {
        let mut terms = Terms { at, problems, terms: Vec::new() };
        for (not, name, list) in
            [(false, "principals", &source.principals), (true, "notPrincipals", &source.not_principals)]
        {
            terms.patterns(name, list, |values| Term::Principal { not, values });
        }
        for (not, name, list) in
            [(false, "namespaces", &source.namespaces), (true, "notNamespaces", &source.not_namespaces)]
        {
            terms.patterns(name, list, |values| Term::Namespace { not, values });
        }
        for (not, name, list) in
            [(false, "trustDomains", &source.trust_domains), (true, "notTrustDomains", &source.not_trust_domains)]
        {
            terms.patterns(name, list, |values| Term::TrustDomain { not, values });
        }
        for (not, name, list) in [
            (false, "serviceAccounts", &source.service_accounts),
            (true, "notServiceAccounts", &source.not_service_accounts),
        ] {
            terms.parsed(name, list, |text| self.service_account(text), |values| Term::ServiceAccount { not, values });
        }
        for (not, name, list) in [(false, "ipBlocks", &source.ip_blocks), (true, "notIpBlocks", &source.not_ip_blocks)]
        {
            terms.parsed(name, list, ip_block, |values| Term::SourceIp { not, values });
        }
        terms.unbuilt("remoteIpBlocks", &source.remote_ip_blocks, false);
        terms.unbuilt("notRemoteIpBlocks", &source.not_remote_ip_blocks, false);
        terms.unbuilt("requestPrincipals", &source.request_principals, true);
        terms.unbuilt("notRequestPrincipals", &source.not_request_principals, true);
        terms.terms
    }

    fn condition(&self, condition: &security::Condition, at: &str, problems: &mut Problems) -> Vec<Term> {
        let key = condition.key.as_str();
        let mut terms = Terms { at, problems, terms: Vec::new() };
        for (not, name, list) in [(false, "values", &condition.values), (true, "notValues", &condition.not_values)] {
            match key {
                "source.ip" => terms.parsed(name, list, ip_block, |values| Term::SourceIp { not, values }),
                "destination.ip" => terms.parsed(name, list, ip_block, |values| Term::DestinationIp { not, values }),
                "destination.port" => terms.parsed(name, list, port, |values| Term::DestinationPort { not, values }),
                "source.namespace" => terms.patterns(name, list, |values| Term::Namespace { not, values }),
                "source.trustDomain" => terms.patterns(name, list, |values| Term::TrustDomain { not, values }),
                "source.principal" => terms.patterns(name, list, |values| Term::Principal { not, values }),
                "source.serviceAccount" => {
                    let parse = |text: &str| self.service_account(text);
                    terms.parsed(name, list, parse, |values| Term::ServiceAccount { not, values });
                }
                "connection.sni" => terms.patterns(name, list, |values| Term::Sni { not, values }),
                _ => match key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']')) {
                    Some(header) if !header.is_empty() => {
                        let header = header.to_ascii_lowercase();
                        let term = |values| Term::Header { name: header.clone(), not, values };
                        terms.patterns(name, list, term);
                    }
                    _ => terms.unbuilt_key(key, list.is_some()),
                },
            }
        }
        if condition.values.is_none() && condition.not_values.is_none() {
            terms.invalid("", "a condition needs values or notValues");
        }
        terms.terms
    }

    /// `namespace/name`, or `name` in the policy's namespace; compared whole, so no wildcards.
    fn service_account(&self, text: &str) -> Option<String> {
        let (namespace, name) = text.split_once('/').unwrap_or((&self.policy.meta.namespace, text));
        let plain = |part: &str| !part.is_empty() && !part.contains(['*', '/']);
        (plain(namespace) && plain(name)).then(|| format!("{namespace}/{name}"))
    }
}

fn operation_terms(operation: &security::Operation, at: &str, problems: &mut Problems) -> Vec<Term> {
    let mut terms = Terms { at, problems, terms: Vec::new() };
    let host = |value: &str| pattern(&value.to_ascii_lowercase());
    for (not, name, list) in [(false, "hosts", &operation.hosts), (true, "notHosts", &operation.not_hosts)] {
        terms.parsed(name, list, host, |values| Term::Host { not, values });
    }
    for (not, name, list) in [(false, "ports", &operation.ports), (true, "notPorts", &operation.not_ports)] {
        terms.parsed(name, list, port, |values| Term::DestinationPort { not, values });
    }
    for (not, name, list) in [(false, "methods", &operation.methods), (true, "notMethods", &operation.not_methods)] {
        terms.patterns(name, list, |values| Term::Method { not, values });
    }
    for (not, name, list) in [(false, "paths", &operation.paths), (true, "notPaths", &operation.not_paths)] {
        terms.parsed(name, list, path, |values| Term::Path { not, values });
    }
    terms.terms
}

/// Collects the terms of one message.
struct Terms<'p> {
    at: &'p str,
    problems: &'p mut Problems,
    terms: Vec<Term>,
}

impl Terms<'_> {
    /// A list of patterns.
    fn patterns(&mut self, name: &str, list: &Option<Vec<String>>, term: impl FnOnce(Vec<ValueMatch>) -> Term) {
        self.parsed(name, list, pattern, term);
    }

    /// A list of values; one that cannot be read makes the whole list unknown.
    fn parsed<T>(
        &mut self,
        name: &str,
        list: &Option<Vec<String>>,
        parse: impl Fn(&str) -> Option<T>,
        term: impl FnOnce(Vec<T>) -> Term,
    ) {
        let Some(list) = list else { return };
        if list.is_empty() {
            return self.invalid(name, "an empty list does not say what is meant");
        }
        let mut values = Vec::new();
        for (index, text) in list.iter().enumerate() {
            match parse(text) {
                Some(value) => values.push(value),
                None => return self.invalid(&format!("{name}[{index}]"), &format!("{text:?} is no value for it")),
            }
        }
        self.terms.push(term(values));
    }

    fn invalid(&mut self, name: &str, message: &str) {
        let field = if name.is_empty() { self.at.to_owned() } else { format!("{}.{name}", self.at) };
        let message = format!("{message}; the rule is treated as unknown, so it only denies");
        self.problems.error(Code::InvalidValue, &field, message, "write a value that the field can have");
        self.terms.push(Term::Unknown { field, http_only: false });
    }

    fn unbuilt(&mut self, name: &str, list: &Option<Vec<String>>, http_only: bool) {
        if list.is_some() {
            let field = format!("{}.{name}", self.at);
            let effect = "it is unknown whether it holds, so an ALLOW rule never matches and a DENY rule always does";
            self.problems.unsupported(&field, effect);
            self.terms.push(Term::Unknown { field, http_only });
        }
    }

    fn unbuilt_key(&mut self, key: &str, set: bool) {
        if set {
            let field = format!("{}.key", self.at);
            let effect = format!(
                "{key:?} is unknown, so an ALLOW rule with it never matches and a DENY rule treats it as matching"
            );
            self.problems.unsupported(&field, &effect);
            self.terms.push(Term::Unknown { field: key.to_owned(), http_only: key.starts_with("request.") });
        }
    }
}

/// A pattern: `*`, `prefix*`, `*suffix`, else exact. A wildcard at both ends means nothing that Istio knows.
fn pattern(text: &str) -> Option<ValueMatch> {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text.is_empty() => None,
        _ if text == "*" => Some(ValueMatch::Present),
        (Some(_), Some(_)) => None,
        (Some(suffix), None) => Some(ValueMatch::Suffix(suffix.to_owned())),
        (None, Some(prefix)) => Some(ValueMatch::Prefix(prefix.to_owned())),
        (None, None) => Some(ValueMatch::Exact(text.to_owned())),
    }
}

/// A path pattern: a template where it has `{*}` or `{**}`.
fn path(text: &str) -> Option<ValueMatch> {
    if !text.contains("{*}") && !text.contains("{**}") {
        return pattern(text);
    }
    PathTemplate::parse(text).is_ok().then(|| ValueMatch::Template(text.to_owned()))
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

fn ip_block(text: &str) -> Option<IpNet> {
    parse_network(text)
}
