//! What is said about objects.

use mesh_crd::{AnyObject, ObjectKey, parse_documents};

use super::two_and;
use crate::{ObjectRef, Problem, Severity};

/// The problems of the last document of `text`, in a world with `a.one` and `b.two`.
fn problems(text: &str) -> Vec<Problem> {
    let objects = two_and(text);
    let (parsed, _) = parse_documents(text, "x");
    let last: &AnyObject = &parsed.last().unwrap().object;
    objects.validate(&ObjectRef { kind: last.kind().to_owned(), key: last.key() })
}

/// `severity Code field` of each.
fn found(text: &str) -> Vec<String> {
    problems(text).iter().map(|p| format!("{} {} {}", p.severity.as_str(), p.code.as_str(), p.field)).collect()
}

fn check(text: &str, want: &[&str]) {
    assert_eq!(found(text), want, "{text}\n{:#?}", problems(text));
}

fn vs(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: one}}\nspec: {spec}\n---\n"
    )
}
fn dr(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: one}}\nspec: {spec}\n---\n"
    )
}
fn security(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: one}}\nspec: {spec}\n---\n"
    )
}
fn to_a(rule: &str) -> String {
    vs("v", &format!("{{hosts: [a], http: [{{{rule} route: [{{destination: {{host: a}}}}]}}]}}"))
}

#[test]
fn good_objects_have_no_problems() {
    check(&to_a(""), &[]);
    check(&to_a("match: [{uri: {regex: '/x.*'}}], timeout: 1s, retries: {attempts: 1},"), &[]);
    check(&dr("d", "{host: a, subsets: [{name: v1, labels: {version: v1}}]}"), &[]);
    check(&security("PeerAuthentication", "{mtls: {mode: STRICT}}"), &[]);
    check(&security("AuthorizationPolicy", "{rules: [{from: [{source: {namespaces: [two]}}]}]}"), &[]);
}

#[test]
fn regexes_unknown_fields_and_wrong_values_are_named_with_their_effect() {
    check(&to_a("match: [{uri: {regex: '('}}],"), &["error InvalidRegex spec.http[0].match[0].uri.regex"]);
    check(&to_a("timeoutt: 1s,"), &["error UnknownField spec.http[0].timeoutt"]);
    check(&to_a("match: [{uri: {exakt: /}}],"), &["error UnknownField spec.http[0].match[0].uri.exakt"]);
    check(&to_a("timeout: soon,"), &["error InvalidValue spec.http[0].timeout"]);
    let message = &problems(&to_a("timeoutt: 1s,"))[0].message;
    assert!(message.contains("500"), "{message}");
}

#[test]
fn two_virtual_services_for_one_host_are_reported_on_both() {
    let (x, y) = (to_a("").replace("name: v,", "name: x,"), to_a("").replace("name: v,", "name: y,"));
    check(&format!("{x}{y}"), &["error Conflict spec.hosts[0]"]);
    check(&format!("{y}{x}"), &["warning Conflict spec.hosts[0]"]);
    let loser = &problems(&format!("{x}{y}"))[0];
    assert!(loser.message.contains("one/x wins"), "{}", loser.message);
    let apart = x.replace("hosts: [a]", "hosts: [a], exportTo: [two]");
    check(&format!("{apart}{}", y.replace("hosts: [a]", "hosts: [a], exportTo: ['.']")), &[]);
}

#[test]
fn missing_destinations_subsets_and_ports_are_errors() {
    let route = |to: &str| vs("v", &format!("{{hosts: [a], http: [{{route: [{{destination: {to}}}]}}]}}"));
    let at = "spec.http[0].route[0].destination";
    check(&route("{host: nope}"), &[&format!("error MissingDestination {at}.host")]);
    check(&route("{host: a, subset: v9}"), &[&format!("error MissingSubset {at}.subset")]);
    check(&route("{host: a, port: {number: 81}}"), &[&format!("error MissingPort {at}.port.number")]);
    let dotted = problems(&route("{host: b.two}"));
    assert!(dotted[0].fix.contains("b.two.svc.cluster.local"), "{dotted:?}");
    let with_subset =
        dr("d", "{host: a, subsets: [{name: v1, labels: {version: v1}}]}") + &route("{host: a, subset: v1}");
    check(&with_subset, &[]);
    check(
        &(dr("d", "{host: a, subsets: [{name: v1}]}") + &route("{host: a, subset: v2}")),
        &[&format!("error MissingSubset {at}.subset")],
    );
}

