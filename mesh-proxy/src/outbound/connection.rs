//! One connection of the pod's application, from its first byte to the choice of what serves it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use mesh_core::detect::{self, First, Outbound};
use mesh_core::reason::Reason;
use tokio::net::TcpStream;

use super::place::{self, Place};
use super::{http, tcp};
use crate::config::View;
use crate::detect::first::{FirstBytes, FirstFault};
use crate::listen::local::Local;
use crate::listen::socket;
use crate::telemetry::own::Direction;
use crate::telemetry::record::{ClientFacts, Failure};
use crate::upstream::io::{Io, Transport};

/// Serves one connection that the application makes.
pub(crate) async fn serve(local: Rc<Local>, stream: TcpStream, remote: SocketAddr) {
    let remote = socket::canonical(remote);
    let Some(original) = socket::original_destination(&stream) else {
        // Somebody in the pod dialled 15001 itself.
        return local.refuse(Direction::Outbound, Reason::ProxyPort, remote, None, "the connection was not redirected");
    };
    serve_meant_for(local, stream, remote, original).await;
}

/// Serves a connection of which it is known where it was going.
pub(crate) async fn serve_meant_for(local: Rc<Local>, stream: TcpStream, remote: SocketAddr, original: SocketAddr) {
    if let Err(failure) = admit(&local, stream, remote, original).await {
        let detail = failure.detail.unwrap_or_default();
        local.refuse(Direction::Outbound, failure.reason, remote, Some(original), &detail);
    }
}

async fn admit(local: &Rc<Local>, stream: TcpStream, remote: SocketAddr, original: SocketAddr) -> Result<(), Failure> {
    let client = ClientFacts { remote, original, sni: None, principal: None };
    let mut bytes = FirstBytes::new(stream);
    let (view, place) = match place::find(local, original).await {
        Ok(found) => found,
        // A client that speaks HTTP is told why.
        Err(failure) => return explain(local, client, bytes, failure).await,
    };
    let mut seen = First::Unread;
    loop {
        match detect::outbound(place.protocol, local.memories.get(original), seen) {
            Outbound::Read => seen = bytes.read(seen).await.map_err(first_failure)?,
            Outbound::Http(version) => {
                let io = Io::new(Transport::Accepted(bytes.into_replayed()));
                http::serve(local, client, place, io, version).await;
                return Ok(());
            }
            Outbound::TlsBySni => {
                let sni = bytes.hello.as_ref().and_then(|hello| hello.sni.as_deref()).map(Into::into);
                return pass(local, view, ClientFacts { sni, ..client }, place, bytes).await;
            }
            Outbound::Opaque => return pass(local, view, client, place, bytes).await,
            Outbound::Refused(reason) => return Err(reason.into()),
        }
    }
}

async fn pass(
    local: &Rc<Local>,
    view: Arc<View>,
    client: ClientFacts,
    place: Place,
    bytes: FirstBytes<TcpStream>,
) -> Result<(), Failure> {
    let io = Io::new(Transport::Accepted(bytes.into_replayed()));
    tcp::serve(local, view, Rc::new(client), &place, io).await
}

/// Tells a refused client why, if it speaks HTTP; everything else is closed.
async fn explain(
    local: &Rc<Local>,
    client: ClientFacts,
    mut bytes: FirstBytes<TcpStream>,
    failure: Failure,
) -> Result<(), Failure> {
    if failure.reason == Reason::ProxyPort {
        return Err(failure);
    }
    let seen = bytes.read(First::Unread).await.map_err(first_failure)?;
    match detect::outbound(mesh_core::config::Protocol::Unspecified, detect::Memory::Nothing, seen) {
        Outbound::Http(version) => {
            let io = Io::new(Transport::Accepted(bytes.into_replayed()));
            http::refuse_all(local, client, failure, io, version).await;
            Ok(())
        }
        Outbound::Read | Outbound::TlsBySni | Outbound::Opaque | Outbound::Refused(_) => Err(failure),
    }
}

fn first_failure(fault: FirstFault) -> Failure {
    let reason = match fault {
        FirstFault::Timeout => Reason::ClientTimeout,
        FirstFault::Closed | FirstFault::Io(_) => Reason::ClientGone,
        FirstFault::Tls(_) => Reason::BadRequest,
    };
    Failure::new(reason, fault.to_string())
}
