//! Asking the control plane on demand: the data path's side.
//!
//! A key that is not held waits in the asking task for one shared subscription, at most [`RESOLVE_WAIT`], at most
//! [`WAITERS_MAX`] at once in the whole proxy. Keys that are held are answered from the view at once and never come
//! here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::keys::Key;
use super::view::{View, Views};

/// How long one asks at most.
pub(crate) const RESOLVE_WAIT: Duration = Duration::from_secs(2);
/// How many wait at once at most, in the whole proxy.
pub(crate) const WAITERS_MAX: usize = 1_024;

/// Why there is no answer. Either way the connection or request is refused with reason `discovery_unavailable`, never
/// sent in plaintext to an address that may be in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// No answer within [`RESOLVE_WAIT`].
    #[error("the control plane did not answer within {} s", RESOLVE_WAIT.as_secs())]
    TimedOut,
    /// [`WAITERS_MAX`] wait already.
    #[error("{WAITERS_MAX} connections already wait for the control plane")]
    TooManyWaiters,
    /// The proxy holds as many keys as it may, all in use.
    #[error("the proxy already holds {} addresses and names, all in use", super::keys::KEYS_MAX)]
    TooManyKeys,
    /// The proxy stops.
    #[error("the proxy is stopping")]
    Stopping,
}

/// Asks the control plane. Cheap to clone; for any thread.
#[derive(Clone)]
pub(crate) struct Discovery {
    views: Views,
    asks: mpsc::Sender<Ask>,
    waiters: Arc<Semaphore>,
}

/// A question to the one writer of configuration.
pub(super) struct Ask {
    pub(super) key: Key,
    /// Answered once the view holds the key and everything that it leads to.
    pub(super) answered: oneshot::Sender<Result<(), DiscoveryError>>,
}

impl Discovery {
    pub(super) fn new(views: Views) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, receiver) = mpsc::channel(WAITERS_MAX);
        (Self { views, asks, waiters: Arc::new(Semaphore::new(WAITERS_MAX)) }, receiver)
    }

    /// Waits until the view knows what is behind an address, and gives that view: `view.address(address)` is `Some` in
    /// it, with everything that the answer leads to.
    ///
    /// # Errors
    /// See [`DiscoveryError`].
    pub(crate) async fn resolve_address(&self, address: IpAddr) -> Result<Arc<View>, DiscoveryError> {
        self.resolve(Key::Address(address), |view| view.address(address).is_some()).await
    }

    /// Waits until the view knows what a host name (lower case, no port, no trailing dot) means on a port, and gives that
    /// view.
    ///
    /// # Errors
    /// See [`DiscoveryError`].
    pub(crate) async fn resolve_host(&self, name: &Arc<str>, port: u16) -> Result<Arc<View>, DiscoveryError> {
        self.resolve(Key::Host(Arc::clone(name), port), |view| view.host(name, port).is_some()).await
    }

    /// How many more may wait.
    #[cfg(test)]
    pub(super) fn waiters_left(&self) -> usize {
        self.waiters.available_permits()
    }

    async fn resolve(&self, key: Key, held: impl Fn(&View) -> bool) -> Result<Arc<View>, DiscoveryError> {
        let view = self.views.load();
        if held(&view) {
            return Ok(view);
        }
        let _waiter = self.waiters.try_acquire().map_err(|_| DiscoveryError::TooManyWaiters)?;
        let wait = async {
            loop {
                let (answered, answer) = oneshot::channel();
                let ask = Ask { key: key.clone(), answered };
                self.asks.send(ask).await.map_err(|_| DiscoveryError::Stopping)?;
                answer.await.unwrap_or(Err(DiscoveryError::Stopping))?;
                let view = self.views.load();
                // Between the answer and this look, a change may have taken the key out again; then ask again.
                if held(&view) {
                    return Ok(view);
                }
            }
        };
        tokio::time::timeout(RESOLVE_WAIT, wait).await.unwrap_or(Err(DiscoveryError::TimedOut))
    }
}
