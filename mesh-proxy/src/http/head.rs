//! A request's head, validated once and brought into the one form that is decided about and forwarded.

use std::str::FromStr;

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, Version};
use mesh_core::config::PathNormalization;
use mesh_core::path;
use mesh_core::request::{Headers, RequestHead};

/// What a request is aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host or `:authority`, as sent.
    pub(crate) authority: String,
    /// Normalized, without query; `*` for `OPTIONS *`.
    pub(crate) path: String,
    /// What follows `?`.
    pub(crate) query: Option<String>,
}

/// Why a head is refused with 400. The text says what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("a request needs exactly one Host")]
    Host,
    #[error("Host and :authority (or the target's authority) differ")]
    HostConflict,
    #[error("the authority is not valid")]
    Authority,
    #[error("{0}")]
    Path(path::PathError),
    #[error("the target has characters that no URI has")]
    Target,
    #[error("Content-Length and Transfer-Encoding together")]
    Framing,
    #[error("a request's Transfer-Encoding can only be chunked")]
    Encoding,
    #[error("the target * is for OPTIONS only")]
    Star,
    #[error("CONNECT is not served here")]
    Connect,
}

/// Takes target and `Host` out of a request: they are put back by [`aim`] in the form of the next hop.
///
/// # Errors
/// See [`BadHead`].
pub(crate) fn take_target(parts: &mut Parts, mode: PathNormalization) -> Result<Target, BadHead> {
    if parts.method == Method::CONNECT {
        return Err(BadHead::Connect);
    }
    // hyper prefers Transfer-Encoding; a server behind us could prefer the other (request smuggling).
    if parts.headers.contains_key(CONTENT_LENGTH) && parts.headers.contains_key(TRANSFER_ENCODING) {
        return Err(BadHead::Framing);
    }
    // The body is framed anew, and an encoding below `chunked` would no longer be named to the application.
    let mut encodings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if encodings.next().is_some_and(|one| !one.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || encodings.next().is_some()
    {
        return Err(BadHead::Encoding);
    }
    let authority = take_authority(parts)?;
    mesh_core::destination::parse_authority(&authority).map_err(|_| BadHead::Authority)?;
    let raw = parts.uri.path();
    // `OPTIONS http://host` (absolute form without a path) means `*`.
    let raw = if raw.is_empty() { if parts.method == Method::OPTIONS { "*" } else { "/" } } else { raw };
    // It matches no rule about paths, so a method that means something to the application must not come with it.
    if raw == "*" && parts.method != Method::OPTIONS {
        return Err(BadHead::Star);
    }
    let path = path::normalize(raw, mode).map_err(BadHead::Path)?.into_owned();
    let query = parts.uri.query().map(str::to_owned);
    Ok(Target { authority, path, query })
}

fn take_authority(parts: &mut Parts) -> Result<String, BadHead> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(BadHead::Host),
        (host, None) => host.map(|host| host.to_str().map_err(|_| BadHead::Authority)).transpose()?,
    };
    let authority = match (parts.uri.authority(), host) {
        // The absolute form's authority wins (RFC 9112, section 3.2.2), but two different names are an attempt to show
        // one to us and the other to the application.
        (Some(authority), Some(host)) if !authority.as_str().eq_ignore_ascii_case(host) => {
            return Err(BadHead::HostConflict);
        }
        (Some(authority), _) => authority.as_str().to_owned(),
        (None, Some(host)) => host.to_owned(),
        (None, None) => return Err(BadHead::Host),
    };
    parts.headers.remove(HOST);
    Ok(authority)
}

/// Puts a target into a request in the form of the next hop: origin form and `Host` for HTTP/1.1, absolute form (which
/// hyper splits into pseudo-headers) for HTTP/2.
///
/// # Errors
/// [`BadHead`] where path and query are not valid as a URI's.
pub(crate) fn aim(parts: &mut Parts, target: &Target, http2: bool) -> Result<(), BadHead> {
    let path_and_query = match &target.query {
        Some(query) => PathAndQuery::from_str(&format!("{}?{query}", target.path)),
        None => PathAndQuery::from_str(&target.path),
    };
    let path_and_query = path_and_query.map_err(|_| BadHead::Target)?;
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path_and_query);
    if http2 {
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(Authority::from_str(&target.authority).map_err(|_| BadHead::Authority)?);
        parts.version = Version::HTTP_2;
    } else {
        let host = HeaderValue::from_str(&target.authority).map_err(|_| BadHead::Authority)?;
        parts.headers.insert(HOST, host);
        parts.version = Version::HTTP_11;
        join_cookies(&mut parts.headers);
    }
    parts.uri = Uri::from_parts(uri).map_err(|_| BadHead::Authority)?;
    Ok(())
}

