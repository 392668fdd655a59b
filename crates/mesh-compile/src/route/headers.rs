//! Header changes: which are allowed, and Istio's two ways to set the authority.

use mesh_core::config::{HeaderEdits, Rewrite};
use mesh_crd::networking::{HeaderOperations, Headers};

use crate::problem::{Code, Problems};

/// Headers that belong to one connection or to framing: a route may not touch them.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
];
/// Headers by which proxies say who somebody is, or talk to each other.
const IDENTITY: [&str; 2] = ["x-forwarded-client-cert", "mesh-"];

/// The changes as written, without those that are not allowed (which are reported). `host` in `request.set` becomes
/// a rewrite of the authority.
pub(super) fn edits(
    headers: Option<&Headers>,
    at: &str,
    rewrite: &mut Rewrite,
    problems: &mut Problems,
) -> HeaderEdits {
    let mut out = HeaderEdits::default();
    if let Some(request) = headers.and_then(|headers| headers.request.as_ref()) {
        let at = format!("{at}.request");
        for name in ["host", "Host", ":authority"] {
            if let Some(value) = request.set.get(name).filter(|value| is_value(value)) {
                rewrite.authority = Some(value.clone());
            }
        }
        (out.request_set, out.request_add, out.request_remove) = direction(request, &at, true, problems);
    }
    if let Some(response) = headers.and_then(|headers| headers.response.as_ref()) {
        let at = format!("{at}.response");
        (out.response_set, out.response_add, out.response_remove) = direction(response, &at, false, problems);
    }
    out
}

type Pairs = Vec<(String, String)>;

fn direction(
    operations: &HeaderOperations,
    at: &str,
    request: bool,
    problems: &mut Problems,
) -> (Pairs, Pairs, Vec<String>) {
    let mut pairs = |kind: &str, map: &std::collections::BTreeMap<String, String>| {
        let mut out = Vec::new();
        for (name, value) in map {
            let mut field = format!("{at}.{kind}");
            mesh_crd::path::push_key(&mut field, name);
            let lower = name.to_ascii_lowercase();
            if request && kind == "set" && (lower == "host" || lower == ":authority") {
                continue;
            }
            if let Some(why) = refusal(&lower) {
                problems.warning(Code::InvalidValue, &field, format!("{why}; it is left alone"), "remove this change");
                continue;
            }
            match literal(value) {
                Some(value) if is_value(&value) => out.push((lower, value)),
                Some(_) => {
                    let message = "the value has characters that a header cannot have; the header is left alone";
                    problems.error(Code::InvalidValue, &field, message, "write printable text");
                }
                None => problems.unsupported(&field, "commands between % are not replaced; the header is left alone"),
            }
        }
        out
    };
    let set = pairs("set", &operations.set);
    let add = pairs("add", &operations.add);
    let mut remove = Vec::new();
    for (index, name) in operations.remove.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        match refusal(&lower) {
            None => remove.push(lower),
            Some(why) => {
                let field = format!("{at}.remove[{index}]");
                problems.warning(Code::InvalidValue, &field, format!("{why}; it is left alone"), "remove this change");
            }
        }
    }
    (set, add, remove)
}

/// Why a header may not be changed by a route.
fn refusal(name: &str) -> Option<String> {
    if name.starts_with(':') || name == "host" {
        return Some(format!("{name} cannot be changed like this"));
    }
    if !is_name(name) {
        return Some(format!("{name:?} is no header name"));
    }
    if HOP_BY_HOP.contains(&name) {
        return Some(format!("{name} belongs to the connection"));
    }
    if IDENTITY.iter().any(|identity| name.starts_with(identity)) {
        return Some(format!("{name} is the proxies' own"));
    }
    None
}

/// A value without Envoy's escapes: `%%` is a percent sign, a single one begins a command, which is not built.
fn literal(value: &str) -> Option<String> {
    let unescaped = value.replace("%%", "\u{0}");
    (!unescaped.contains('%')).then(|| unescaped.replace('\u{0}', "%"))
}

/// Whether a text is a header's name (RFC 9110, section 5.6.2).
fn is_name(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(token)
}

/// Whether a text can be a header's value.
pub(super) fn is_value(text: &str) -> bool {
    text.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f)) && text.trim() == text
}
