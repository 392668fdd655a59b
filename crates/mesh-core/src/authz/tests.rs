//! Who may, by which rule, and the laws that keep unknowns from widening access.

use proptest::prelude::*;

use super::*;
use crate::config::{AuthzRule, Condition, Operation, Source, Term, ValueMatch};

fn origin(name: &str) -> Origin {
    Origin { kind: "AuthorizationPolicy".into(), namespace: "ns".into(), name: name.into(), generation: 1 }
}

fn policy(name: &str, action: AuthzAction, rules: Vec<AuthzRule>) -> AuthzPolicy {
    AuthzPolicy { origin: origin(name), action, dry_run: false, rules }
}

/// A rule of one source, one operation and one condition; empty ones are left out.
fn rule(source: Vec<Term>, operation: Vec<Term>, when: Vec<Term>) -> AuthzRule {
    let some = |terms: &Vec<Term>| !terms.is_empty();
    AuthzRule {
        from: Some(source).filter(some).map(|terms| Source { terms }).into_iter().collect(),
        to: Some(operation).filter(some).map(|terms| Operation { terms }).into_iter().collect(),
        when: Some(when).filter(some).map(|terms| Condition { terms }).into_iter().collect(),
    }
}

/// `a`, `a*`, `*a`, `*` or a template, as authors write them.
fn value(text: &str) -> ValueMatch {
    match (text, text.strip_suffix('*'), text.strip_prefix('*')) {
        ("*", ..) => ValueMatch::Present,
        _ if text.contains("{*") => ValueMatch::Template(text.into()),
        (_, Some(prefix), _) => ValueMatch::Prefix(prefix.into()),
        (_, _, Some(suffix)) => ValueMatch::Suffix(suffix.into()),
        _ => ValueMatch::Exact(text.into()),
    }
}

fn principals(not: bool, text: &str) -> Term {
    Term::Principal { not, values: vec![value(text)] }
}

fn paths(not: bool, text: &str) -> Term {
    Term::Path { not, values: vec![value(text)] }
}

fn methods(not: bool, text: &str) -> Term {
    Term::Method { not, values: vec![value(text)] }
}

fn ports(not: bool, port: u16) -> Term {
    Term::DestinationPort { not, values: vec![port] }
}

fn unknown(http_only: bool) -> Term {
    Term::Unknown { field: "source.requestPrincipals".into(), http_only }
}

/// Traffic: who, and `METHOD path` or nothing for opaque connections.
#[derive(Clone, Copy, Debug)]
struct Traffic<'a> {
    who: Option<&'a str>,
    line: Option<&'a str>,
    authority: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

const WEB: Option<&str> = Some("spiffe://cluster.local/ns/shop/sa/web");

impl<'a> Traffic<'a> {
    fn of(who: Option<&'a str>, line: Option<&'a str>) -> Self {
        Self { who, line, authority: "api.ns", headers: &[] }
    }
}

struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl crate::request::Headers for Pairs<'_> {
    fn visit<'h>(&'h self, name: &str, each: &mut dyn FnMut(&'h [u8])) {
        self.0.visit(name, each);
    }
}

/// Compiles the policies and asks them; `show` sees the verdict.
fn ask<R>(policies: &[AuthzPolicy], traffic: Traffic<'_>, show: impl FnOnce(&Verdict<'_>) -> R) -> R {
    let domains = ["cluster.local".to_owned(), "old.example".to_owned()];
    let (compiled, _) = CompiledPolicies::compile(policies, &domains);
    let identity: Option<SpiffeId> = traffic.who.map(|who| who.parse().unwrap());
    let connection = Connection {
        identity: identity.as_ref(),
        source: "10.0.0.7".parse().unwrap(),
        destination: "10.0.0.9".parse().unwrap(),
        port: 8080,
        sni: None,
    };
    let headers = Pairs(traffic.headers);
    let verdict = match traffic.line.map(|line| line.split_once(' ').unwrap()) {
        None => compiled.connection(&connection),
        Some((method, path)) => {
            let authority = traffic.authority;
            let head = RequestHead { method, path, query: None, authority, scheme: "http", headers: &headers };
            compiled.request(&connection, &head)
        }
    };
    show(&verdict)
}