/// HTTP/2 may cut cookies into several fields; HTTP/1 knows one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The fields of a head, as decisions see them.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a HeaderMap);

impl Headers for Fields<'_> {
    fn visit<'h>(&'h self, name: &str, each: &mut dyn FnMut(&'h [u8])) {
        self.0.get_all(name).iter().for_each(|value| each(value.as_bytes()));
    }
}

/// The head as decisions see it.
pub(crate) fn view<'a>(method: &'a Method, target: &'a Target, fields: &'a Fields<'a>) -> RequestHead<'a> {
    RequestHead {
        method: method.as_str(),
        path: &target.path,
        query: target.query.as_deref(),
        authority: &target.authority,
        scheme: "http",
        headers: fields,
    }
}

/// Bytes of a head, about as they were on the wire: for telemetry.
pub(crate) fn head_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn taken(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<(String, String, Option<String>), BadHead> {
        let target = take_target(&mut parts(method, uri, headers), PathNormalization::Base)?;
        Ok((target.authority, target.path, target.query))
    }

    #[test]
    fn the_target_is_one_form_whatever_was_sent() {
        let expected = ("a.b:80".to_owned(), "/x/y".to_owned(), Some("q=1".to_owned()));
        assert_eq!(taken("GET", "/x/./y?q=1", &[("host", "a.b:80")]), Ok(expected.clone()));
        assert_eq!(taken("GET", "http://a.b:80/x/y?q=1", &[]), Ok(expected.clone()));
        assert_eq!(taken("GET", "http://a.b:80/x/y?q=1", &[("host", "A.b:80")]), Ok(expected));
        assert_eq!(taken("OPTIONS", "*", &[("host", "a")]).unwrap().1, "*");
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        assert_eq!(taken("GET", "/", &[]), Err(BadHead::Host));
        assert_eq!(taken("GET", "/", &[("host", "a"), ("host", "a")]), Err(BadHead::Host));
        assert_eq!(taken("GET", "http://b/", &[("host", "a")]), Err(BadHead::HostConflict));
        assert_eq!(taken("GET", "/", &[("host", "user@a")]), Err(BadHead::Authority));
        assert_eq!(
            taken("POST", "/", &[("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")]),
            Err(BadHead::Framing)
        );
        for encodings in [&["gzip, chunked"][..], &["chunked, chunked"], &["gzip", "chunked"], &["chunked", "chunked"]]
        {
            let mut headers = vec![("host", "a")];
            headers.extend(encodings.iter().map(|encoding| ("transfer-encoding", *encoding)));
            assert_eq!(taken("POST", "/", &headers), Err(BadHead::Encoding), "{encodings:?}");
        }
        assert!(taken("POST", "/", &[("host", "a"), ("transfer-encoding", "Chunked")]).is_ok());
        assert_eq!(taken("GET", "*", &[("host", "a")]), Err(BadHead::Star));
        assert_eq!(taken("CONNECT", "a:80", &[]), Err(BadHead::Connect));
        assert!(matches!(taken("GET", "/a%00", &[("host", "a")]), Err(BadHead::Path(_))));
    }

    #[test]
    fn a_target_takes_the_form_of_the_next_hop() {
        let mut head = parts("GET", "/x?q=1", &[("host", "a:80"), ("cookie", "a=1"), ("cookie", "b=2")]);
        let target = take_target(&mut head, PathNormalization::Base).unwrap();
        aim(&mut head, &target, true).unwrap();
        assert_eq!((head.uri.to_string(), head.headers.get(HOST)), ("http://a:80/x?q=1".into(), None));
        aim(&mut head, &target, false).unwrap();
        assert_eq!(head.uri.to_string(), "/x?q=1");
        assert_eq!(head.headers.get(HOST).unwrap(), "a:80");
        assert_eq!(head.headers.get(COOKIE).unwrap(), "a=1; b=2");
    }
}
