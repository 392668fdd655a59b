//! Path normalization: one form that is authorized *and* forwarded.
//!
//! A policy that looks at another string than the application does is no policy. So the path is brought into one form
//! once, before anything looks at it, and that form is what travels on (traps 5.1; the modes are Istio's
//! `meshConfig.pathNormalization`). Some spellings are on purpose left alone in every mode, because they are different
//! paths: double encodings, overlong UTF-8, `;` parameters, upper case.

use std::borrow::Cow;

use crate::config::PathNormalization;

/// Why a path is refused (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%00`, or a raw NUL: programs in C would see a shorter path.
    #[error("the path contains a NUL")]
    Nul,
    /// `#`: a fragment never travels in a request.
    #[error("the path contains a fragment")]
    Fragment,
    /// Neither `/…` nor `*`.
    #[error("the path does not begin with '/'")]
    Relative,
}

/// Brings the path of a request (without query) into the form that is matched, authorized and forwarded.
///
/// `*` (as in `OPTIONS *`) and the empty path (as in `CONNECT`) are passed as they are: no path condition matches them.
/// Borrows where nothing changes. Idempotent in every mode.
///
/// # Errors
/// See [`PathError`]; the request is answered 400.
pub fn normalize(path: &str, mode: PathNormalization) -> Result<Cow<'_, str>, PathError> {
    let facts = Facts::of(path)?;
    if path.is_empty() || path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    let (merge, decode) = match mode {
        PathNormalization::None if path.starts_with('/') => return Ok(Cow::Borrowed(path)),
        PathNormalization::None => return Err(PathError::Relative),
        PathNormalization::Base => (false, false),
        PathNormalization::MergeSlashes => (true, false),
        PathNormalization::DecodeAndMergeSlashes => (true, true),
    };
    if !path.starts_with(['/', '\\']) {
        return Err(PathError::Relative);
    }
    let changes = facts.special || (merge && facts.double_slash);
    if !changes {
        return Ok(Cow::Borrowed(path));
    }
    // Envoy's order: slashes are merged last.
    let resolved = resolve_dots(&decode_unreserved(path, decode));
    Ok(Cow::Owned(if merge { merge_slashes(&resolved) } else { resolved }))
}

/// What one pass over the path says.
struct Facts {
    /// An escape, a `\`, or a segment that begins with a dot.
    special: bool,
    double_slash: bool,
}

impl Facts {
    fn of(path: &str) -> Result<Self, PathError> {
        let mut facts = Self { special: false, double_slash: false };
        let mut previous = 0;
        let bytes = path.as_bytes();
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                0 => return Err(PathError::Nul),
                b'#' => return Err(PathError::Fragment),
                b'%' if bytes[at..].starts_with(b"%00") => return Err(PathError::Nul),
                b'%' | b'\\' => facts.special = true,
                b'.' if previous == b'/' => facts.special = true,
                b'/' if previous == b'/' => facts.double_slash = true,
                _ => {}
            }
            previous = byte;
        }
        Ok(facts)
    }
}

/// The byte that `%XX` at `at` stands for, if that is there.
pub(crate) fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    match bytes.get(at..at + 3)? {
        [b'%', high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    }
}

/// Decodes what RFC 3986 (section 2.3) calls unreserved, and turns `\` into `/`; with `slashes` also `%2F` and `%5C`.
/// All other escapes stay as they are.
fn decode_unreserved(path: &str, slashes: bool) -> String {
    let bytes = path.as_bytes();
    let mut decoded = String::with_capacity(path.len());
    // After a `%` that escapes nothing, two characters stay as they are: else decoding them could make an escape that a
    // second reader would decode (`%%32e` is not `%2e`).
    let mut frozen = 0_u8;
    let mut rest = path.char_indices();
    while let Some((at, char)) = rest.next() {
        if char != '%' {
            frozen = frozen.saturating_sub(1);
            decoded.push(if char == '\\' { '/' } else { char });
            continue;
        }
        let Some(byte) = escape_at(bytes, at) else {
            decoded.push('%');
            frozen = 2;
            continue;
        };
        rest.nth(1);
        match byte {
            _ if frozen > 0 => decoded.push_str(&path[at..at + 3]),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => decoded.push(char::from(byte)),
            b'/' | b'\\' if slashes => decoded.push('/'),
            _ => decoded.push_str(&path[at..at + 3]),
        }
        frozen = 0;
    }
    decoded
}

/// Resolves `.` and `..` segments (RFC 3986, section 5.2.4); `..` never leaves the root.
fn resolve_dots(path: &str) -> String {
    let mut resolved = String::with_capacity(path.len());
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => resolved.truncate(resolved.rfind('/').unwrap_or(0)),
            _ => {
                resolved.push('/');
                resolved.push_str(segment);
                continue;
            }
        }
        // What ends in a dot segment names a directory.
        if segments.peek().is_none() {
            resolved.push('/');
        }
    }
    resolved
}

/// Makes runs of `/` one.
fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for char in path.chars() {
        if char != '/' || !merged.ends_with('/') {
            merged.push(char);
        }
    }
    merged
}

#[cfg(test)]
mod tests;