fn allowed(policies: &[AuthzPolicy], traffic: Traffic<'_>) -> bool {
    ask(policies, traffic, |verdict| verdict.is_allowed())
}

const GET: Option<&str> = Some("GET /a");

#[test]
fn what_no_policy_says_is_allowed_and_one_allow_policy_denies_the_rest() {
    use AuthzAction::{Allow, Deny};
    let traffic = Traffic::of(WEB, GET);
    assert!(allowed(&[], traffic));
    assert!(!allowed(&[policy("p", Allow, vec![])], traffic), "spec: {{}} denies all");
    assert!(allowed(&[policy("p", Allow, vec![AuthzRule::default()])], traffic), "rules: [{{}}] allows all");
    assert!(allowed(&[policy("p", Deny, vec![])], traffic), "DENY without rules has no effect");
    assert!(!allowed(&[policy("p", Deny, vec![AuthzRule::default()])], traffic));
}

#[test]
fn the_order_is_custom_deny_allow_and_the_verdict_names_the_rule() {
    let all = || vec![AuthzRule::default()];
    let none = || rule(vec![principals(false, "nobody")], vec![], vec![]);
    let custom = policy("c", AuthzAction::Custom, vec![none(), AuthzRule::default()]);
    let deny = policy("d", AuthzAction::Deny, vec![none(), none(), AuthzRule::default()]);
    let allow = policy("a", AuthzAction::Allow, all());
    let basis = |policies: &[AuthzPolicy]| ask(policies, Traffic::of(WEB, GET), |verdict| verdict.basis.to_string());
    assert_eq!(basis(&[allow.clone(), deny.clone(), custom]), "matched_policy[ns[ns]-policy[c]-rule[1]]");
    assert_eq!(basis(&[allow.clone(), deny]), "matched_policy[ns[ns]-policy[d]-rule[2]]");
    assert_eq!(basis(&[allow]), "allowed by ns[ns]-policy[a]-rule[0]");
}

#[test]
fn within_a_rule_sources_operations_and_conditions_must_agree() {
    let both = AuthzRule {
        from: vec![
            Source { terms: vec![principals(false, "cluster.local/ns/shop/sa/web")] },
            Source { terms: vec![Term::Namespace { not: false, values: vec![value("mon*")] }] },
        ],
        to: vec![Operation { terms: vec![methods(false, "GET"), paths(false, "/a*"), paths(true, "/admin*")] }],
        when: vec![Condition {
            terms: vec![Term::Header { name: "x-v".into(), not: false, values: vec![value("1"), value("2")] }],
        }],
    };
    let policies = [policy("p", AuthzAction::Allow, vec![both])];
    let check = |who, line, headers: &'static [(&'static str, &'static str)]| {
        allowed(&policies, Traffic { headers, ..Traffic::of(who, Some(line)) })
    };
    let monitor = Some("spiffe://cluster.local/ns/monitoring/sa/x");
    assert!(check(WEB, "GET /a/b", &[("x-v", "1")]));
    assert!(check(monitor, "GET /a", &[("X-V", "2")]));
    assert!(!check(Some("spiffe://cluster.local/ns/shop/sa/web2"), "GET /a", &[("x-v", "1")]));
    assert!(!check(WEB, "POST /a", &[("x-v", "1")]));
    assert!(!check(WEB, "GET /admin", &[("x-v", "1")]));
    assert!(!check(WEB, "GET /a", &[("x-v", "3")]));
    assert!(!check(WEB, "GET /a", &[("x-v", "1"), ("x-v", "9")]), "all values count");
    assert!(!check(WEB, "GET /a", &[]));
}

#[test]
fn rules_about_identity_are_never_true_on_plaintext() {
    let about = [
        principals as fn(bool, &str) -> Term,
        |not, text| Term::Namespace { not, values: vec![value(text)] },
        |not, text| Term::TrustDomain { not, values: vec![value(text)] },
        |not, _| Term::ServiceAccount { not, values: vec!["shop/web".into()] },
    ];
    for term in about {
        for not in [false, true] {
            let rules = || vec![rule(vec![term(not, "nobody")], vec![], vec![])];
            let allow = [policy("p", AuthzAction::Allow, rules())];
            let deny = [policy("p", AuthzAction::Deny, rules())];
            assert!(!allowed(&allow, Traffic::of(None, GET)), "ALLOW not={not}");
            assert_eq!(allowed(&deny, Traffic::of(None, GET)), !not, "DENY not={not} denies who has no identity");
        }
        let anyone = [policy("p", AuthzAction::Allow, vec![rule(vec![term(false, "*")], vec![], vec![])])];
        assert!(!allowed(&anyone, Traffic::of(None, GET)));
    }
}

