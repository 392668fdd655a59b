//! Whether a request names this machine as its host.
//!
//! A port on loopback is not out of a browser's reach: a page can resolve a name of its own to 127.0.0.1 (DNS
//! rebinding) and then read what the port answers. Such a request names the page's host, so only loopback names pass.

use std::net::IpAddr;

use http::Request;
use http::header::HOST;
use http::uri::Authority;

/// Whether the request names loopback as its host, everywhere it names one.
pub(super) fn names_loopback<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let target = request.uri().authority().is_none_or(is_loopback);
    target && host.to_str().is_ok_and(|host| host.parse().is_ok_and(|authority| is_loopback(&authority)))
}

fn is_loopback(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, hosts: &[&str]) -> bool {
        let request = hosts.iter().fold(Request::get(uri), |request, host| request.header(HOST, *host));
        names_loopback(&request.body(()).unwrap())
    }

    #[test]
    fn only_loopback_names_pass() {
        for host in
            ["localhost", "LOCALHOST:15000", "127.0.0.1:15000", "127.0.0.9", "[::1]:15000", "[::ffff:127.0.0.1]"]
        {
            assert!(check("/ready", &[host]), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "a@localhost", "", "[::2]"]
        {
            assert!(!check("/ready", &[host]), "{host}");
        }
        assert!(!check("/ready", &[]), "no host at all");
        assert!(!check("/ready", &["localhost", "evil.example"]));
        assert!(!check("http://evil.example/ready", &["localhost"]));
        assert!(check("http://localhost:15000/ready", &["localhost"]));
    }
}
