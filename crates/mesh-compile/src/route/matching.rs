//! Conditions on requests.

use mesh_core::config::{HeaderMatch, HttpMatch, QueryMatch, StringMatch};
use mesh_core::matching::{compile_regex, compile_regex_unanchored};
use mesh_crd::networking::{self, HttpMatchRequest, StringPattern};

use super::Rules;
use crate::problem::{Code, Problems};

/// Headers by which Istio's gateways match claims of tokens.
const CLAIMS_PREFIX: &str = "@request.auth.claims";

impl Rules<'_, '_> {
    /// The matches of a rule at `at` that are for the view's clients; none where the rule is not for them.
    pub(super) fn http_matches(
        &self,
        matches: &[HttpMatchRequest],
        at: &str,
        problems: &mut Problems,
    ) -> Option<Vec<HttpMatch>> {
        let list = format!("{at}.match");
        if matches.is_empty() {
            // `match` that is no list reads as absent, which would match everything.
            let never = |why| vec![HttpMatch { unsupported: Some(why), ..HttpMatch::default() }];
            return Some(self.unread(&list).filter(|_| self.is_unreadable(&list)).map(never).unwrap_or_default());
        }
        let mut out = Vec::new();
        for (index, written) in matches.iter().enumerate() {
            if self.applies(&written.gateways, &written.source_namespace) {
                out.push(self.http_match(written, &format!("{list}[{index}]"), problems));
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Whether something at exactly `at` could not be read.
    fn is_unreadable(&self, at: &str) -> bool {
        self.object.issues.iter().any(|issue| issue.path == at)
    }

    fn http_match(&self, written: &HttpMatchRequest, at: &str, problems: &mut Problems) -> HttpMatch {
        let mut checks = Checks { rules: self, at, problems, unsupported: self.unread(at) };
        let mut out = HttpMatch {
            name: written.name.clone(),
            path: checks.text("uri", written.uri.as_ref()),
            ignore_case: written.ignore_uri_case,
            method: checks.text("method", written.method.as_ref()),
            authority: checks.text("authority", written.authority.as_ref()),
            scheme: checks.text("scheme", written.scheme.as_ref()),
            headers: Vec::new(),
            query: Vec::new(),
            port: checks.port(written.port),
            source_labels: written.source_labels.clone(),
            unsupported: None,
        };
        if !written.stat_prefix.is_empty() {
            checks.problems.unsupported(&format!("{at}.statPrefix"), "the match works, without its own statistics");
        }
        for (inverted, list, field) in
            [(false, &written.headers, "headers"), (true, &written.without_headers, "withoutHeaders")]
        {
            for (name, value) in list {
                let field = keyed(field, name);
                if name.starts_with(CLAIMS_PREFIX) {
                    let why = "matching claims of tokens is not built".to_owned();
                    checks.never(&field, Code::Unsupported, why);
                }
                if name.is_empty() || name.starts_with(':') {
                    checks.never(&field, Code::InvalidValue, format!("{name:?} is no header name"));
                }
                let value = checks.text_or_present(&field, value);
                out.headers.push(HeaderMatch { name: name.to_ascii_lowercase(), value, invert: inverted });
            }
        }
        for (name, value) in &written.query_params {
            let value = checks.text_or_present(&keyed("queryParams", name), value);
            out.query.push(QueryMatch { name: name.clone(), value });
        }
        out.unsupported = checks.unsupported;
        out
    }
}

/// A map's field with a key, as paths write it.
fn keyed(field: &str, key: &str) -> String {
    let mut path = field.to_owned();
    mesh_crd::path::push_key(&mut path, key);
    path
}

/// What makes a match unusable.
struct Checks<'p> {
    rules: &'p Rules<'p, 'p>,
    at: &'p str,
    problems: &'p mut Problems,
    unsupported: Option<String>,
}

impl Checks<'_> {
    fn never(&mut self, field: &str, code: Code, why: String) {
        let field = format!("{}.{field}", self.at);
        let message = format!("{why}; the match never matches");
        self.problems.error(code, &field, message, "change or remove this condition");
        self.unsupported.get_or_insert(format!("{field}: {why}"));
    }

    /// A condition on a text; one with no pattern holds always.
    fn text(&mut self, field: &str, written: Option<&networking::StringMatch>) -> Option<StringMatch> {
        let pattern = written?.value.as_ref()?;
        Some(self.pattern(field, pattern))
    }

    /// A condition on something that may be absent; one with no pattern asks for presence.
    fn text_or_present(&mut self, field: &str, written: &networking::StringMatch) -> StringMatch {
        match &written.value {
            None => StringMatch::Present,
            Some(StringPattern::Regex(regex)) if regex == "*" => StringMatch::Present,
            Some(pattern) => self.pattern(field, pattern),
        }
    }

    fn pattern(&mut self, field: &str, pattern: &StringPattern) -> StringMatch {
        match pattern {
            StringPattern::Exact(text) => StringMatch::Exact(text.clone()),
            StringPattern::Prefix(text) => StringMatch::Prefix(text.clone()),
            StringPattern::Regex(regex) => {
                if let Err(why) = self.rules.check_regex(check_regex, regex) {
                    self.never(&format!("{field}.regex"), Code::InvalidRegex, why);
                    // The model promises that expressions compile.
                    return StringMatch::Exact(regex.clone());
                }
                StringMatch::Regex(regex.clone())
            }
        }
    }

    fn port(&mut self, port: Option<u32>) -> Option<u16> {
        let port = port.filter(|port| *port != 0)?;
        let number = u16::try_from(port).ok();
        if number.is_none() {
            self.never("port", Code::InvalidValue, format!("{port} is no port number"));
        }
        number
    }
}

/// Whether an expression can be used for a whole text, by the code that will use it.
pub(super) fn check_regex(regex: &str) -> Result<(), String> {
    compile_regex(regex).map(drop).map_err(|error| one_line(&error.to_string()))
}

/// Whether an expression can be used for a part of a text.
pub(super) fn check_part_regex(regex: &str) -> Result<(), String> {
    compile_regex_unanchored(regex).map(drop).map_err(|error| one_line(&error.to_string()))
}

/// An error's text without the drawing of where it is.
fn one_line(text: &str) -> String {
    let (first, last) = (text.lines().next().unwrap_or_default(), text.lines().last().unwrap_or_default());
    if first == last { first.to_owned() } else { format!("{first} {}", last.trim_start_matches("error: ")) }
}
