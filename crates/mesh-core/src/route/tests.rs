//! Which rule decides, what it changes, and how weights fall.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::{
    HeaderMatch, HostPattern, HttpAction, HttpMatch, HttpRule, L4Match, QueryMatch, RedirectPort, RetryPolicy, Rewrite,
    RouteTable, StringMatch, TcpRule, TlsRule,
};

fn to(host: &str, weight: u32) -> WeightedDestination {
    let destination = Destination { service: ServiceName::new("ns", host), subset: None, port: None };
    WeightedDestination { destination, weight, headers: HeaderEdits::default() }
}

fn rule(matches: Vec<HttpMatch>, destinations: &[(&str, u32)]) -> HttpRule {
    HttpRule {
        name: destinations.first().map_or("none", |d| d.0).to_owned(),
        matches,
        action: HttpAction::Route(destinations.iter().map(|(host, weight)| to(host, *weight)).collect()),
        rewrite: None,
        headers: HeaderEdits::default(),
        timeout: None,
        retry: RetryPolicy::default(),
        fault: None,
    }
}

fn table(http: Vec<HttpRule>) -> RouteTable {
    RouteTable {
        name: ServiceName::new("ns", "a"),
        hosts: vec![HostPattern::Any],
        origin: None,
        implicit: true,
        http,
        tls: Vec::new(),
        tcp: Vec::new(),
    }
}

fn compile(table: &RouteTable) -> CompiledRoutes {
    let (routes, problems) = CompiledRoutes::compile(table, &labels(&[("app", "web")]));
    assert_eq!(problems, Vec::<String>::new());
    routes
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

const NO_HEADERS: [(&str, &str); 0] = [];

/// `GET /path?query`, perhaps with headers.
fn head<'a>(line: &'a str, headers: &'a dyn crate::request::Headers) -> RequestHead<'a> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    RequestHead { method, path, query, authority: "reviews:9080", scheme: "http", headers }
}

/// The host that a request is routed to, or what else happens.
fn goes_to(routes: &CompiledRoutes, head: &RequestHead<'_>, port: u16) -> String {
    match routes.decide(head, port, &mut fastrand::Rng::with_seed(1)) {
        Decision::Route(routed) => routed.destination.destination.service.host.to_string(),
        Decision::Implicit => "implicit".into(),
        Decision::Redirect { .. } => "redirect".into(),
        Decision::Direct { response, .. } => response.status.to_string(),
        Decision::Invalid { .. } => "invalid".into(),
        Decision::NotFound => "not found".into(),
    }
}

fn path(condition: StringMatch) -> HttpMatch {
    HttpMatch { path: Some(condition), ..HttpMatch::default() }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let routes = compile(&table(vec![
        rule(vec![path(StringMatch::Exact("/login".into()))], &[("exact", 1)]),
        rule(vec![path(StringMatch::Prefix("/api".into()))], &[("prefix", 1)]),
        rule(vec![path(StringMatch::Regex("/item/[0-9]+".into()))], &[("regex", 1)]),
        rule(vec![path(StringMatch::Prefix("/api/v2".into()))], &[("never", 1)]),
    ]));
    for (line, expected) in [
        ("GET /login", "exact"),
        ("GET /login?x=/api", "exact"),
        ("GET /login/", "not found"),
        ("GET /api/v2", "prefix"),
        ("GET /apiary", "prefix"),
        ("GET /item/42", "regex"),
        ("GET /item/42/x", "not found"),
        ("GET /Login", "not found"),
        ("OPTIONS *", "not found"),
    ] {
        assert_eq!(goes_to(&routes, &head(line, &NO_HEADERS), 80), expected, "{line}");
    }
}