#[test]
fn accounts_are_compared_whole_and_domains_by_their_aliases() {
    let accounts = Term::ServiceAccount { not: false, values: vec!["shop/web".into()] };
    let by = |term: Term| [policy("p", AuthzAction::Allow, vec![rule(vec![term], vec![], vec![])])];
    assert!(allowed(&by(accounts.clone()), Traffic::of(WEB, GET)));
    assert!(!allowed(&by(accounts), Traffic::of(Some("spiffe://cluster.local/ns/shop/sa/webx"), GET)));
    let old = Some("spiffe://old.example/ns/shop/sa/web");
    let foreign = Some("spiffe://foreign.example/ns/shop/sa/web");
    for written in ["cluster.local/ns/shop/sa/web", "old.example/ns/shop/sa/web", "cluster.local/ns/shop/*"] {
        let policies = by(principals(false, written));
        assert!(allowed(&policies, Traffic::of(WEB, GET)) && allowed(&policies, Traffic::of(old, GET)), "{written}");
        assert!(!allowed(&policies, Traffic::of(foreign, GET)), "{written}");
    }
    assert!(allowed(&by(principals(false, "*/ns/shop/sa/web")), Traffic::of(foreign, GET)));
}

#[test]
fn what_is_not_http_has_no_http_terms() {
    let opaque = Traffic::of(WEB, None);
    let terms = [paths(false, "/x"), paths(true, "/x"), methods(false, "GET"), unknown(true)];
    for term in terms {
        let rules = |port| vec![rule(vec![], vec![term.clone(), ports(false, port)], vec![])];
        assert!(!allowed(&[policy("p", AuthzAction::Allow, rules(8080))], opaque), "ALLOW never matches: {term:?}");
        assert!(!allowed(&[policy("p", AuthzAction::Deny, rules(8080))], opaque), "DENY leaves it out: {term:?}");
        assert!(allowed(&[policy("p", AuthzAction::Deny, rules(9999))], opaque), "the rest decides: {term:?}");
        assert!(!allowed(&[policy("p", AuthzAction::Custom, rules(8080))], opaque));
    }
    // The whole ALLOW rule is out, even where another operation would do.
    let mut either = rule(vec![], vec![methods(false, "GET")], vec![]);
    either.to.push(Operation { terms: vec![ports(false, 8080)] });
    assert!(!allowed(&[policy("p", AuthzAction::Allow, vec![either])], opaque));
}

#[test]
fn hosts_are_compared_without_case_and_without_port() {
    let check = |pattern: &str, authority: &str| {
        let hosts = Term::Host { not: false, values: vec![value(pattern)] };
        let policies = [policy("p", AuthzAction::Deny, vec![rule(vec![], vec![hosts], vec![])])];
        !allowed(&policies, Traffic { authority, ..Traffic::of(WEB, GET) })
    };
    for (pattern, authority, matches) in [
        ("api.example.com", "api.example.com", true),
        ("api.example.com", "API.example.com:8080", true),
        ("Api.Example.com", "api.example.com.", true),
        ("*.example.com", "a.b.Example.com:1", true),
        ("api.example.com:80", "api.example.com:80", true),
        ("api.example.com:80", "API.example.com.:80", true),
        ("*:80", "api.example.com.:080", true),
        ("[fd00::1]:80", "[FD00::1]:80", true),
        ("api.example.com:80", "api.example.com", false),
        ("api.example.com", "xapi.example.com", false),
        ("*", "anything", true),
    ] {
        assert_eq!(check(pattern, authority), matches, "{pattern} {authority}");
    }
}

#[test]
fn a_request_without_path_matches_no_path_rule_and_slips_through_none() {
    let deny = |term| [policy("p", AuthzAction::Deny, vec![rule(vec![], vec![term], vec![])])];
    let allow = |term| [policy("p", AuthzAction::Allow, vec![rule(vec![], vec![term], vec![])])];
    let star = Traffic::of(WEB, Some("OPTIONS *"));
    assert!(allowed(&deny(paths(false, "/admin")), star));
    assert!(!allowed(&deny(paths(true, "/admin")), star));
    assert!(!allowed(&allow(paths(false, "*")), star) && !allowed(&allow(paths(true, "/admin")), star));
}

