//! The signal to stop, and how long an ending program may take.
//!
//! Kubernetes sends TERM and, after the grace period (30 s unless said otherwise), KILL. A program that ends between
//! the two loses nothing: connections that the kernel has already completed are taken and served, requests that were
//! read are answered, and only then the process ends with status 0.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long idle connections stay open after TERM, for requests that were on their way when it came.
pub(crate) const LINGER: Duration = Duration::from_millis(100);

/// The accept queue counts as empty when nothing came out of it for this long.
pub(crate) const QUEUE_QUIET: Duration = Duration::from_millis(20);

/// The accept queue is emptied for at most this long: new connections must not keep an ending program alive.
pub(crate) const QUEUE_MAX: Duration = Duration::from_secs(1);

/// What is in flight may take this long to finish; less than Kubernetes' default grace period.
pub(crate) const FINISH_MAX: Duration = Duration::from_secs(20);

/// A token that is cancelled by TERM or INT.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
