//! Conditions on texts, compiled once per configuration: [`config`](crate::config) has their written forms.
//!
//! Everything compares bytes, because header values need not be UTF-8. Regular expressions match the whole text, in
//! linear time, and are bounded in length and in compiled size. What an author writes as a literal stays a literal: only
//! what is written as a regular expression ever becomes one.

use regex::bytes::{Regex, RegexBuilder};

use crate::config::{HeaderMatch, HostPattern, QueryMatch, StringMatch, ValueMatch};
use crate::request::RequestHead;

mod template;
pub use template::PathTemplate;

/// Longest regular expression, in bytes (Istio's limit).
pub const REGEX_BYTES_MAX: usize = 1024;
/// Largest compiled regular expression, in bytes.
pub const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Largest cache that one regular expression fills while it matches, in bytes, per thread.
pub const REGEX_CACHE_BYTES_MAX: usize = 1 << 20;

/// Why a condition does not compile. Its text names the author's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// Longer than [`REGEX_BYTES_MAX`].
    #[error("the regular expression is longer than {REGEX_BYTES_MAX} bytes")]
    RegexTooLong,
    /// Not a regular expression, or too large once compiled.
    #[error("the regular expression {0:?} does not compile: {1}")]
    Regex(String, String),
    /// What a regular expression's matches are replaced by is longer than [`REGEX_BYTES_MAX`].
    #[error("the replacement is longer than {REGEX_BYTES_MAX} bytes")]
    ReplacementTooLong,
    /// Not a path template.
    #[error("the path template {0:?} is not valid: {1}")]
    Template(String, &'static str),
}

/// A compiled [`StringMatch`].
#[derive(Clone, Debug)]
pub enum TextMatch {
    /// Equal.
    Exact(Box<str>),
    /// Begins with.
    Prefix(Box<str>),
    /// Matches as a whole.
    Regex(Regex),
    /// There.
    Present,
}

impl TextMatch {
    /// Compiles the written form.
    ///
    /// # Errors
    /// A regular expression that is too long, too large or none.
    pub fn compile(written: &StringMatch) -> Result<Self, MatchError> {
        Ok(match written {
            StringMatch::Exact(text) => Self::Exact(text.as_str().into()),
            StringMatch::Prefix(text) => Self::Prefix(text.as_str().into()),
            StringMatch::Regex(text) => Self::Regex(compile_regex(text)?),
            StringMatch::Present => Self::Present,
        })
    }

    /// Whether a text that is there matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => text == wanted.as_bytes(),
            Self::Prefix(wanted) => text.starts_with(wanted.as_bytes()),
            Self::Regex(regex) => regex.is_match(text),
            Self::Present => true,
        }
    }

    /// As [`TextMatch::matches`], but ASCII letters are compared without case by `Exact` and `Prefix`
    /// (`ignoreUriCase` says nothing about regular expressions).
    #[must_use]
    pub fn matches_ignoring_case(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => text.eq_ignore_ascii_case(wanted.as_bytes()),
            Self::Prefix(wanted) => {
                text.get(..wanted.len()).is_some_and(|head| head.eq_ignore_ascii_case(wanted.as_bytes()))
            }
            Self::Regex(_) | Self::Present => self.matches(text),
        }
    }
}

/// Compiles a regular expression that must match the whole text.
///
/// # Errors
/// See [`MatchError`].
pub fn compile_regex(text: &str) -> Result<Regex, MatchError> {
    // By itself first: `a)|(?:b` would only be balanced within our own group, and escape from the anchors.
    compile_part(text)?;
    compile_part(&format!("\\A(?:{text})\\z"))
}

/// Compiles a regular expression that may match a part of the text (`uriRegexRewrite`).
///
/// # Errors
/// See [`MatchError`].
pub fn compile_regex_unanchored(text: &str) -> Result<Regex, MatchError> {
    compile_part(text)
}

fn compile_part(text: &str) -> Result<Regex, MatchError> {
    // The anchors that we add ourselves do not count.
    if text.len() > REGEX_BYTES_MAX + "\\A(?:)\\z".len() {
        return Err(MatchError::RegexTooLong);
    }
    RegexBuilder::new(text)
        .size_limit(REGEX_COMPILED_BYTES_MAX)
        .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
        .build()
        .map_err(|error| MatchError::Regex(text.to_owned(), last_line(&error.to_string())))
}

/// The regex crate draws a picture over several lines; its last line says what is wrong.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// A compiled [`HeaderMatch`].
#[derive(Clone, Debug)]
pub struct HeaderCondition {
    name: Box<str>,
    value: TextMatch,
    invert: bool,
}

