//! VirtualServices.

use std::time::Duration;

use mesh_core::config::{HostPattern, HttpAction, HttpRule, Percent, RouteTable, StringMatch};

use super::{compiled, two_and};

fn table(namespace: &str, text: &str) -> RouteTable {
    *compiled!(RouteTable, &two_and(text), namespace, "routes/one/a.one.svc.cluster.local")
}

fn object(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}\n---\n"
    )
}

/// The HTTP rules of a VirtualService in `one` for host `a`, as `one` sees them.
fn http(rules: &str) -> Vec<HttpRule> {
    table("one", &object("one", "v", &format!("  hosts: [a]\n  http:\n{rules}"))).http
}

/// The destinations of a rule as `host/subset:port weight`.
fn to(rule: &HttpRule) -> String {
    match &rule.action {
        HttpAction::Route(to) => to
            .iter()
            .map(|to| {
                let subset = to.destination.subset.as_deref().unwrap_or("-");
                let port = to.destination.port.map_or("-".to_owned(), |port| port.to_string());
                format!("{}/{subset}:{port} {}", to.destination.service, to.weight)
            })
            .collect::<Vec<_>>()
            .join(", "),
        other => format!("{other:?}"),
    }
}

fn is_invalid(rule: &HttpRule, why: &str) {
    assert!(matches!(&rule.action, HttpAction::Invalid(text) if text.contains(why)), "{:?}", rule.action);
}

#[test]
fn without_a_virtual_service_requests_go_to_the_service() {
    let table = table("one", "");
    assert!(table.implicit && table.http.is_empty() && table.origin.is_none());
}

#[test]
fn weights_and_short_names() {
    let rules = http(
        "  - route: [{destination: {host: a, subset: v1, port: {number: 80}}, weight: 75}, {destination: {host: b.two.svc.cluster.local}, weight: 25}, {destination: {host: a}, weight: 0}]",
    );
    assert_eq!(to(&rules[0]), "one/a.one.svc.cluster.local/v1:80 75, two/b.two.svc.cluster.local/-:- 25");
    let rules = http("  - route: [{destination: {host: a}, weight: 0}]");
    assert_eq!(to(&rules[0]), "one/a.one.svc.cluster.local/-:- 1");
}

#[test]
fn a_destination_that_does_not_exist_stays_as_written() {
    let rules = http(
        "  - route: [{destination: {host: nope}}]\n  - route: [{destination: {host: nope.two.svc.cluster.local}}]\n  - route: [{destination: {host: example.org}}]",
    );
    let names: Vec<_> = rules.iter().map(to).collect();
    assert_eq!(
        names,
        ["one/nope.one.svc.cluster.local/-:- 1", "two/nope.two.svc.cluster.local/-:- 1", "one/example.org/-:- 1"]
    );
}

#[test]
fn broken_weights_fail() {
    is_invalid(&http("  - route: [{destination: {host: a}, weight: -1}, {destination: {host: b}}]")[0], "negative");
    is_invalid(&http("  - route: [{destination: {host: a}}, {destination: {host: b}}]")[0], "0");
    is_invalid(&http("  - route: [{destination: {}}]")[0], "no host");
    is_invalid(&http("  - timeout: 1s")[0], "no route");
}