#[test]
fn all_conditions_of_a_match_must_hold_and_one_of_the_matches() {
    let jason = HeaderMatch { name: "end-user".into(), value: StringMatch::Exact("jason".into()), invert: false };
    let first = HttpMatch {
        method: Some(StringMatch::Exact("GET".into())),
        authority: Some(StringMatch::Prefix("reviews".into())),
        scheme: Some(StringMatch::Exact("http".into())),
        headers: vec![jason, HeaderMatch { name: "x-no".into(), value: StringMatch::Present, invert: true }],
        query: vec![QueryMatch { name: "v".into(), value: StringMatch::Regex("[12]".into()) }],
        port: Some(9080),
        ..HttpMatch::default()
    };
    let second = HttpMatch { port: Some(1), ..HttpMatch::default() };
    let routes = compile(&table(vec![rule(vec![first, second], &[("v2", 1)]), rule(vec![], &[("v1", 1)])]));
    let jason = [("End-User", "jason")];
    assert_eq!(goes_to(&routes, &head("GET /?v=2", &jason), 9080), "v2");
    assert_eq!(goes_to(&routes, &head("GET /?v=2", &jason), 9081), "v1");
    assert_eq!(goes_to(&routes, &head("POST /?v=2", &jason), 9080), "v1");
    assert_eq!(goes_to(&routes, &head("GET /?v=22", &jason), 9080), "v1");
    assert_eq!(goes_to(&routes, &head("GET /?v=2", &[("end-user", "jason"), ("x-no", "")]), 9080), "v1");
    assert_eq!(goes_to(&routes, &head("GET /?v=2", &[("end-user", "jason"), ("end-user", "x")]), 9080), "v1");
    assert_eq!(goes_to(&routes, &head("POST /", &NO_HEADERS), 1), "v2");
}

#[test]
fn paths_are_compared_without_case_only_where_asked() {
    let ignoring = |condition| HttpMatch { ignore_case: true, ..path(condition) };
    let routes = compile(&table(vec![
        rule(vec![ignoring(StringMatch::Exact("/Login".into()))], &[("exact", 1)]),
        rule(vec![ignoring(StringMatch::Prefix("/API/".into()))], &[("prefix", 1)]),
        rule(vec![ignoring(StringMatch::Regex("/R".into()))], &[("regex", 1)]),
    ]));
    assert_eq!(goes_to(&routes, &head("GET /LOGIN", &NO_HEADERS), 80), "exact");
    assert_eq!(goes_to(&routes, &head("GET /api/x", &NO_HEADERS), 80), "prefix");
    assert_eq!(goes_to(&routes, &head("GET /r", &NO_HEADERS), 80), "not found");
}

#[test]
fn what_is_not_ours_or_not_built_never_matches() {
    let mut unsupported = path(StringMatch::Prefix("/".into()));
    unsupported.unsupported = Some("statPrefix".into());
    let others = HttpMatch { source_labels: labels(&[("app", "other")]), ..HttpMatch::default() };
    let ours = HttpMatch { source_labels: labels(&[("app", "web")]), ..HttpMatch::default() };
    let routes = compile(&table(vec![
        rule(vec![unsupported], &[("unsupported", 1)]),
        rule(vec![others], &[("others", 1)]),
        rule(vec![ours], &[("ours", 1)]),
    ]));
    assert_eq!(goes_to(&routes, &head("GET /", &NO_HEADERS), 80), "ours");
}

#[test]
fn what_does_not_compile_is_a_problem_of_its_own_rule() {
    let broken = rule(vec![path(StringMatch::Regex("(".into()))], &[("broken", 1)]);
    let weightless = rule(vec![path(StringMatch::Exact("/w".into()))], &[("a", 0), ("b", 0)]);
    let mut written = table(vec![broken, weightless, rule(vec![], &[("fine", 1)])]);
    written.tcp = vec![TcpRule { matches: vec![], destinations: vec![to("a", 0), to("b", 0)] }];
    let (routes, problems) = CompiledRoutes::compile(&written, &BTreeMap::new());
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[2].starts_with("tcp rule 0"), "{problems:?}");
    let connection = L4Head { destination: [10, 0, 0, 1].into(), port: 1, sni: None };
    assert_eq!(routes.decide_tcp(&connection, &mut fastrand::Rng::with_seed(1)), L4Decision::NotFound);
    assert!(problems[0].contains("http rule broken") && problems[1].contains("add up to 0"), "{problems:?}");
    assert_eq!(goes_to(&routes, &head("GET /", &NO_HEADERS), 80), "fine");
    assert_eq!(goes_to(&routes, &head("GET /w", &NO_HEADERS), 80), "invalid");
}

