//! Host names: one form for comparing, and the names by which a service can be called.

use std::borrow::Cow;

/// Longest host, in bytes.
const HOST_BYTES_MAX: usize = 255;

/// A request's authority, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower case, without trailing dot; an IPv6 address without brackets.
    pub host: Cow<'a, str>,
    /// The port, if one is written.
    pub port: Option<u16>,
}

/// Why an authority is refused (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing is there.
    #[error("the host is empty")]
    Empty,
    /// `user@host`.
    #[error("the authority has user information")]
    UserInfo,
    /// Characters that no host has, or too many of them.
    #[error("the host is not valid")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is not valid")]
    Port,
}

/// Takes an authority apart: `Host`, `:authority`, or the target of CONNECT. Borrows where nothing changes.
///
/// # Errors
/// See [`HostError`].
pub fn parse_authority(text: &str) -> Result<Authority<'_>, HostError> {
    if text.contains('@') {
        return Err(HostError::UserInfo);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(HostError::Host)?;
            // No zones: an interface of the client means nothing here.
            host.parse::<std::net::Ipv6Addr>().map_err(|_| HostError::Host)?;
            match after {
                "" => (host, None),
                after => (host, Some(after.strip_prefix(':').ok_or(HostError::Host)?)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        // `host:` is allowed by RFC 3986, section 3.2.3.
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or(HostError::Port)?)
        }
        Some(_) => return Err(HostError::Port),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(HostError::Empty);
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if host.len() > HOST_BYTES_MAX || !host.bytes().all(fits) {
        return Err(HostError::Host);
    }
    let host = match host.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    };
    Ok(Authority { host, port })
}

/// The names by which clients of a namespace can call the service `host`, the full name first.
///
/// For `reviews.bookinfo.svc.cluster.local`: that, `reviews.bookinfo.svc`, `reviews.bookinfo`, and within `bookinfo`
/// `reviews`. A host that is no Kubernetes Service's has only its own name.
#[must_use]
pub fn aliases(host: &str, client_namespace: &str, cluster_domain: &str) -> Vec<String> {
    let mut names = vec![host.to_owned()];
    let service = host.strip_suffix(cluster_domain).and_then(|rest| rest.strip_suffix(".svc."));
    if let Some((name, namespace)) = service.and_then(|service| service.rsplit_once('.')) {
        names.push(format!("{name}.{namespace}.svc"));
        names.push(format!("{name}.{namespace}"));
        if namespace == client_namespace {
            names.push(name.to_owned());
        }
    }
    names
}

/// The full names that a host can mean for a client, most likely first: the inverse of [`aliases`].
#[must_use]
pub fn candidates(host: &str, client_namespace: &str, cluster_domain: &str) -> Vec<String> {
    let suffix = format!(".svc.{cluster_domain}");
    let mut names = Vec::with_capacity(2);
    if host.ends_with(&suffix) || host.parse::<std::net::IpAddr>().is_ok() {
        return vec![host.to_owned()];
    }
    if let Some(service) = host.strip_suffix(".svc") {
        names.push(format!("{service}{suffix}"));
    } else if host.contains('.') {
        names.push(format!("{host}{suffix}"));
    } else {
        names.push(format!("{host}.{client_namespace}{suffix}"));
    }
    names.push(host.to_owned());
    names
}
