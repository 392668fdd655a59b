//! What a rule changes in a request's target, and where a redirect leads.

use std::borrow::Cow;

use regex::bytes::Regex;

use super::Matched;
use crate::config::{Redirect, RedirectPort, Rewrite};
use crate::matching::{MatchError, REGEX_BYTES_MAX, compile_regex_unanchored};
use crate::request::RequestHead;

/// Longest path that a regular expression may make of another, in bytes: one that repeats what it matched could fill the
/// memory with a single request.
const REWRITTEN_BYTES_MAX: usize = 64 * 1024;

/// A changed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten<'r> {
    /// New path and query, if they change.
    pub path_and_query: Option<String>,
    /// New authority, if it changes.
    pub authority: Option<&'r str>,
}

#[derive(Debug)]
pub(super) struct Rewriter {
    uri: Option<Box<str>>,
    regex: Option<(Regex, Box<str>)>,
    authority: Option<Box<str>>,
}

impl Rewriter {
    pub(super) fn compile(written: &Rewrite) -> Result<Self, MatchError> {
        let regex = match &written.uri_regex {
            Some((_, replacement)) if replacement.len() > REGEX_BYTES_MAX => {
                return Err(MatchError::ReplacementTooLong);
            }
            Some((pattern, replacement)) => {
                Some((compile_regex_unanchored(pattern)?, groups_for_regex(replacement).into()))
            }
            None => None,
        };
        Ok(Self {
            uri: written.uri.as_deref().map(Into::into),
            regex,
            authority: written.authority.as_deref().map(Into::into),
        })
    }

    pub(super) fn apply(&self, path: &str, query: Option<&str>, matched: Matched) -> Rewritten<'_> {
        let path = match (&self.regex, &self.uri) {
            // A group can cut within a character; what is no text then, or too long, is left as it was.
            (Some((regex, replacement)), _) => {
                replace_all(regex, path, replacement.as_bytes()).and_then(|path| String::from_utf8(path).ok())
            }
            (None, Some(uri)) => Some(replace_path(path, uri, matched)),
            (None, None) => None,
        };
        let path_and_query = path.map(|path| with_query(rooted(path), query));
        Rewritten { path_and_query, authority: self.authority.as_deref() }
    }
}

/// All matches replaced; `None` where that would come to more than [`REWRITTEN_BYTES_MAX`].
fn replace_all(regex: &Regex, path: &str, replacement: &[u8]) -> Option<Vec<u8>> {
    let path = path.as_bytes();
    let (mut replaced, mut from) = (Vec::with_capacity(path.len()), 0);
    for captures in regex.captures_iter(path) {
        let whole = captures.get_match();
        replaced.extend_from_slice(&path[from..whole.start()]);
        captures.expand(replacement, &mut replaced);
        from = whole.end();
        if replaced.len() > REWRITTEN_BYTES_MAX {
            return None;
        }
    }
    replaced.extend_from_slice(&path[from..]);
    (replaced.len() <= REWRITTEN_BYTES_MAX).then_some(replaced)
}

/// The matched prefix replaced, or the whole path (VirtualService, `rewrite.uri`). As in Istio, nothing is added or
/// removed at the seam.
fn replace_path(path: &str, uri: &str, matched: Matched) -> String {
    match matched {
        Matched::Prefix(length) => format!("{uri}{}", path.get(length..).unwrap_or_default()),
        Matched::Whole => uri.to_owned(),
    }
}

/// A request's path begins with `/` whatever a rewrite made of it.
fn rooted(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

fn with_query(mut path: String, query: Option<&str>) -> String {
    if let Some(query) = query {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(query);
    }
    path
}

/// RE2 writes groups as `\1`, the regex crate as `${1}`.
fn groups_for_regex(replacement: &str) -> String {
    let mut converted = String::with_capacity(replacement.len() + 8);
    let mut chars = replacement.chars();
    while let Some(char) = chars.next() {
        match char {
            '$' => converted.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    converted.push_str("${");
                    converted.push(digit);
                    converted.push('}');
                }
                Some('$') => converted.push_str("$$"),
                Some(other) => converted.push(other),
                None => converted.push('\\'),
            },
            other => converted.push(other),
        }
    }
    converted
}

/// Where a redirect leads: the `location` of the answer. `port` is the port that the client dialled.
///
/// Without a new authority the request's own stays; its port goes where the scheme changes and the port was the old
/// scheme's default. A new path keeps the query, unless it has one itself.
#[must_use]
pub fn location(redirect: &Redirect, matched: Matched, head: &RequestHead<'_>, port: u16) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme);
    let authority = redirect.authority.as_deref().unwrap_or(head.authority);
    let (host, own_port) = split_port(authority);
    let port = match redirect.port {
        Some(RedirectPort::Number(number)) => Some(number),
        Some(RedirectPort::Request) => Some(port),
        Some(RedirectPort::ProtocolDefault) => None,
        None if scheme != head.scheme && own_port == default_port(head.scheme) => None,
        None => own_port,
    };
    let path: Cow<'_, str> = match (&redirect.uri, &redirect.prefix) {
        (Some(uri), _) => uri.as_str().into(),
        (None, Some(prefix)) => replace_path(head.path, prefix, matched).into(),
        (None, None) => head.path.into(),
    };
    let mut location = format!("{scheme}://{host}");
    if let Some(port) = port.filter(|port| Some(*port) != default_port(scheme)) {
        location.push(':');
        location.push_str(&port.to_string());
    }
    if !path.starts_with('/') {
        location.push('/');
    }
    location.push_str(&path);
    if let (Some(query), false) = (head.query, path.contains('?')) {
        location.push('?');
        location.push_str(query);
    }
    location
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.contains(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}
