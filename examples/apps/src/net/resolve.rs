//! Names to addresses, by the DNS servers and search domains of the pod's `/etc/resolv.conf`.
//!
//! Never `getaddrinfo`: the programs are linked statically against glibc, which cannot load its resolver modules.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use hickory_resolver::TokioResolver;
use tokio::net::TcpStream;

use crate::client::{Failure, Kind};

/// Connects to `host:port`: an address as it is, a name by DNS; each address of the name is tried in order.
///
/// # Errors
/// [`Kind::Resolve`] when the name has no address, [`Kind::Connect`] when no address accepts.
pub(crate) async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let mut last = None;
    for address in addresses(host).await? {
        match TcpStream::connect(SocketAddr::new(address, port)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true); // only latency is at stake
                return Ok(stream);
            }
            Err(error) => last = Some((address, error)),
        }
    }
    Err(match last {
        Some((address, error)) => Failure::new(Kind::Connect, format!("{host} ({address}) port {port}: {error}")),
        None => Failure::new(Kind::Resolve, format!("{host}: the name has no address")),
    })
}

async fn addresses(host: &str) -> Result<Vec<IpAddr>, Failure> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
    }
    let resolve_failed = |reason: String| Failure::new(Kind::Resolve, format!("{host}: {reason}"));
    let resolver = resolver().map_err(|reason| resolve_failed(reason.to_owned()))?;
    let found = resolver.lookup_ip(host).await.map_err(|error| resolve_failed(error.to_string()))?;
    Ok(found.iter().collect())
}

/// The process' resolver, made at first use; without a cache, because what a name means changes while we look.
fn resolver() -> Result<&'static TokioResolver, &'static str> {
    static RESOLVER: OnceLock<Result<TokioResolver, String>> = OnceLock::new();
    let made = RESOLVER.get_or_init(|| {
        let mut builder = TokioResolver::builder_tokio().map_err(|error| format!("/etc/resolv.conf: {error}"))?;
        builder.options_mut().cache_size = 0;
        builder.build().map_err(|error| error.to_string())
    });
    made.as_ref().map_err(String::as_str)
}
