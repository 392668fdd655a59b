//! One entry of a rule's `match`, compiled. The cheap conditions are looked at first.

use super::Matched;
use crate::config::HttpMatch;
use crate::matching::{HeaderCondition, MatchError, QueryCondition, TextMatch};
use crate::request::RequestHead;

/// All of these must hold.
#[derive(Debug)]
pub(super) struct HttpCondition {
    port: Option<u16>,
    method: Option<TextMatch>,
    path: Option<TextMatch>,
    ignore_case: bool,
    authority: Option<TextMatch>,
    scheme: Option<TextMatch>,
    headers: Vec<HeaderCondition>,
    query: Vec<QueryCondition>,
}

impl HttpCondition {
    pub(super) fn compile(written: &HttpMatch) -> Result<Self, MatchError> {
        let text = |condition: &Option<_>| condition.as_ref().map(TextMatch::compile).transpose();
        Ok(Self {
            port: written.port,
            method: text(&written.method)?,
            path: text(&written.path)?,
            ignore_case: written.ignore_case,
            authority: text(&written.authority)?,
            scheme: text(&written.scheme)?,
            headers: written.headers.iter().map(HeaderCondition::compile).collect::<Result<_, _>>()?,
            query: written.query.iter().map(QueryCondition::compile).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the request fulfils all conditions, and what the path condition took.
    pub(super) fn matches(&self, head: &RequestHead<'_>, port: u16) -> Option<Matched> {
        let holds = |condition: &Option<TextMatch>, text: &str| match condition {
            Some(condition) => condition.matches(text.as_bytes()),
            None => true,
        };
        let fits = self.port.is_none_or(|wanted| wanted == port)
            && self.path_holds(head.path)
            && holds(&self.method, head.method)
            && holds(&self.authority, head.authority)
            && holds(&self.scheme, head.scheme)
            && self.headers.iter().all(|header| header.holds(head))
            && self.query.iter().all(|parameter| parameter.holds(head.query));
        fits.then_some(match &self.path {
            Some(TextMatch::Prefix(prefix)) => Matched::Prefix(prefix.len()),
            _ => Matched::Whole,
        })
    }

    fn path_holds(&self, path: &str) -> bool {
        match &self.path {
            None => true,
            // `OPTIONS *` and CONNECT have no path that a condition could be about.
            Some(_) if !path.starts_with('/') => false,
            Some(condition) if self.ignore_case => condition.matches_ignoring_case(path.as_bytes()),
            Some(condition) => condition.matches(path.as_bytes()),
        }
    }
}