#[test]
fn hosts_and_gateways_are_looked_at() {
    check(
        &vs("v", "{hosts: [nope], http: [{route: [{destination: {host: a}}]}]}"),
        &["warning MissingPort spec.http[0].route[0].destination", "warning MissingHost spec.hosts[0]"],
    );
    check(&vs("v", "{hosts: ['*'], http: [{directResponse: {status: 200}}]}"), &["error InvalidValue spec.hosts[0]"]);
    check(
        &vs("v", "{hosts: ['*'], gateways: [g], http: [{directResponse: {status: 200}}]}"),
        &["warning NotActing spec.gateways"],
    );
    check(&vs("v", "{http: [{directResponse: {status: 200}}]}"), &["error InvalidValue spec.hosts"]);
    check(&vs("v", "{hosts: [a]}"), &["warning NotActing spec"]);
}

#[test]
fn rules_behind_one_that_matches_everything_are_unreachable() {
    let rules = "{hosts: [a], http: [{match: [{uri: {exact: /}}], directResponse: {status: 200}}, {match: [{uri: {prefix: /}}], directResponse: {status: 200}}, {directResponse: {status: 201}}]}";
    check(&vs("v", rules), &["warning Unreachable spec.http[2]"]);
}

#[test]
fn what_is_not_built_is_said() {
    check(
        &to_a("mirror: {host: b}, corsPolicy: {},"),
        &["warning Unsupported spec.http[0].corsPolicy", "warning Unsupported spec.http[0].mirror"],
    );
    check(&vs("v", "{hosts: [a], http: [{delegate: {name: x}}]}"), &["error InvalidValue spec.http[0]"]);
    check(
        &dr("d", "{host: a, trafficPolicy: {tls: {mode: MUTUAL}, tunnel: {}, loadBalancer: {warmup: {duration: 1s}}}}"),
        &[
            "error Unsupported spec.trafficPolicy.tls",
            "error Unsupported spec.trafficPolicy.tunnel",
            "warning Unsupported spec.trafficPolicy.loadBalancer.warmup",
        ],
    );
    check(&dr("d", "{host: a, workloadSelector: {matchLabels: {app: b}}}"), &["error NotActing spec.workloadSelector"]);
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: one}\nspec: {selector: {app: x}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n";
    check(gateway, &["warning NotActing spec"]);
    check(&security("RequestAuthentication", "{jwtRules: [{issuer: x}]}"), &["warning NotActing spec"]);
    let telemetry = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: g, namespace: one}\nspec: {tracing: [{randomSamplingPercentage: 10}], metrics: [{}]}\n";
    check(telemetry, &["warning Unsupported spec.metrics", "warning Unsupported spec.tracing"]);
}

#[test]
fn destination_rules_are_looked_at() {
    check(&dr("d", "{host: nope}"), &["warning MissingHost spec.host"]);
    check(
        &dr("d", "{host: a, subsets: [{name: v9, labels: {version: v9}}, {name: v9}]}"),
        &["error Conflict spec.subsets[1]", "warning SelectsNothing spec.subsets[0].labels"],
    );
    let two = dr("c", "{host: a, trafficPolicy: {}, subsets: [{name: v1}]}")
        + &dr("d", "{host: a, trafficPolicy: {}, subsets: [{name: v1}]}");
    check(&two, &["error Conflict spec.subsets[0]", "error Conflict spec.trafficPolicy"]);
    check(
        &dr(
            "d",
            "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 1}}], loadBalancer: {consistentHash: {}}}}",
        ),
        &[
            "error InvalidValue spec.trafficPolicy.loadBalancer.consistentHash",
            "warning MissingPort spec.trafficPolicy.portLevelSettings[0].port",
        ],
    );
}