#[test]
fn paths_match_by_literals_and_templates() {
    let check = |pattern: &str, path: &str| {
        let policies = [policy("p", AuthzAction::Allow, vec![rule(vec![], vec![paths(false, pattern)], vec![])])];
        allowed(&policies, Traffic::of(WEB, Some(&format!("GET {path}"))))
    };
    assert!(check("/a", "/a") && !check("/a", "/a/") && !check("/a", "/A"));
    assert!(check("*/admin", "/x/admin") && check("/a.b*", "/a.bc") && !check("/a.b*", "/aXbc"));
    assert!(check("/v1/{*}/x", "/v1/a/x") && !check("/v1/{*}/x", "/v1/a/b/x") && check("/v1/{**}", "/v1/a/b"));
}

#[test]
fn an_absent_header_is_not_among_the_values() {
    let header = |not, text: &str| Term::Header { name: "x-user".into(), not, values: vec![value(text)] };
    let deny = |term| [policy("p", AuthzAction::Deny, vec![rule(vec![], vec![], vec![term])])];
    assert!(!allowed(&deny(header(true, "root")), Traffic::of(WEB, GET)), "notValues matches the absent one");
    assert!(allowed(&deny(header(false, "*")), Traffic::of(WEB, GET)));
    let empty = Traffic { headers: &[("x-user", "")], ..Traffic::of(WEB, GET) };
    assert!(allowed(&deny(header(false, "*")), empty), "present means not empty");
}

#[test]
fn addresses_and_ports_decide_without_identity() {
    let net = |text: &str| vec![text.parse().unwrap()];
    let source = |not, text: &str| rule(vec![Term::SourceIp { not, values: net(text) }], vec![], vec![]);
    let allow = |rule: AuthzRule| [policy("p", AuthzAction::Allow, vec![rule])];
    let plain = Traffic::of(None, None);
    assert!(
        allowed(&allow(source(false, "10.0.0.0/24")), plain) && !allowed(&allow(source(true, "10.0.0.0/24")), plain)
    );
    let destination = Term::DestinationIp { not: false, values: net("10.0.0.9/32") };
    assert!(allowed(&allow(rule(vec![], vec![ports(false, 8080)], vec![destination])), plain));
    assert!(!allowed(&allow(rule(vec![], vec![ports(false, 80)], vec![])), plain));
}

#[test]
fn what_is_not_enforced_is_only_reported() {
    let all = || vec![AuthzRule::default()];
    let dry = |name, action, rules| AuthzPolicy { dry_run: true, ..policy(name, action, rules) };
    let nobody = || vec![rule(vec![principals(false, "nobody")], vec![], vec![])];
    let policies = [
        policy("audit", AuthzAction::Audit, all()),
        dry("deny", AuthzAction::Deny, all()),
        dry("allow", AuthzAction::Allow, nobody()),
        dry("custom", AuthzAction::Custom, nobody()),
    ];
    ask(&policies, Traffic::of(WEB, GET), |verdict| {
        assert_eq!(verdict.basis, Basis::NothingRequired, "dry-run ALLOW requires nothing");
        let matched = |report: &Report<'_>| match report {
            Report::Audited(m) => format!("audited {}", m.policy.name),
            Report::WouldAllow(m) => format!("would allow {}", m.policy.name),
            Report::WouldDeny(m) => format!("would deny {}", m.policy.name),
            Report::WouldNotAllow(origin) => format!("would not allow {}", origin.name),
        };
        let reports: Vec<String> = verdict.reports.iter().map(matched).collect();
        assert_eq!(reports, ["audited audit", "would deny deny", "would not allow allow"]);
    });
}

