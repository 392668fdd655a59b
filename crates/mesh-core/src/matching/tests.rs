//! What conditions mean, one line each.

use super::*;

fn text(written: StringMatch) -> TextMatch {
    TextMatch::compile(&written).unwrap()
}

#[test]
fn a_regular_expression_matches_the_whole_text() {
    let abc = text(StringMatch::Regex("a|abc".into()));
    assert!(abc.matches(b"abc") && abc.matches(b"a"));
    assert!(!abc.matches(b"ab") && !abc.matches(b"xabc") && !abc.matches(b"abc\n"));
    for escape in ["a)|(?:b", "(", "a)(b", "[z"] {
        assert!(compile_regex(escape).is_err(), "{escape}");
    }
}

#[test]
fn regular_expressions_are_bounded() {
    assert!(compile_regex(&"a".repeat(REGEX_BYTES_MAX)).is_ok());
    assert_eq!(compile_regex(&"a".repeat(REGEX_BYTES_MAX + 1)).unwrap_err(), MatchError::RegexTooLong);
    assert!(compile_regex(r"(?:\w{100}){100}{100}").is_err(), "too large once compiled");
}

#[test]
fn a_header_condition_sees_all_values() {
    let check = |written: StringMatch, invert, headers: &[(&str, &str)]| {
        let condition = HeaderMatch { name: "x-user".into(), value: written, invert };
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let headers: &Vec<(String, String)> = &headers;
        let head = RequestHead { method: "GET", path: "/", query: None, authority: "a", scheme: "http", headers };
        HeaderCondition::compile(&condition).unwrap().holds(&head)
    };
    let jason = || StringMatch::Exact("jason".into());
    assert!(check(jason(), false, &[("x-user", "jason")]));
    assert!(!check(jason(), false, &[("x-user", "jason"), ("x-user", "mallory")]));
    assert!(!check(jason(), false, &[]));
    assert!(check(jason(), true, &[]), "withoutHeaders passes a missing field");
    assert!(!check(jason(), true, &[("x-user", "jason")]));
    assert!(check(StringMatch::Present, false, &[("x-user", "")]));
    assert!(check(StringMatch::Present, true, &[]) && !check(StringMatch::Present, true, &[("x-user", "")]));
    assert!(!check(StringMatch::Regex(".*".into()), true, &[]), "missing is taken as empty");
}

#[test]
fn of_a_repeated_parameter_the_first_counts() {
    let holds = |value: &str, query| {
        let written = QueryMatch { name: "a b".into(), value: StringMatch::Exact(value.into()) };
        QueryCondition::compile(&written).unwrap().holds(query)
    };
    assert!(holds("1", Some("x=0&a%20b=1&a%20b=2")));
    assert!(!holds("2", Some("a%20b=1&a%20b=2")));
    assert!(holds("a/b", Some("a%20b=a%2Fb")) && holds("", Some("a%20b")));
    assert!(!holds("", Some("")) && !holds("", None));
}

#[test]
fn a_wildcard_host_is_one_or_more_labels_but_not_the_apex() {
    let pattern = HostPattern::Suffix(".example.com".into());
    assert!(pattern.matches("a.example.com") && pattern.matches("a.b.example.com"));
    assert!(!pattern.matches("example.com") && !pattern.matches(".example.com") && !pattern.matches("aexample.com"));
}

#[test]
fn templates_are_as_the_policy_reference_says() {
    let check = |template: &str, path: &str| PathTemplate::parse(template).unwrap().matches(path.as_bytes());
    for (template, path, expected) in [
        ("/foo/{*}", "/foo/bar", true),
        ("/foo/{*}", "/foo/bar/baz", false),
        ("/foo/{*}", "/foo/", false),
        ("/foo/{**}/", "/foo/bar/", true),
        ("/foo/{**}/", "/foo/bar/baz.txt/", true),
        ("/foo/{**}/", "/foo//", true),
        ("/foo/{**}/", "/foo/bar", false),
        ("/foo/{*}/bar/{**}", "/foo/buzz/bar/", true),
        ("/foo/{*}/bar/{**}", "/foo/buzz/bar/baz", true),
        ("/foo/{*}/bar/{**}", "/foo/buzz/bar", false),
        ("/{*}/{*}", "/a/b", true),
        ("/{*}/{*}", "/a//b", false),
        ("/a.c/{*}", "/abc/x", false),
        ("/{**}", "/", true),
        ("/{*}", "/a%2Fb", true),
    ] {
        assert_eq!(check(template, path), expected, "{template} {path}");
    }
    for bad in ["/*/baz/{*}", "/**/baz/{*}", "/{**}/foo/{*}", "/foo/{*}.txt", "foo/{*}", "/{*", "/{x}"] {
        assert!(PathTemplate::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn values_of_policies_are_literals() {
    let matches = |written: ValueMatch, text: &str| Value::compile(&written).unwrap().matches(text.as_bytes());
    assert!(matches(ValueMatch::Prefix("/a.".into()), "/a.b") && !matches(ValueMatch::Prefix("/a.".into()), "/abb"));
    assert!(matches(ValueMatch::Suffix("/admin".into()), "/x/admin"));
    assert!(matches(ValueMatch::Present, "x") && !matches(ValueMatch::Present, ""));
    let host = Value::compile(&ValueMatch::Suffix(".Example.com".into())).unwrap();
    assert!(host.matches_ignoring_case(b"a.EXAMPLE.com") && !host.matches_ignoring_case(b"com"));
}
