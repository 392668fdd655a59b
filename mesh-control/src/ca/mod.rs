//! The certificate authority: Istio's `CreateCertificate` for workloads, and the control plane's own certificate.
//!
//! The name in a certificate comes from the authenticated caller, never from the request. The signing itself is
//! `mesh_tls::authority`; here are the service, its limits, and what is remembered of what was issued.

mod own;
mod service;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use mesh_core::identity::SpiffeId;
use mesh_tls::authority::{Authority, WORKLOAD_VALIDITY};

pub(crate) use own::{OwnCertificate, write_root};
pub(crate) use service::CertificateService;

/// Longest validity of a workload certificate.
const VALIDITY_MAX: Duration = WORKLOAD_VALIDITY;
/// Shortest: less would be renewed without pause.
const VALIDITY_MIN: Duration = Duration::from_secs(60);
/// Most issued certificates whose end is remembered (for `/v1/proxies`).
const REMEMBERED_MAX: usize = 65_536;

/// The folder of the self-signed root within the state folder.
const FOLDER: &str = "ca";

/// The authority with its memory.
pub(crate) struct Ca {
    authority: Authority,
    issued: Mutex<HashMap<(SpiffeId, Option<IpAddr>), SystemTime>>,
}

impl Ca {
    /// Loads Istio's file set from `plugged`, or the self-signed root in the state folder, which is made the first time.
    pub(crate) fn open(state: &Path, plugged: Option<&Path>, trust_domain: &str) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let authority = match plugged {
            Some(folder) => Authority::load(folder, now).with_context(|| {
                format!("--ca-certs {}: the certificate authority cannot be used", folder.display())
            })?,
            None => {
                let folder = state.join(FOLDER);
                make_private(&folder)?;
                Authority::load_or_create(&folder, trust_domain, now).context("the certificate authority's own root")?
            }
        };
        Ok(Self::new(authority))
    }

    pub(crate) fn new(authority: Authority) -> Self {
        Self { authority, issued: Mutex::default() }
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// When the newest certificate that this workload got here ends.
    pub(crate) fn expiry(&self, identity: &SpiffeId, peer: Option<IpAddr>) -> Option<SystemTime> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).get(&(identity.clone(), peer)).copied()
    }

    fn remember(&self, identity: &SpiffeId, peer: Option<IpAddr>, not_after: SystemTime, now: SystemTime) {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.len() >= REMEMBERED_MAX {
            issued.retain(|_, end| *end > now);
        }
        if issued.len() < REMEMBERED_MAX {
            issued.insert((identity.clone(), peer), not_after);
        }
    }
}

fn make_private(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))
}