#[test]
fn a_default_deny_names_what_came_closest() {
    let near = rule(vec![principals(false, "cluster.local/ns/shop/sa/web")], vec![paths(false, "/api/v1/*")], vec![]);
    let far = rule(vec![principals(false, "x")], vec![methods(false, "PUT"), paths(false, "/y")], vec![]);
    let shown = |policies: &[AuthzPolicy]| ask(policies, Traffic::of(WEB, GET), |verdict| verdict.basis.to_string());
    let policies = [policy("far", AuthzAction::Allow, vec![far]), policy("near", AuthzAction::Allow, vec![near])];
    let nearest = "matched_policy[none]; nearest: ns[ns]-policy[near]-rule[0], operation.paths does not match";
    assert_eq!(shown(&policies), nearest);
    let field = |rule: AuthzRule| {
        ask(&[policy("p", AuthzAction::Allow, vec![rule])], Traffic::of(WEB, GET), |verdict| match verdict.basis {
            Basis::NotAllowed(Some(near)) => near.field.to_owned(),
            other => panic!("{other:?}"),
        })
    };
    let header = Term::Header { name: "x-user".into(), not: false, values: vec![value("a")] };
    assert_eq!(field(rule(vec![], vec![], vec![header])), "when[request.headers[x-user]]");
    assert_eq!(field(rule(vec![principals(true, "*")], vec![], vec![])), "source.notPrincipals");
    assert_eq!(field(rule(vec![unknown(true)], vec![], vec![])), "source.requestPrincipals");
    assert_eq!(field(rule(vec![], vec![], vec![principals(false, "x")])), "when[source.principal]");
    let empty = shown(&[policy("empty", AuthzAction::Allow, vec![])]);
    assert_eq!(empty, "matched_policy[none]; nearest: ns[ns]-policy[empty], which has no rules");
}

#[test]
fn what_does_not_compile_is_unknown_and_named() {
    let broken = || rule(vec![], vec![paths(false, "/{*}x")], vec![]);
    let allow = [policy("p", AuthzAction::Allow, vec![broken()])];
    let deny = [policy("p", AuthzAction::Deny, vec![broken()])];
    assert!(!allowed(&allow, Traffic::of(WEB, Some("GET /ax"))) && !allowed(&deny, Traffic::of(WEB, GET)));
    let (_, problems) = CompiledPolicies::compile(&deny, &[]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("AuthorizationPolicy/ns/p: operation.paths: the path template"), "{problems:?}");
}

#[test]
fn http_rules_are_looked_for_by_port() {
    let has = |action, rule: AuthzRule, port| {
        CompiledPolicies::compile(&[policy("p", action, vec![rule])], &[]).0.has_http_rules(port)
    };
    let get_on_80 = || rule(vec![], vec![methods(false, "GET"), ports(false, 80)], vec![]);
    assert!(has(AuthzAction::Allow, get_on_80(), 80) && !has(AuthzAction::Allow, get_on_80(), 81));
    assert!(has(AuthzAction::Deny, rule(vec![], vec![methods(false, "GET")], vec![]), 81));
    assert!(!has(AuthzAction::Audit, rule(vec![], vec![methods(false, "GET")], vec![]), 81), "only reported");
    assert!(!has(AuthzAction::Deny, rule(vec![principals(false, "a")], vec![], vec![ports(false, 1)]), 1));
    assert!(!has(AuthzAction::Deny, rule(vec![], vec![paths(false, "/")], vec![ports(true, 81)]), 81));
}

fn any_term() -> impl Strategy<Value = Term> {
    let not = any::<bool>();
    prop_oneof![
        (not, prop_oneof![Just("*"), Just("cluster.local/ns/shop/*"), Just("cluster.local/ns/shop/sa/api")])
            .prop_map(|(not, text)| principals(not, text)),
        (not, prop_oneof![Just("/a"), Just("/a*"), Just("*"), Just("/{*}")]).prop_map(|(not, text)| paths(not, text)),
        (not, prop_oneof![Just("GET"), Just("POST")]).prop_map(|(not, text)| methods(not, text)),
        (not, prop_oneof![Just(8080), Just(9090)]).prop_map(|(not, port)| ports(not, port)),
        any::<bool>().prop_map(unknown),
    ]
}

fn any_rule() -> impl Strategy<Value = AuthzRule> {
    let terms = || proptest::collection::vec(any_term(), 0..3);
    (terms(), terms(), terms()).prop_map(|(source, operation, when)| rule(source, operation, when))
}