#[test]
fn matches_are_read() {
    let rules = http("  - match:
    - {uri: {prefix: /x}, ignoreUriCase: true, method: {exact: GET}, headers: {End-User: {exact: jason}, x-any: {}}, withoutHeaders: {x-no: {regex: a.*}}, queryParams: {q: {exact: '1'}}, port: 80, sourceLabels: {app: c}}
    route: [{destination: {host: a}}]");
    let matched = &rules[0].matches[0];
    assert_eq!(matched.path, Some(StringMatch::Prefix("/x".into())));
    assert!(matched.ignore_case && matched.unsupported.is_none());
    let headers: Vec<_> = matched.headers.iter().map(|h| (h.name.as_str(), &h.value, h.invert)).collect();
    assert_eq!(
        headers,
        [
            ("end-user", &StringMatch::Exact("jason".into()), false),
            ("x-any", &StringMatch::Present, false),
            ("x-no", &StringMatch::Regex("a.*".into()), true),
        ]
    );
    assert_eq!((matched.port, matched.source_labels["app"].as_str(), matched.query.len()), (Some(80), "c", 1));
}

#[test]
fn a_broken_match_never_matches_and_the_others_do() {
    let rules = http("  - match: [{uri: {regex: '('}}, {uri: {exact: /}}, {uri: {exakt: /}}, {headers: {'@request.auth.claims.g': {exact: x}}}, {methd: {exact: GET}}, {port: 99999}]
    route: [{destination: {host: a}}]");
    let broken: Vec<_> = rules[0].matches.iter().map(|m| m.unsupported.is_some()).collect();
    assert_eq!(broken, [true, false, true, true, true, true]);
    assert!(matches!(rules[0].action, HttpAction::Route(_)));
    let rules = http("  - match: 5\n    route: [{destination: {host: a}}]");
    assert!(rules[0].matches[0].unsupported.is_some());
}

#[test]
fn unknown_fields_beside_the_match_fail_the_rule_and_no_other() {
    let rules = http(
        "  - matches: [{uri: {exact: /canary}}]\n    route: [{destination: {host: a}}]\n  - route: [{destination: {host: a, subsett: v2}}]\n  - route: [{destination: {host: a}}]",
    );
    is_invalid(&rules[0], "matches");
    is_invalid(&rules[1], "subsett");
    assert_eq!(to(&rules[2]), "one/a.one.svc.cluster.local/-:- 1");
}

#[test]
fn what_is_not_built_is_safe() {
    is_invalid(&http("  - delegate: {name: x}")[0], "delegates");
    let rules = http(
        "  - route: [{destination: {host: a}}]\n    mirror: {host: b}\n    corsPolicy: {allowOrigins: [{exact: '*'}]}",
    );
    assert!(matches!(rules[0].action, HttpAction::Route(_)));
}

#[test]
fn matches_for_gateways_and_other_namespaces_are_dropped_with_their_rules() {
    let text = object(
        "one",
        "v",
        "  hosts: [a]\n  gateways: [mesh, g]\n  http:
  - {name: gateway, match: [{gateways: [g]}], route: [{destination: {host: a}}]}
  - {name: two, match: [{sourceNamespace: two}], route: [{destination: {host: a}}]}
  - {name: all, match: [{gateways: [mesh]}, {gateways: [g]}], route: [{destination: {host: a}}]}",
    );
    let names =
        |namespace| table(namespace, &text).http.iter().map(|r| (r.name.clone(), r.matches.len())).collect::<Vec<_>>();
    assert_eq!(names("one"), [("all".to_owned(), 1)]);
    assert_eq!(names("two"), [("two".to_owned(), 1), ("all".to_owned(), 1)]);
    let only_gateway =
        object("one", "v", "  hosts: [a]\n  gateways: [g]\n  http: [{route: [{destination: {host: b}}]}]");
    assert!(table("one", &only_gateway).http.is_empty());
}

#[test]
fn the_most_specific_host_wins_then_the_oldest_then_the_name() {
    let plain = |name: &str, host: &str| {
        object("one", name, &format!("  hosts: ['{host}']\n  http: [{{route: [{{destination: {{host: a}}}}]}}]"))
    };
    let winner = |text: &str| table("one", text).origin.unwrap().name;
    assert_eq!(winner(&(plain("x", "*.cluster.local") + &plain("y", "a"))), "y");
    assert_eq!(winner(&(plain("y", "a") + &plain("x", "a.one.svc.cluster.local"))), "x");
    let old = plain("z", "a").replace("namespace: one", "namespace: one, creationTimestamp: '2020-01-01T00:00:00Z'");
    assert_eq!(winner(&(plain("x", "a") + &old)), "z");
    assert!(table("one", &plain("star", "*")).origin.is_none(), "* is for gateways");
}

#[test]
fn export_to_and_sidecars_bound_routes() {
    let text = object(
        "two",
        "v",
        "  hosts: [a.one.svc.cluster.local]\n  exportTo: ['.']\n  http: [{route: [{destination: {host: b}}]}]",
    );
    assert_eq!(to(&table("two", &text).http[0]), "two/b.two.svc.cluster.local/-:- 1");
    assert!(table("one", &text).http.is_empty());
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: one}\nspec: {egress: [{hosts: ['./*']}]}\n---\n";
    let wide = text.replace("  exportTo: ['.']\n", "");
    assert_eq!(table("one", &wide).http.len(), 1);
    assert!(table("one", &(wide + sidecar)).http.is_empty());
}

#[test]
fn timeouts_retries_faults_rewrites() {
    let rules = http("  - route: [{destination: {host: a}}]
    timeout: 2s
    retries: {attempts: 3, perTryTimeout: 500ms, retryOn: '5xx,reset,unavailable,429', backoff: 10ms}
    rewrite: {uri: /new, authority: x.example}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 0.5}}, abort: {httpStatus: 555, percentage: {value: 100}}}
    headers: {request: {set: {X-A: '1', host: y.example}, remove: [X-B, connection]}, response: {add: {x-c: '50%%', x-d: '%START_TIME%'}}}
  - route: [{destination: {host: a}}]
    timeout: 0s
    fault: {delay: {fixedDelay: 1s}}
  - route: [{destination: {host: a}}]
    fault: {abort: {http2Error: X}}");
    let rule = &rules[0];
    assert_eq!(rule.timeout, Some(Duration::from_secs(2)));
    assert_eq!((rule.retry.attempts, rule.retry.per_try_timeout), (3, Some(Duration::from_millis(500))));
    assert!(
        rule.retry.on.server_error
            && rule.retry.on.reset
            && rule.retry.on.statuses == [429]
            && rule.retry.on.grpc == [14]
    );
    assert_eq!(rule.rewrite.as_ref().unwrap().authority.as_deref(), Some("x.example"));
    let fault = rule.fault.unwrap();
    assert_eq!((fault.delay.unwrap().percent, fault.abort.unwrap().status), (Percent(5_000), 555));
    assert_eq!(rule.headers.request_set, [("x-a".to_owned(), "1".to_owned())]);
    assert_eq!(rule.headers.request_remove, ["x-b"]);
    assert_eq!(rule.headers.response_add, [("x-c".to_owned(), "50%".to_owned())]);
    assert_eq!(rules[1].timeout, None);
    assert_eq!(rules[1].fault.unwrap().delay.unwrap().percent, Percent(0), "no percentage: nobody is delayed");
    is_invalid(&rules[2], "http2Error");
    assert_eq!(rules[1].retry.attempts, 2);
}

