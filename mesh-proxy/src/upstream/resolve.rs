//! Names of endpoints outside the mesh (ServiceEntry with resolution DNS), resolved on use.
//!
//! The resolver keeps answers as long as their TTL says. It is hickory's: a static program cannot call the system's.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;

/// Time for an answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// One worker's resolver, made when it is first needed.
#[derive(Default)]
pub(crate) struct Names(OnceCell<TokioResolver>);

impl Names {
    /// An address of `host`, of the wanted family where there is a choice.
    ///
    /// # Errors
    /// What the resolver says.
    pub(crate) async fn address(&self, host: &str, port: u16, prefer_v6: bool) -> Result<SocketAddr, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, port));
        }
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, self.resolver()?.lookup_ip(host)).await;
        let found = found.map_err(|_| format!("{host}: no answer"))?.map_err(|error| format!("{host}: {error}"))?;
        let mut any = None;
        for address in found.iter() {
            if address.is_ipv6() == prefer_v6 {
                return Ok(SocketAddr::new(address, port));
            }
            any = any.or(Some(address));
        }
        any.map(|address| SocketAddr::new(address, port)).ok_or_else(|| format!("{host} has no address"))
    }

    fn resolver(&self) -> Result<&TokioResolver, String> {
        if let Some(resolver) = self.0.get() {
            return Ok(resolver);
        }
        let made =
            TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(|error| error.to_string())?;
        Ok(self.0.get_or_init(|| made))
    }
}