fn any_policies() -> impl Strategy<Value = Vec<AuthzPolicy>> {
    use AuthzAction::{Allow, Audit, Custom, Deny};
    let action = prop_oneof![4 => Just(Allow), 3 => Just(Deny), 1 => Just(Custom), 1 => Just(Audit)];
    let one = (action, any::<bool>(), proptest::collection::vec(any_rule(), 0..3));
    proptest::collection::vec(
        one.prop_map(|(action, dry, rules)| AuthzPolicy { dry_run: dry, ..policy("p", action, rules) }),
        0..4,
    )
}

fn any_traffic() -> impl Strategy<Value = Traffic<'static>> {
    let who = prop_oneof![Just(None), Just(WEB), Just(Some("spiffe://cluster.local/ns/other/sa/x"))];
    let line = prop_oneof![Just(None), Just(GET), Just(Some("POST /b/c")), Just(Some("OPTIONS *"))];
    (who, line).prop_map(|(who, line)| Traffic::of(who, line))
}

proptest! {
    #[test]
    fn an_unknown_never_widens_access(
        policies in any_policies(), traffic in any_traffic(), at in any::<proptest::sample::Index>(),
        http_only in any::<bool>(), part in 0..3_u8,
    ) {
        let places: Vec<(usize, usize)> = policies.iter().enumerate()
            .flat_map(|(p, policy)| (0..policy.rules.len()).map(move |r| (p, r))).collect();
        if places.is_empty() {
            return Ok(());
        }
        let (p, r) = places[at.index(places.len())];
        let mut with = policies.clone();
        let rule = &mut with[p].rules[r];
        match part {
            // A part of its own is a further condition (`when`), or one more way for `from` and `to`: those only
            // get the unknown beside the terms that are there.
            0 if !rule.from.is_empty() => rule.from[0].terms.push(unknown(http_only)),
            1 if !rule.to.is_empty() => rule.to[0].terms.push(unknown(http_only)),
            _ => rule.when.push(Condition { terms: vec![unknown(http_only)] }),
        }
        // A DENY rule with one more condition that is not known still denies what it denied, an ALLOW rule does not
        // allow more: whoever is let in with the unknown was let in without it.
        prop_assert!(!allowed(&with, traffic) || allowed(&policies, traffic));
    }

    #[test]
    fn an_unknown_in_place_of_a_term_never_widens_access(
        policies in any_policies(), traffic in any_traffic(), at in any::<proptest::sample::Index>(),
        http_only in any::<bool>(),
    ) {
        let mut with = policies.clone();
        let mut terms: Vec<&mut Term> = with.iter_mut().flat_map(|policy| &mut policy.rules).flat_map(|rule| {
            let from = rule.from.iter_mut().flat_map(|source| &mut source.terms);
            let to = rule.to.iter_mut().flat_map(|operation| &mut operation.terms);
            from.chain(to).chain(rule.when.iter_mut().flat_map(|condition| &mut condition.terms))
        }).collect();
        if terms.is_empty() {
            return Ok(());
        }
        let index = at.index(terms.len());
        *terms[index] = unknown(http_only);
        prop_assert!(!allowed(&with, traffic) || allowed(&policies, traffic));
    }

    #[test]
    fn what_is_only_reported_changes_nothing(policies in any_policies(), traffic in any_traffic()) {
        let enforced: Vec<AuthzPolicy> = policies.iter()
            .filter(|policy| !policy.dry_run && policy.action != AuthzAction::Audit).cloned().collect();
        prop_assert_eq!(allowed(&policies, traffic), allowed(&enforced, traffic));
    }

    #[test]
    fn one_more_deny_policy_never_widens_access(
        policies in any_policies(), rules in proptest::collection::vec(any_rule(), 0..3), traffic in any_traffic(),
    ) {
        let mut with = policies.clone();
        with.push(policy("more", AuthzAction::Deny, rules));
        prop_assert!(!allowed(&with, traffic) || allowed(&policies, traffic));
    }

    #[test]
    fn every_default_deny_has_a_nearest_rule(policies in any_policies(), traffic in any_traffic()) {
        let fine = ask(&policies, traffic, |verdict| match verdict.basis {
            Basis::NotAllowed(None) => false,
            Basis::NotAllowed(Some(near)) => near.rule.is_none() || !near.field.is_empty(),
            _ => true,
        });
        prop_assert!(fine);
    }
}