#[test]
fn a_table_without_rules_is_implicit_only_if_it_says_so() {
    let mut written = table(vec![]);
    assert_eq!(goes_to(&compile(&written), &head("GET /", &NO_HEADERS), 80), "implicit");
    written.implicit = false;
    assert_eq!(goes_to(&compile(&written), &head("GET /", &NO_HEADERS), 80), "not found");
}

#[test]
fn weights_fall_within_five_sigma() {
    let routes = compile(&table(vec![rule(vec![], &[("a", 75), ("never", 0), ("b", 25)])]));
    let mut rng = fastrand::Rng::with_seed(42);
    let mut counts = BTreeMap::new();
    for _ in 0..10_000 {
        let Decision::Route(routed) = routes.decide(&head("GET /", &NO_HEADERS), 80, &mut rng) else { panic!() };
        assert_eq!(&routes.destinations()[routed.destination_index], routed.destination);
        *counts.entry(routed.destination.destination.service.host.to_string()).or_insert(0_i32) += 1;
    }
    assert_eq!(counts.get("never"), None);
    // 5 x sqrt(10,000 x 0.75 x 0.25).
    assert!((counts["a"] - 7_500).abs() <= 216, "{counts:?}");
    let single = compile(&table(vec![rule(vec![], &[("single", 0)])]));
    assert_eq!(goes_to(&single, &head("GET /", &NO_HEADERS), 80), "single");
}

/// The new target of a request.
fn rewritten(condition: Option<StringMatch>, rewrite: Rewrite, line: &str) -> (Option<String>, Option<String>) {
    let matches = condition.map(path).into_iter().collect();
    let routes = compile(&table(vec![HttpRule { rewrite: Some(rewrite), ..rule(matches, &[("a", 1)]) }]));
    let head = head(line, &NO_HEADERS);
    let Decision::Route(routed) = routes.decide(&head, 80, &mut fastrand::Rng::with_seed(1)) else { panic!("{line}") };
    let rewritten = routed.rewrite(head.path, head.query).unwrap();
    (rewritten.path_and_query, rewritten.authority.map(Into::into))
}

#[test]
fn a_rewrite_replaces_what_was_matched() {
    let uri = |uri: &str| Rewrite { uri: Some(uri.into()), ..Rewrite::default() };
    let regex =
        |pattern: &str, by: &str| Rewrite { uri_regex: Some((pattern.into(), by.into())), ..Rewrite::default() };
    let prefix = |text: &str| Some(StringMatch::Prefix(text.into()));
    let check = |condition, rewrite, line, expected: &str| {
        assert_eq!(rewritten(condition, rewrite, line).0.as_deref(), Some(expected), "{line}");
    };
    check(prefix("/api/"), uri("/"), "GET /api/v1?x=1", "/v1?x=1");
    check(prefix("/api"), uri("/v2"), "GET /api/x", "/v2/x");
    // As in Istio, nothing is done at the seam.
    check(prefix("/api"), uri("/"), "GET /api/x", "//x");
    check(prefix("/api/"), uri("x"), "GET /api/v1", "/xv1");
    check(Some(StringMatch::Exact("/a".into())), uri("/b"), "GET /a", "/b");
    check(None, uri("/b?k=v"), "GET /a?x=1", "/b?k=v&x=1");
    check(prefix("/"), regex("^/service/([^/]+)(/.*)$", r"\2/instance/\1"), "GET /service/foo/v1", "/v1/instance/foo");
    check(prefix("/"), regex("one", "two"), "GET /xx/one/one", "/xx/two/two");
    check(prefix("/"), regex("(?i)/xxx/", "/y$1/"), "GET /aaa/XxX/b", "/aaa/y$1/b");
    // What would grow without bound stays as it was.
    let long = format!("GET /{}", "a".repeat(8000));
    assert_eq!(rewritten(prefix("/"), regex("a", &"b".repeat(1000)), &long).0, None);
    assert_eq!(rewritten(prefix("/"), regex("^(.*)$", &r"\1".repeat(100)), &long).0, None);
    let authority = Rewrite { authority: Some("other".into()), ..Rewrite::default() };
    assert_eq!(rewritten(None, authority, "GET /a"), (None, Some("other".into())));
}

