//! This workload's certificate: asked for, kept, renewed at half its life.
//!
//! The key is made here and never leaves. The signing request goes to mesh-control with the service account's token; the
//! certificate and key are saved in the pod's memory-backed volume, so that a restart of the container serves without the
//! control plane. While renewal fails, the last good certificate stays in use; trying goes on.

mod request;
mod roots;
mod saved;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use mesh_tls::{Credentials, TrustBundle, WorkloadCertificate};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::bootstrap::Bootstrap;
use crate::control_plane::ControlPlane;
use crate::ready::Ready;

/// How long certificates are asked for.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// Renewal comes at half the life, give or take this share of the life, so that proxies started together spread.
const JITTER_SHARE: f64 = 0.05;
/// The first pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest pause while there is no certificate: a pod is waiting for it.
const RETRY_MAX_WITHOUT: Duration = Duration::from_secs(5);
/// The longest pause while there is one.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often it is asked whether renewal is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// The shortest time between two certificates.
const RENEWAL_PAUSE_MIN: Duration = Duration::from_secs(5);
/// A saved certificate with less life left than this is not worth starting with.
const SAVED_LIFE_MIN: Duration = Duration::from_secs(10);

/// Keeps the process's certificate.
pub(crate) struct Certificates {
    bootstrap: Arc<Bootstrap>,
    credentials: Arc<Credentials>,
    ready: Ready,
    issued: watch::Sender<bool>,
    complained: AtomicBool,
}

impl Certificates {
    /// Prepares: reads the roots, and the saved certificate if it is still good.
    pub(crate) fn new(bootstrap: Arc<Bootstrap>, ready: Ready) -> Self {
        let credentials = Credentials::new(TrustBundle::nobody());
        let certificates = Self {
            bootstrap,
            credentials,
            ready,
            issued: watch::Sender::new(false),
            complained: AtomicBool::new(false),
        };
        certificates.start();
        certificates
    }

    fn start(&self) {
        if let Err(reason) = roots::refresh(&self.bootstrap.paths.roots, &self.credentials) {
            self.ready.certificate(false, Some(reason));
        }
        match saved::read(&self.bootstrap.paths.state, &self.bootstrap.identity) {
            Ok(Some(certificate)) if is_worth_using(&certificate, SystemTime::now()) => self.install(certificate),
            Ok(_) => {}
            Err(reason) => tracing::warn!(reason, "the saved certificate is ignored"),
        }
    }

    /// What handshakes use.
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials)
    }

    /// Becomes true with the first certificate.
    pub(crate) fn issued(&self) -> watch::Receiver<bool> {
        self.issued.subscribe()
    }

    /// Renews for as long as the process lives.
    pub(crate) async fn run(self, control: ControlPlane) {
        tokio::join!(self.renew(&control), roots::watch(&self.bootstrap.paths.roots, &self.credentials));
    }

    async fn renew(&self, control: &ControlPlane) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            if let Some(current) = self.credentials.certificate() {
                let random = fastrand::f64();
                // In steps, since the wall clock goes on while a suspended machine's timers do not.
                loop {
                    let pause = until_renewal(current.facts(), SystemTime::now(), random);
                    if pause.is_zero() {
                        break;
                    }
                    tokio::time::sleep(pause.min(LOOK_INTERVAL)).await;
                }
            }
            match request::certificate(&self.bootstrap, &self.credentials, control, VALIDITY).await {
                Ok(certificate) => {
                    backoff.reset();
                    self.save(&certificate);
                    self.install(certificate);
                    // Certificates of a few minutes are past half their (backdated) life at once.
                    tokio::time::sleep(RENEWAL_PAUSE_MIN).await;
                }
                Err(error) => {
                    let mut pause = backoff.next(fastrand::f64());
                    if self.credentials.certificate().is_none() {
                        pause = pause.min(RETRY_MAX_WITHOUT);
                    }
                    self.tell_failure(&error);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn tell_failure(&self, error: &request::RequestError) {
        let left = self.credentials.certificate().map(|held| held.facts().not_after);
        match left {
            // Said once: it is tried again every few seconds, and `ready --explain` tells the newest reason.
            None if !self.complained.swap(true, Relaxed) => {
                tracing::warn!(%error, "no certificate yet: this proxy is not ready");
            }
            None => tracing::debug!(%error, "still no certificate"),
            Some(not_after) => {
                let hours = not_after.duration_since(SystemTime::now()).unwrap_or_default().as_secs_f64() / 3600.0;
                tracing::warn!(%error, hours_left = format!("{hours:.1}"), "the certificate could not be renewed; the last good one stays");
            }
        }
        self.ready.certificate(false, Some(error.to_string()));
    }

    fn save(&self, certificate: &WorkloadCertificate) {
        if let Err(error) = saved::write(&self.bootstrap.paths.state, certificate) {
            tracing::warn!(%error, "the certificate could not be saved; a restart of this container would need the control plane");
        }
    }

    fn install(&self, certificate: WorkloadCertificate) {
        tracing::info!(identity = %certificate.identity(), serial = certificate.facts().serial, "certificate in use");
        self.credentials.install(Arc::new(certificate));
        self.ready.certificate(true, None);
        self.issued.send_replace(true);
    }
}

fn is_worth_using(certificate: &WorkloadCertificate, now: SystemTime) -> bool {
    certificate.is_valid_at(now) && certificate.is_valid_at(now + SAVED_LIFE_MIN)
}

/// How long until a certificate is to be renewed: at half its life, give or take [`JITTER_SHARE`]. `random` is in
/// `0.0..1.0`.
fn until_renewal(facts: &mesh_tls::leaf::Leaf, now: SystemTime, random: f64) -> Duration {
    let life = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
    let share = 0.5 + JITTER_SHARE * (2.0 * random - 1.0);
    let renew_at = facts.not_before + life.mul_f64(share);
    renew_at.duration_since(now).unwrap_or_default()
}