#[test]
fn redirects_and_direct_responses() {
    let rules = http(
        "  - redirect: {uri: /x, redirectCode: 302, derivePort: FROM_REQUEST_PORT}\n  - directResponse: {status: 418, body: {string: tea}}\n  - directResponse: {status: 200, body: {bytes: dGVh}}\n  - redirect: {redirectCode: 200}\n  - redirect: {uri: /}\n    route: [{destination: {host: a}}]",
    );
    assert!(matches!(&rules[0].action, HttpAction::Redirect(redirect) if redirect.status == 302));
    assert!(matches!(&rules[1].action, HttpAction::Direct(direct) if direct.body == b"tea" && direct.status == 418));
    assert!(matches!(&rules[2].action, HttpAction::Direct(direct) if direct.body == b"tea"));
    is_invalid(&rules[3], "200");
    is_invalid(&rules[4], "only one");
}

#[test]
fn tls_and_tcp_rules() {
    let text = object("one", "v", "  hosts: [a, a.one.svc.cluster.local]
  tls:
  - {match: [{sniHosts: [a.one.svc.cluster.local], port: 443}], route: [{destination: {host: b.two.svc.cluster.local}}]}
  - {match: [{sniHosts: [other.example]}], route: [{destination: {host: a}}]}
  - {route: [{destination: {host: a}}]}
  tcp:
  - {match: [{port: 9000, destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 3}]}
  - {match: [{destinationSubnets: [x]}, {sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: a}}]}
  - {route: []}");
    let table = table("one", &text);
    assert_eq!(table.tls[0].matches[0].sni, [HostPattern::Exact("a.one.svc.cluster.local".into())]);
    assert!(table.tls[1].matches[0].unsupported.is_some() && table.tls[2].matches[0].unsupported.is_some());
    assert_eq!(table.tcp[0].destinations.iter().map(|to| to.weight).collect::<Vec<_>>(), [1, 3]);
    assert!(table.tcp[1].matches.iter().all(|matched| matched.unsupported.is_some()));
    assert_eq!(table.tcp[2].destinations[0].destination.service.host.as_ref(), "broken-rule.invalid");
}

#[test]
fn a_virtual_service_has_a_bounded_number_of_regular_expressions() {
    let rule =
        |n: usize| format!("  - {{match: [{{uri: {{regex: '/{n}/.*'}}}}], route: [{{destination: {{host: a}}}}]}}\n");
    let rules: String = (0..300).map(rule).collect();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: one}}\nspec:\n  hosts: [a]\n  http:\n{rules}"
    );
    let objects = super::two_and(&text);
    let table = super::compiled!(RouteTable, &objects, "one", "routes/one/a.one.svc.cluster.local");
    let unusable = |rule: &&mesh_core::config::HttpRule| rule.matches[0].unsupported.is_some();
    assert_eq!(table.http.iter().position(|rule| unusable(&rule)), Some(256));
    assert_eq!(table.http.iter().filter(unusable).count(), 44);
    let virtual_service = crate::ObjectRef { kind: "VirtualService".into(), key: mesh_crd::ObjectKey::new("one", "v") };
    let problems = objects.validate(&virtual_service);
    assert!(problems.iter().any(|problem| problem.message.contains("more than 256")), "{problems:?}");
}

#[test]
fn a_rewrite_by_regular_expression_makes_a_path_and_nothing_else() {
    let broken = |rewrite: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: one}}\nspec: {{hosts: [a], http: [{{rewrite: {{uriRegexRewrite: {{match: x, rewrite: {rewrite:?}}}}}, route: [{{destination: {{host: a}}}}]}}]}}\n"
        );
        let table = super::compiled!(RouteTable, &super::two_and(&text), "one", "routes/one/a.one.svc.cluster.local");
        matches!(table.http[0].action, mesh_core::config::HttpAction::Invalid(_))
    };
    assert!(!broken("/y"));
    assert!(broken("/y HTTP/1.1\r\nevil: 1") && broken("/y\n") && broken("/y z"));
    assert!(broken(&"y".repeat(1025)) && !broken(&"y".repeat(1024)));
}
