//! Path templates of AuthorizationPolicy: `{*}` is one segment, `{**}` is anything.

use super::MatchError;

/// A path template: `/v1/{*}/items/{**}`.
///
/// `{*}` stands for one whole, non-empty segment; `{**}` for any number of characters, segments included, and is the
/// last operator. All else is literal (AuthorizationPolicy, `operation.paths`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    /// What precedes `{**}`, or everything: literal runs with a segment between each two of them.
    head: Vec<Box<str>>,
    /// The literal after `{**}`, if that is there.
    tail: Option<Box<str>>,
}

impl PathTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`MatchError::Template`]: no leading `/`, an operator that shares its segment with other characters, an operator
    /// after `{**}`, or `*`, `{`, `}` outside an operator.
    pub fn parse(text: &str) -> Result<Self, MatchError> {
        let error = |why| Err(MatchError::Template(text.to_owned(), why));
        let Some(segments) = text.strip_prefix('/') else {
            return error("it does not begin with '/'");
        };
        let mut head = vec![String::new()];
        let mut tail: Option<String> = None;
        for segment in segments.split('/') {
            let literal = match (&mut tail, segment) {
                (Some(_), "{*}" | "{**}") => return error("'{**}' is not the last operator"),
                (None, "{**}") => {
                    push_literal(&mut head, "/");
                    tail = Some(String::new());
                    continue;
                }
                (None, "{*}") => {
                    push_literal(&mut head, "/");
                    head.push(String::new());
                    continue;
                }
                (Some(tail), _) => tail,
                (None, _) => head.last_mut().expect("head is never empty"),
            };
            if segment.contains(['*', '{', '}']) {
                return error("'*', '{' and '}' only occur as '{*}' or '{**}', alone in a segment");
            }
            literal.push('/');
            literal.push_str(segment);
        }
        Ok(Self { head: head.into_iter().map(Into::into).collect(), tail: tail.map(Into::into) })
    }

    /// Whether a path matches.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut rest = path;
        for (index, literal) in self.head.iter().enumerate() {
            if index > 0 {
                let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
                if end == 0 {
                    return false;
                }
                rest = &rest[end..];
            }
            match rest.strip_prefix(literal.as_bytes()) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        match &self.tail {
            Some(tail) => rest.ends_with(tail.as_bytes()),
            None => rest.is_empty(),
        }
    }
}

fn push_literal(head: &mut [String], text: &str) {
    head.last_mut().expect("head is never empty").push_str(text);
}