#[test]
fn security_policies_are_looked_at() {
    check(&security("PeerAuthentication", "{mtls: {mode: STRICTT}}"), &["error InvalidValue spec.mtls.mode"]);
    check(
        &security("PeerAuthentication", "{selector: {matchLabels: {app: x}}}"),
        &["warning SelectsNothing spec.selector.matchLabels"],
    );
    check(
        &security("PeerAuthentication", "{portLevelMtls: {80: {mode: DISABLE}}}"),
        &["error NotActing spec.portLevelMtls"],
    );
    let wrong_port = "{selector: {matchLabels: {app: a}}, portLevelMtls: {80: {mode: DISABLE}}}";
    check(&security("PeerAuthentication", wrong_port), &["warning MissingPort spec.portLevelMtls.80"]);
    assert_eq!(problems(&security("PeerAuthentication", wrong_port))[0].fix, "write 8080");
    check(
        &security("AuthorizationPolicy", "{action: CUSTOM, provider: {name: x}, rules: [{}]}"),
        &["error Unsupported spec.action"],
    );
    check(&security("AuthorizationPolicy", "{action: AUDIT, rules: [{}]}"), &["warning NotActing spec.action"]);
    check(
        &security("AuthorizationPolicy", "{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}"),
        &["warning Unsupported spec.rules[0].from[0].source.requestPrincipals"],
    );
    check(
        &security("AuthorizationPolicy", "{rules: [{from: [{source: {principals: ['spiffe://x/ns/a/sa/b']}}]}]}"),
        &["error InvalidValue spec.rules[0].from[0].source.principals[0]"],
    );
    check(
        &security("AuthorizationPolicy", "{rules: [{when: [{key: 'request.auth.claims[x]', values: [y]}]}], nope: 1}"),
        &["error UnknownField spec.nope", "warning Unsupported spec.rules[0].when[0].key"],
    );
}

#[test]
fn entries_and_sidecars_are_looked_at() {
    let se = |spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: one}}\nspec: {spec}\n---\n"
        )
    };
    check(
        &se("{hosts: [x.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC}"),
        &["error SelectsNothing spec.endpoints"],
    );
    check(
        &se("{hosts: [x.example], ports: [{number: 5, name: tcp, protocol: TCP}], resolution: DNS}"),
        &["warning NotActing spec.addresses"],
    );
    check(
        &se("{hosts: [a.one.svc.cluster.local], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}"),
        &["error Conflict spec.hosts"],
    );
    let sidecar = |spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s, namespace: one}}\nspec: {spec}\n---\n"
        )
    };
    check(&sidecar("{egress: [{hosts: ['./*', nope]}]}"), &["error InvalidValue spec.egress[0].hosts[1]"]);
    check(&sidecar("{workloadSelector: {labels: {app: a}}}"), &["error NotActing spec.workloadSelector"]);
}

#[test]
fn mesh_config_is_looked_at() {
    let map = |text: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mesh, namespace: mesh-system}}\ndata: {{mesh: '{text}'}}\n"
        )
    };
    check(&map("nope: 1"), &["error UnknownField data.mesh.nope"]);
    check(&map("ingressService: x"), &["warning Unsupported data.mesh.ingressService"]);
    check(&map("accessLogFormat: x"), &["warning Unsupported data.mesh.accessLogFormat"]);
    check(&map("a: ["), &["error InvalidValue data.mesh"]);
    check(&map("accessLogFile: /dev/stdout"), &[]);
}

#[test]
fn unknown_objects_have_no_problems_and_all_are_ordered() {
    let objects = two_and(&(to_a("timeoutt: 1s,") + &dr("d", "{host: nope}")));
    assert!(objects.validate(&ObjectRef { kind: "Sidecar".into(), key: ObjectKey::new("x", "y") }).is_empty());
    let all = objects.validate_all();
    assert_eq!(all.iter().filter(|problem| problem.severity == Severity::Error).count(), 1);
    assert!(all.iter().all(|problem| !problem.message.is_empty() && !problem.fix.is_empty()));
}

#[test]
fn services_say_what_the_mesh_does_not_do() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: one}\nspec: {sessionAffinity: ClientIP, externalIPs: [10.9.9.9], ports: [{port: 5, protocol: SCTP}]}\n";
    check(
        text,
        &[
            "warning Unsupported spec.externalIPs",
            "warning Unsupported spec.ports[0].protocol",
            "warning Unsupported spec.sessionAffinity",
        ],
    );
}