#[test]
fn a_redirect_leads_where_it_says() {
    let request = |line, authority| RequestHead { authority, ..head(line, &NO_HEADERS) };
    let none = Redirect { uri: None, prefix: None, authority: None, scheme: None, port: None, status: 301 };
    let check = |redirect: &Redirect, matched, line, authority, expected: &str| {
        assert_eq!(location(redirect, matched, &request(line, authority), 9080), expected);
    };
    let uri = Redirect { uri: Some("/v1/books".into()), authority: Some("books.com".into()), ..none.clone() };
    check(&uri, Matched::Whole, "GET /x?q=1", "reviews", "http://books.com/v1/books?q=1");
    let secure = Redirect { scheme: Some("https".into()), ..none.clone() };
    check(&secure, Matched::Whole, "GET /x", "a.com:80", "https://a.com/x");
    check(&secure, Matched::Whole, "GET /x", "a.com:8080", "https://a.com:8080/x");
    check(&secure, Matched::Whole, "GET /x", "[::1]:80", "https://[::1]/x");
    let prefix = Redirect { prefix: Some("/new".into()), ..none.clone() };
    check(&prefix, Matched::Prefix(4), "GET /old/x?y", "a.com", "http://a.com/new/x?y");
    let port = |port| Redirect { port: Some(port), ..none.clone() };
    check(&port(RedirectPort::Number(8443)), Matched::Whole, "GET /", "a.com:1", "http://a.com:8443/");
    check(&port(RedirectPort::Number(80)), Matched::Whole, "GET /", "a.com:1", "http://a.com/");
    check(&port(RedirectPort::Request), Matched::Whole, "GET /", "a.com", "http://a.com:9080/");
    check(&port(RedirectPort::ProtocolDefault), Matched::Whole, "GET /", "a.com:1", "http://a.com/");
}

#[test]
fn connections_go_by_name_subnet_and_port() {
    let sni = |pattern| L4Match { sni: vec![pattern], port: Some(443), ..L4Match::default() };
    let subnet = L4Match { destination_subnets: vec!["10.1.0.0/16".parse().unwrap()], ..L4Match::default() };
    let mut written = table(vec![]);
    written.tls = vec![
        TlsRule { matches: vec![sni(HostPattern::Exact("a.com".into()))], destinations: vec![to("exact", 1)] },
        TlsRule { matches: vec![sni(HostPattern::Suffix(".com".into()))], destinations: vec![to("suffix", 1)] },
        TlsRule { matches: vec![], destinations: vec![to("never", 1)] },
    ];
    written.tcp = vec![
        TcpRule { matches: vec![subnet], destinations: vec![to("subnet", 1)] },
        TcpRule { matches: vec![], destinations: vec![to("all", 1)] },
    ];
    let routes = compile(&written);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut check = |decide: for<'r> fn(&'r CompiledRoutes, &L4Head<'_>, &mut fastrand::Rng) -> L4Decision<'r>,
                     ip: &str,
                     port,
                     sni| {
        let head = L4Head { destination: ip.parse().unwrap(), port, sni };
        match decide(&routes, &head, &mut rng) {
            L4Decision::Route(destination, _) => destination.destination.service.host.to_string(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(check(CompiledRoutes::decide_tls, "10.0.0.1", 443, Some("a.com")), "exact");
    assert_eq!(check(CompiledRoutes::decide_tls, "10.0.0.1", 443, Some("b.a.com")), "suffix");
    assert_eq!(check(CompiledRoutes::decide_tls, "10.0.0.1", 444, Some("a.com")), "NotFound");
    assert_eq!(check(CompiledRoutes::decide_tls, "10.0.0.1", 443, None), "NotFound");
    assert_eq!(check(CompiledRoutes::decide_tcp, "10.1.2.3", 1, None), "subnet");
    assert_eq!(check(CompiledRoutes::decide_tcp, "10.2.2.3", 1, None), "all");
}

#[test]
fn a_destination_without_port_takes_the_single_or_the_dialled_one() {
    let destination = |port| Destination { service: ServiceName::new("ns", "a"), subset: None, port };
    assert_eq!(destination_port(&destination(Some(1)), &[2, 3], 4), 1);
    assert_eq!(destination_port(&destination(None), &[2], 4), 2);
    assert_eq!(destination_port(&destination(None), &[2, 3], 4), 4);
}

/// What a match means, written as slowly as it reads.
fn oracle(written: &HttpMatch, head: &RequestHead<'_>, headers: &[(&str, &str)], port: u16) -> bool {
    let text = |condition: &StringMatch, text: &str, fold: bool| match condition {
        StringMatch::Exact(wanted) if fold => wanted.to_lowercase() == text.to_lowercase(),
        StringMatch::Prefix(wanted) if fold => text.to_lowercase().starts_with(&wanted.to_lowercase()),
        StringMatch::Exact(wanted) => wanted == text,
        StringMatch::Prefix(wanted) => text.starts_with(wanted.as_str()),
        StringMatch::Regex(pattern) => regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text),
        StringMatch::Present => true,
    };
    let header = |condition: &HeaderMatch| {
        let values: Vec<_> = headers.iter().filter(|(name, _)| *name == condition.name).map(|h| h.1).collect();
        match (values.is_empty(), condition.invert) {
            (false, invert) => text(&condition.value, &values.join(","), false) != invert,
            (true, false) => false,
            (true, true) => condition.value == StringMatch::Present || !text(&condition.value, "", false),
        }
    };
    written.path.as_ref().is_none_or(|c| text(c, head.path, written.ignore_case))
        && written.method.as_ref().is_none_or(|c| text(c, head.method, false))
        && written.headers.iter().all(header)
        && written.port.is_none_or(|wanted| wanted == port)
}

fn any_text() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        "/[ab]{0,2}".prop_map(StringMatch::Exact),
        "/[aB]{0,1}".prop_map(StringMatch::Prefix),
        prop_oneof![Just("/a*"), Just("/(a|b)+"), Just(".*"), Just("/[^a]?|/ab")]
            .prop_map(|r| StringMatch::Regex(r.into())),
    ]
}

