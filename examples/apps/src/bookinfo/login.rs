//! Who is logged in: a cookie with the name, no password. It is a demo of routing by user, not of security.

use http::HeaderMap;
use http::header::COOKIE;

/// Bytes of a user's name.
const NAME_MAX: usize = 64;

/// The cookie that names the user.
const COOKIE_NAME: &str = "user";

/// The user that the request's cookie names, if it is a name that [`valid`] accepts.
pub(super) fn user(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, name) = pairs.find(|(key, _)| *key == COOKIE_NAME)?;
    valid(name).then_some(name)
}

/// Whether a name may go into a cookie and a header: letters, digits, `.`, `_` and `-`, at most 64 of them.
fn valid(name: &str) -> bool {
    let fits = (1..=NAME_MAX).contains(&name.len());
    fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The user's name in a posted form (`username=jason&passwd=...`).
pub(super) fn user_in_form(form: &[u8]) -> Option<String> {
    let form = std::str::from_utf8(form).ok()?;
    let (_, name) = form.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == "username")?;
    valid(name).then(|| name.to_owned())
}

/// The `Set-Cookie` value that logs `name` in.
pub(super) fn set(name: &str) -> String {
    format!("{COOKIE_NAME}={name}; Path=/; HttpOnly; SameSite=Lax")
}

/// The `Set-Cookie` value that logs out.
pub(super) fn clear() -> String {
    format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
}
