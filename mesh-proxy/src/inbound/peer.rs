//! Who a client is: its verified identity for policy, its own description for telemetry.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;

use crate::http::hygiene::MESH_PEER;
use crate::telemetry::labels::{Protocol, Route};
use crate::telemetry::peer::{self, Peer};
use crate::telemetry::record::ClientFacts;

/// A client of this pod.
#[derive(Debug)]
pub(super) struct Client {
    /// Addresses and names.
    pub(super) facts: Rc<ClientFacts>,
    /// Who it proved to be.
    pub(super) verified: Option<mesh_tls::Peer>,
    described: RefCell<Arc<Peer>>,
    /// The labels of its requests, as long as configuration and description do not change.
    labels: RefCell<Option<(u64, Protocol, Arc<Route>)>>,
}

impl Client {
    /// A client, once its handshake (if any) is over.
    pub(super) fn new(mut facts: ClientFacts, verified: Option<mesh_tls::Peer>) -> Rc<Self> {
        let described = verified.as_ref().map_or_else(Peer::unknown, |peer| Peer::verified(&peer.identity));
        facts.principal = verified.as_ref().map(|peer| peer.identity.as_str().into());
        Rc::new(Self {
            facts: Rc::new(facts),
            verified,
            described: RefCell::new(Arc::new(described)),
            labels: RefCell::default(),
        })
    }

    /// Takes the client's description out of a head; only a verified peer's is read.
    pub(super) fn take_description(&self, headers: &mut HeaderMap) {
        if let (Some(description), Some(verified)) = (headers.remove(&MESH_PEER), &self.verified) {
            *self.described.borrow_mut() = Arc::new(peer::read(&description, &verified.identity));
            *self.labels.borrow_mut() = None;
        }
    }

    /// The labels of its requests, made where they are not known.
    pub(super) fn labels(&self, generation: u64, protocol: Protocol, make: impl FnOnce() -> Arc<Route>) -> Arc<Route> {
        let mut labels = self.labels.borrow_mut();
        match &*labels {
            Some((of, kind, route)) if *of == generation && *kind == protocol => Arc::clone(route),
            Some(_) | None => Arc::clone(&labels.insert((generation, protocol, make())).2),
        }
    }

    /// How it appears in telemetry.
    pub(super) fn peer(&self) -> Arc<Peer> {
        Arc::clone(&self.described.borrow())
    }
}
