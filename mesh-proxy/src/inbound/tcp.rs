//! Bytes to the application, unread: layer-4 policy first, then a copy in both directions.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mesh_core::detect::First;
use mesh_core::reason::Reason;
use tokio::io::AsyncReadExt;

use super::connection::{Refusal, Unknown};
use super::peer::Client;
use super::{labels, port};
use crate::config::InboundView;
use crate::detect::first::FirstBytes;
use crate::detect::replayed::Replayed;
use crate::listen::local::Local;
use crate::telemetry::labels::Protocol;
use crate::telemetry::own::Direction;
use crate::telemetry::passed::Passed;
use crate::upstream::copy::both_ways;
use crate::upstream::dial::DialFault;
use crate::upstream::io::Io;
use crate::upstream::target::Speaks;

/// Idle time after which an opaque connection is closed (Istio's default).
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Passes a connection's bytes, if layer-4 policy allows.
pub(super) async fn serve(local: &Rc<Local>, client: &Rc<Client>, io: Io) -> Result<(), Refusal> {
    let view = local.worker.views.load();
    let own = view.inbound().cloned().ok_or(Reason::DiscoveryUnavailable)?;
    drop(view);
    let racing = Racing::begin(local, &own, Rc::clone(client)).await?;
    racing.pass(io).await;
    Ok(())
}

/// A connection to the application that was opened before it was known who speaks first.
pub(super) struct Racing {
    local: Rc<Local>,
    client: Rc<Client>,
    server: Io,
    greeting: BytesMut,
    passed: Passed,
}

/// Who spoke.
pub(super) enum Spoke {
    /// The client, this.
    Client(First),
    /// The server: the connection is opaque.
    Server(Box<Racing>),
}

impl Racing {
    /// Opens it, if layer-4 policy allows.
    pub(super) async fn begin(local: &Rc<Local>, own: &Arc<InboundView>, client: Rc<Client>) -> Result<Self, Refusal> {
        let view = local.worker.views.load();
        let facts = &client.facts;
        let principal = client.verified.as_ref().map(|peer| &peer.identity);
        let connection = port::facts_for_policy(principal, facts.remote, facts.original, facts.sni.as_deref());
        let route = local.tcp.route(labels::route(local, &view, own, &client, Protocol::Tcp));
        let mut passed = Passed::begin(local, &view, Direction::Inbound, &facts.clone(), route);
        passed.cluster = Some(port::cluster_name(facts.original.port()));
        let verdict = own.policies.connection(&connection);
        if !verdict.is_allowed() {
            let denied = port::denied(&verdict.basis);
            let detail = denied.inside.unwrap_or_default();
            passed.explain(denied.reason, Some(&detail));
            return Err(Refusal::new(denied.reason, detail).logged());
        }
        let target = port::application(facts.original, Speaks::Opaque);
        passed.upstream_host = Some(target.address);
        match local.pool.dial(&target, port::APPLICATION_TERMS.connect_timeout).await {
            Ok(dialled) => {
                passed.upstream_local = dialled.io.local_address();
                let (local, greeting) = (Rc::clone(local), BytesMut::new());
                Ok(Self { local, client, server: dialled.io, greeting, passed })
            }
            Err(fault) => {
                let reason = dial_reason(&fault);
                passed.explain(reason, Some(&fault.to_string()));
                Err(Refusal::new(reason, fault.to_string()).logged())
            }
        }
    }

    /// Waits for who speaks first. A server's greeting is held for `hold`, while what the client sends still decides.
    pub(super) async fn hold<S: Unknown>(
        mut self,
        bytes: &mut FirstBytes<S>,
        hold: Duration,
    ) -> Result<Spoke, Refusal> {
        let read = tokio::select! {
            biased;
            waited = bytes.wait() => {
                waited.map_err(|error| Refusal::new(Reason::ClientGone, error.to_string()))?;
                None
            }
            read = self.server.read_buf(&mut self.greeting) => Some(read),
        };
        match read {
            None => {}
            Some(Ok(0)) => return Ok(Spoke::Server(Box::new(self))),
            Some(Ok(_)) => {
                self.local.memories.spoke_first(self.client.facts.original, &self.greeting);
                if hold.is_zero() || tokio::time::timeout(hold, bytes.wait()).await.is_err() {
                    return Ok(Spoke::Server(Box::new(self)));
                }
            }
            Some(Err(error)) => return Err(Refusal::new(Reason::UpstreamReset, error.to_string())),
        }
        if bytes.is_empty() {
            // The client closed its half and waits for the server.
            return Ok(Spoke::Server(Box::new(self)));
        }
        match bytes.classify().await? {
            // Not TLS and not HTTP: the connection that is open already is right.
            First::Other => Ok(Spoke::Server(Box::new(self))),
            seen => {
                self.passed.forget();
                Ok(Spoke::Client(seen))
            }
        }
    }

    /// Passes the bytes to their end.
    pub(super) async fn pass(self, mut client: Io) {
        let Self { server, greeting, mut passed, .. } = self;
        passed.opened(&client);
        let mut server = Replayed::new(greeting, server);
        let copied = both_ways(&mut client, &mut server, Some(IDLE_TIMEOUT)).await;
        passed.ended(&copied);
    }
}

/// What to call a failed connection to the application.
pub(super) fn dial_reason(fault: &DialFault) -> Reason {
    match fault {
        DialFault::Source { .. } => Reason::Internal,
        DialFault::Connect(_) => Reason::ConnectFailed,
        DialFault::Timeout(_) => Reason::ConnectTimeout,
        DialFault::WrongPeer(_) => Reason::PeerIdentityMismatch,
        DialFault::Tls(_) => Reason::TlsFailed,
    }
}
