//! AuthorizationPolicies.

use mesh_core::config::{AuthzAction, AuthzPolicy, Term, ValueMatch};

use super::{compiled, two_and};

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

fn policies(text: &str) -> Vec<AuthzPolicy> {
    compiled!(Inbound, &two_and(text), "one", "inbound/uid-a").policies.clone()
}

/// The only policy, from its spec.
fn one(spec: &str) -> AuthzPolicy {
    let mut all = policies(&policy("one", "p", spec));
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// All terms of a policy's rule.
fn terms(policy: &AuthzPolicy, rule: usize) -> Vec<&Term> {
    let rule = &policy.rules[rule];
    let from = rule.from.iter().flat_map(|source| &source.terms);
    let to = rule.to.iter().flat_map(|operation| &operation.terms);
    from.chain(to).chain(rule.when.iter().flat_map(|condition| &condition.terms)).collect()
}

/// The fields that are unknown in the first rule.
fn unknowns(spec: &str) -> Vec<String> {
    let policy = one(spec);
    let field = |term: &&Term| match term {
        Term::Unknown { field, .. } => Some(field.clone()),
        _ => None,
    };
    terms(&policy, 0).iter().filter_map(field).collect()
}

#[test]
fn policies_are_chosen_by_namespace_and_selector() {
    let text = policy("one", "b", "{}")
        + &policy("one", "a", "{selector: {matchLabels: {app: a}}}")
        + &policy("one", "other", "{selector: {matchLabels: {app: x}}}")
        + &policy("two", "elsewhere", "{}")
        + &policy("mesh-system", "z", "{selector: {matchLabels: {app: a}}}")
        + &policy("mesh-system", "y", "{selector: {matchLabels: {app: x}}}")
        + &policy("one", "gateway", "{targetRefs: [{kind: Gateway, name: g}]}");
    let names: Vec<_> = policies(&text).iter().map(|p| format!("{}/{}", p.origin.namespace, p.origin.name)).collect();
    assert_eq!(names, ["mesh-system/z", "one/a", "one/b"]);
}

#[test]
fn empty_policies_keep_their_meaning() {
    assert_eq!((one("{}").action, one("{}").rules.len()), (AuthzAction::Allow, 0));
    let all = one("{rules: [{}]}");
    assert!(terms(&all, 0).is_empty() && all.rules.len() == 1);
    assert_eq!(one("{action: DENY}").rules.len(), 0);
}

#[test]
fn terms_are_read() {
    let policy = one("
  action: DENY
  rules:
  - from: [{source: {principals: [cluster.local/ns/two/sa/*, '*'], notNamespaces: [x], ipBlocks: [10.0.0.1, 10.1.0.0/16], serviceAccounts: [sa, two/sb]}}]
    to: [{operation: {hosts: ['*.Example.com'], ports: ['80'], methods: [GET], paths: [/a, /b*, '/c/{*}/d/{**}'], notPaths: ['*/x']}}]
    when: [{key: 'request.headers[X-A]', values: [v], notValues: [w]}, {key: connection.sni, values: [s]}, {key: destination.port, notValues: ['1']}]
");
    use ValueMatch::{Exact, Prefix, Present, Suffix, Template};
    let text = |text: &str| text.to_owned();
    assert_eq!(
        terms(&policy, 0),
        [
            &Term::Principal { not: false, values: vec![Prefix(text("cluster.local/ns/two/sa/")), Present] },
            &Term::Namespace { not: true, values: vec![Exact(text("x"))] },
            &Term::ServiceAccount { not: false, values: vec![text("one/sa"), text("two/sb")] },
            &Term::SourceIp {
                not: false,
                values: vec!["10.0.0.1/32".parse().unwrap(), "10.1.0.0/16".parse().unwrap()]
            },
            &Term::Host { not: false, values: vec![Suffix(text(".example.com"))] },
            &Term::DestinationPort { not: false, values: vec![80] },
            &Term::Method { not: false, values: vec![Exact(text("GET"))] },
            &Term::Path {
                not: false,
                values: vec![Exact(text("/a")), Prefix(text("/b")), Template(text("/c/{*}/d/{**}"))]
            },
            &Term::Path { not: true, values: vec![Suffix(text("/x"))] },
            &Term::Header { name: text("x-a"), not: false, values: vec![Exact(text("v"))] },
            &Term::Header { name: text("x-a"), not: true, values: vec![Exact(text("w"))] },
            &Term::Sni { not: false, values: vec![Exact(text("s"))] },
            &Term::DestinationPort { not: true, values: vec![1] },
        ]
    );
}

#[test]
fn what_is_not_built_is_unknown_also_behind_not() {
    let source = |field: &str| unknowns(&format!("{{rules: [{{from: [{{source: {{{field}: [x]}}}}]}}]}}"));
    for field in ["requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks"] {
        assert_eq!(source(field), [format!("spec.rules[0].from[0].source.{field}")]);
    }
    let when = |key: &str, list: &str| unknowns(&format!("{{rules: [{{when: [{{key: '{key}', {list}: [x]}}]}}]}}"));
    assert_eq!(when("request.auth.claims[a]", "values"), ["request.auth.claims[a]"]);
    assert_eq!(when("request.auth.principal", "notValues"), ["request.auth.principal"]);
    assert_eq!(when("remote.ip", "values"), ["remote.ip"]);
    assert_eq!(when("experimental.envoy.filters.x[k]", "values"), ["experimental.envoy.filters.x[k]"]);
}

#[test]
fn unknown_fields_and_broken_values_are_unknown() {
    for rule in [
        "{form: []}",
        "{from: []}",
        "{from: [{}]}",
        "{from: [{source: {}}]}",
        "{from: [{source: {principalz: [x]}}]}",
        "{from: [{source: {principals: []}}]}",
        "{from: [{source: {principals: ['*x*']}}]}",
        "{from: [{sourc: {namespaces: [x]}}]}",
        "{from: [{source: {ipBlocks: [nope]}}]}",
        "{from: [{source: {principals: x}}]}",
        "{to: [{operation: {ports: [http]}}]}",
        "{to: [{operation: {paths: ['/{a}/{*}']}}]}",
        "{to: []}",
        "{when: [{key: source.ip}]}",
        "{when: [{values: [x]}]}",
        "{from: [{source: {namespaces: ['']}}]}",
        "5",
        "{from: 5}",
    ] {
        assert!(!unknowns(&format!("{{rules: [{rule}]}}")).is_empty(), "{rule}");
    }
}

#[test]
fn an_unknown_does_not_spoil_the_other_rules() {
    let policy =
        one("{rules: [{from: [{source: {requestPrincipals: ['*']}}]}, {from: [{source: {namespaces: [two]}}]}]}");
    assert!(matches!(terms(&policy, 0)[..], [Term::Unknown { http_only: true, .. }]));
    assert!(matches!(terms(&policy, 1)[..], [Term::Namespace { .. }]));
}

#[test]
fn a_policy_that_is_broken_outside_its_rules_only_denies() {
    let allow = one("{rulez: [], rules: [{}]}");
    assert!(matches!(terms(&allow, 0)[..], [Term::Unknown { .. }]), "ALLOW never matches");
    for spec in [
        "{action: DENY, rulez: [{}]}",
        "{action: DENNY, rules: []}",
        "{action: DENY, selectorr: {}}",
        "{action: DENY, rules: 5}",
    ] {
        let deny = one(spec);
        assert_eq!(deny.action, AuthzAction::Deny, "{spec}");
        assert!(matches!(terms(&deny, 0)[..], [Term::Unknown { .. }]), "{spec}: DENY always matches");
    }
    let elsewhere =
        "{action: DENY, selector: {matchLabel: {app: x}}, rules: [{from: [{source: {namespaces: [two]}}]}]}";
    assert_eq!(one(elsewhere).rules.len(), 2);
}

#[test]
fn dry_run_audit_and_custom_are_passed_on() {
    let text = policy("one", "p", "{action: DENY, rules: [{}]}")
        .replace("name: p,", "name: p, annotations: {istio.io/dry-run: 'true'},");
    assert!(policies(&text)[0].dry_run);
    assert_eq!(one("{action: AUDIT, rules: [{}]}").action, AuthzAction::Audit);
    assert_eq!(one("{action: CUSTOM, provider: {name: x}, rules: [{}]}").action, AuthzAction::Custom);
}
