//! The control plane's own serving certificate, made by its own authority and renewed at half of its life; and the root
//! certificates written where whoever distributes them finds them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use mesh_core::identity::SpiffeId;
use mesh_tls::key::WorkloadKey;
use mesh_tls::{Credentials, TrustBundle, WorkloadCertificate};

use super::{Ca, VALIDITY_MAX};

/// Pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(60);

/// Keeps [`Credentials`] supplied.
pub(crate) struct OwnCertificate {
    ca: Arc<Ca>,
    identity: SpiffeId,
    credentials: Arc<Credentials>,
}

impl OwnCertificate {
    /// Makes the first certificate.
    pub(crate) fn new(ca: Arc<Ca>, identity: SpiffeId) -> anyhow::Result<Self> {
        let roots = ca.authority().bundle().certificates().to_vec();
        let own = Self { ca, identity, credentials: Credentials::new(TrustBundle::new(roots)?) };
        own.renew(SystemTime::now())?;
        Ok(own)
    }

    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials)
    }

    /// Renews for ever; whoever drops the future ends it.
    pub(crate) async fn keep(self) {
        loop {
            tokio::time::sleep(self.pause(SystemTime::now())).await;
            if let Err(error) = self.renew(SystemTime::now()) {
                tracing::error!(%error, "the control plane's own certificate was not renewed; trying again in a minute");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    fn pause(&self, now: SystemTime) -> Duration {
        let Some(certificate) = self.credentials.certificate() else { return Duration::ZERO };
        let left = certificate.facts().not_after.duration_since(now).unwrap_or_default();
        // Never in a tight loop, whatever the clock does.
        (left / 2).max(Duration::from_secs(1))
    }

    fn renew(&self, now: SystemTime) -> anyhow::Result<()> {
        let key = WorkloadKey::generate()?;
        let request = key.signing_request(&self.identity)?;
        let issued = self.ca.authority().issue(request.as_bytes(), &self.identity, VALIDITY_MAX, now)?;
        let certificate = WorkloadCertificate::new(issued.chain, Arc::new(key))?;
        self.credentials.install(Arc::new(certificate));
        Ok(())
    }
}

/// Writes the trust bundle, whole or not at all, readable by everybody.
pub(crate) fn write_root(state: &Path, pem: &str) -> anyhow::Result<()> {
    let path = state.join("root-cert.pem");
    let beside = state.join(".root-cert.pem.new");
    std::fs::write(&beside, pem)
        .and_then(|()| std::fs::rename(&beside, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}