impl HeaderCondition {
    /// Compiles the written form.
    ///
    /// # Errors
    /// See [`TextMatch::compile`].
    pub fn compile(written: &HeaderMatch) -> Result<Self, MatchError> {
        let name = written.name.to_ascii_lowercase().into();
        Ok(Self { name, value: TextMatch::compile(&written.value)?, invert: written.invert })
    }

    /// Whether the head fulfils the condition. Inverted (`withoutHeaders`), a missing field is taken as empty, except
    /// that `withoutHeaders` with mere presence means that the field must be absent.
    #[must_use]
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        let joined = head.field(&self.name);
        match (joined.as_bytes(), self.invert) {
            (Some(value), invert) => self.value.matches(value) != invert,
            (None, false) => false,
            (None, true) => matches!(self.value, TextMatch::Present) || !self.value.matches(b""),
        }
    }
}

/// A compiled [`QueryMatch`].
#[derive(Clone, Debug)]
pub struct QueryCondition {
    name: Box<str>,
    value: TextMatch,
}

impl QueryCondition {
    /// Compiles the written form.
    ///
    /// # Errors
    /// See [`TextMatch::compile`].
    pub fn compile(written: &QueryMatch) -> Result<Self, MatchError> {
        Ok(Self { name: written.name.as_str().into(), value: TextMatch::compile(&written.value)? })
    }

    /// Whether the query fulfils the condition. Names and values are percent-decoded (`+` stays); of a repeated
    /// parameter the first counts.
    #[must_use]
    pub fn holds(&self, query: Option<&str>) -> bool {
        query.and_then(|query| query_value(query, &self.name)).is_some_and(|value| self.value.matches(&value))
    }
}

/// The first value of a query parameter, percent-decoded; borrowed where nothing is encoded.
#[must_use]
pub fn query_value<'q>(query: &'q str, name: &str) -> Option<std::borrow::Cow<'q, [u8]>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(key).as_ref() == name.as_bytes()).then(|| percent_decode(value))
    })
}

/// Percent-decoding; what is not `%XX` stays as it is.
fn percent_decode(text: &str) -> std::borrow::Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return bytes.into();
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match crate::path::escape_at(bytes, at) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded.into()
}

impl HostPattern {
    /// Whether a host (lower case, without port and trailing dot) matches.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Self::Exact(exact) => host == exact,
        }
    }

    /// Orders patterns by how much they say: exact hosts first, then long suffixes, `*` last.
    #[must_use]
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Suffix(suffix) => (1, suffix.len()),
            Self::Exact(exact) => (2, exact.len()),
        }
    }
}

/// A compiled [`ValueMatch`] of an AuthorizationPolicy.
#[derive(Clone, Debug)]
pub enum Value {
    /// Equal.
    Exact(Box<str>),
    /// Begins with.
    Prefix(Box<str>),
    /// Ends with.
    Suffix(Box<str>),
    /// There and not empty.
    Present,
    /// A path template.
    Template(PathTemplate),
}

impl Value {
    /// Compiles the written form.
    ///
    /// # Errors
    /// [`MatchError::Template`].
    pub fn compile(written: &ValueMatch) -> Result<Self, MatchError> {
        Ok(match written {
            ValueMatch::Exact(text) => Self::Exact(text.as_str().into()),
            ValueMatch::Prefix(text) => Self::Prefix(text.as_str().into()),
            ValueMatch::Suffix(text) => Self::Suffix(text.as_str().into()),
            ValueMatch::Present => Self::Present,
            ValueMatch::Template(text) => Self::Template(PathTemplate::parse(text)?),
        })
    }

    /// Whether the text matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => text == wanted.as_bytes(),
            Self::Prefix(wanted) => text.starts_with(wanted.as_bytes()),
            Self::Suffix(wanted) => text.ends_with(wanted.as_bytes()),
            Self::Present => !text.is_empty(),
            Self::Template(template) => template.matches(text),
        }
    }

    /// As [`Value::matches`], without case of ASCII letters (hosts).
    #[must_use]
    pub fn matches_ignoring_case(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => text.eq_ignore_ascii_case(wanted.as_bytes()),
            Self::Prefix(wanted) => {
                text.get(..wanted.len()).is_some_and(|head| head.eq_ignore_ascii_case(wanted.as_bytes()))
            }
            Self::Suffix(wanted) => {
                let start = text.len().checked_sub(wanted.len());
                start.is_some_and(|start| text[start..].eq_ignore_ascii_case(wanted.as_bytes()))
            }
            Self::Present | Self::Template(_) => self.matches(text),
        }
    }
}

#[cfg(test)]
mod tests;
