//! How many connections each address has: nobody takes the room of everybody.
//!
//! A connection costs memory before its peer has proved anything, and an unfinished handshake a place among few. A pod
//! needs a connection or two; so one pod that opens thousands, by mistake or on purpose, is refused here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections of one address at once. Loopback has no such bound: there is nobody but ourselves and our tools.
pub(super) const CONNECTIONS_PER_PEER_MAX: usize = 256;

/// The addresses that are connected.
#[derive(Default)]
pub(super) struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// A connection's place; dropped with it.
pub(super) struct Place {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Peers {
    /// A place for one more connection of this address, if it may have one.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let peer = peer.to_canonical();
        let mut counts = self.lock();
        let count = counts.entry(peer).or_default();
        if *count >= CONNECTIONS_PER_PEER_MAX && !peer.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Place { peers: Arc::clone(self), peer })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.lock();
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let (peers, one, other) =
            (Arc::new(Peers::default()), IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut places: Vec<Place> = (0..CONNECTIONS_PER_PEER_MAX).map(|_| peers.enter(one).unwrap()).collect();
        assert!(peers.enter(one).is_none());
        assert!(peers.enter("::ffff:10.0.0.1".parse().unwrap()).is_none(), "the same address in other words");
        assert!(peers.enter(other).is_some());
        drop(places.pop());
        assert!(peers.enter(one).is_some());
        drop(places);
        assert!(peers.lock().is_empty(), "nothing is kept of who is gone");
        let local = IpAddr::from([127, 0, 0, 1]);
        let many: Vec<_> = (0..=CONNECTIONS_PER_PEER_MAX).map(|_| peers.enter(local)).collect();
        assert!(many.iter().all(Option::is_some));
    }
}