fn any_match() -> impl Strategy<Value = HttpMatch> {
    let value = prop_oneof![
        Just(StringMatch::Present),
        "[xy]{0,1}".prop_map(StringMatch::Exact),
        Just(StringMatch::Regex("x(,.*)?".into()))
    ];
    let header = ("h[12]", value, any::<bool>()).prop_map(|(name, value, invert)| HeaderMatch { name, value, invert });
    let method = proptest::option::of(prop_oneof![Just("GET"), Just("POST")]);
    let port = proptest::option::of(80..82_u16);
    let headers = proptest::collection::vec(header, 0..2);
    (proptest::option::of(any_text()), any::<bool>(), method, headers, port).prop_map(
        |(path, ignore_case, method, headers, port)| HttpMatch {
            path,
            ignore_case,
            method: method.map(|method| StringMatch::Exact(method.into())),
            headers,
            port,
            ..HttpMatch::default()
        },
    )
}

proptest! {
    #[test]
    fn the_decision_is_what_a_slow_reader_finds(
        rules in proptest::collection::vec(proptest::collection::vec(any_match(), 0..3), 0..5),
        path in "/[abA]{0,3}",
        post in any::<bool>(),
        headers in proptest::collection::vec(("h[12]", "[xyz]{0,1}"), 0..3),
        port in 80..82_u16,
    ) {
        let names = ["r0", "r1", "r2", "r3", "r4"];
        let written = rules.iter().zip(names).map(|(matches, name)| rule(matches.clone(), &[(name, 1)])).collect();
        let routes = compile(&RouteTable { implicit: false, ..table(written) });
        let method = if post { "POST" } else { "GET" };
        let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let head = RequestHead { method, path: &path, query: None, authority: "a", scheme: "http", headers: &headers };
        let finds = |matches: &Vec<HttpMatch>| matches.is_empty() || matches.iter().any(|m| oracle(m, &head, &pairs, port));
        let expected = rules.iter().position(finds).map_or("not found", |index| names[index]);
        prop_assert_eq!(goes_to(&routes, &head, port), expected);
    }
}
