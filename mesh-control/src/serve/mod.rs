//! Port 15012: delta xDS to proxies and certificates, behind our own TLS.
//!
//! `listen` accepts and proves who is there, `peers` bounds what one address takes, `ads` authorizes a stream and waits
//! for its pod, `session` decides what a stream says, `proxies` knows who is connected.

mod ads;
mod listen;
mod peers;
mod proxies;
mod session;

#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod tests;

pub(crate) use ads::Ads;
pub(crate) use listen::serve;
pub(crate) use proxies::{Proxies, Proxy};
