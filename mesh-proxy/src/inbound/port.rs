//! What is known of the port that a connection was received on.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::authz::{Basis, Connection};
use mesh_core::config::{MtlsMode, Protocol};
use mesh_core::destination::INBOUND_SOURCE_V4;
use mesh_core::detect::{self, Memory};
use mesh_core::identity::SpiffeId;
use mesh_core::reason::Reason;

use crate::config::InboundView;
use crate::telemetry::record::Failure;
use crate::upstream::pool::Terms;
use crate::upstream::target::{Security, Speaks, Target};

/// The source address of the inbound proxy's connections to the application (IPv6; `mesh-init` adds it to lo).
const INBOUND_SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// How connections to the pod's own application are treated: it is near, and it may take its time to answer.
pub(super) const APPLICATION_TERMS: Terms = Terms {
    connect_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(60),
    requests_max: 0,
    life: None,
};

/// What decides about the bytes of a connection to this port.
pub(super) fn facts(own: &InboundView, port: u16, memory: Memory) -> detect::Port {
    let (protocol, mtls) = match own.inbound.ports.get(&port) {
        Some(known) => (known.protocol, known.mtls),
        None => (Protocol::Unspecified, own.inbound.mtls),
    };
    detect::Port { protocol, mtls, http_rules: own.policies.has_http_rules(port), memory }
}

/// Where the application listens: where the client was going, from an address that tells the rules of the pod's firewall
/// that the proxy has been here.
pub(super) fn application(original: SocketAddr, speaks: Speaks) -> Target {
    let source = match original {
        SocketAddr::V4(_) => IpAddr::V4(INBOUND_SOURCE_V4),
        SocketAddr::V6(_) => IpAddr::V6(INBOUND_SOURCE_V6),
    };
    Target { address: original, security: Security::Plain, speaks, source: Some(source) }
}

/// Whether a peer may go on by what is configured now: a mode that has become STRICT holds for open connections too.
pub(super) fn mode_allows(mtls: MtlsMode, principal: Option<&SpiffeId>) -> Result<(), Failure> {
    match (mtls, principal) {
        (MtlsMode::Strict, None) => Err(Reason::PlaintextRefused.into()),
        (MtlsMode::Strict, Some(_)) | (MtlsMode::Permissive | MtlsMode::Disable, _) => Ok(()),
    }
}

/// A connection as policies see it.
pub(super) fn facts_for_policy<'a>(
    principal: Option<&'a SpiffeId>,
    remote: SocketAddr,
    original: SocketAddr,
    sni: Option<&'a str>,
) -> Connection<'a> {
    Connection {
        identity: principal,
        source: remote.ip().to_canonical(),
        destination: original.ip(),
        port: original.port(),
        sni,
    }
}

/// The refusal of a policy. Which one is for the operator's log: the client learns nothing about what would pass.
pub(super) fn denied(basis: &Basis<'_>) -> Failure {
    Failure { inside: Some(basis.to_string()), ..Reason::PolicyDenied.into() }
}

/// `inbound|9080||`, as Envoy names it.
pub(super) fn cluster_name(port: u16) -> std::rc::Rc<str> {
    format!("inbound|{port}||").into()
}

/// The service that telemetry names for a port: host, name, namespace.
pub(super) fn service(own: &InboundView, port: u16) -> Option<(Arc<str>, Arc<str>, Arc<str>)> {
    let (name, _) = own.inbound.ports.get(&port)?.service.as_ref()?;
    let short = name.host.split('.').next().unwrap_or(&name.host);
    Some((Arc::clone(&name.host), short.into(), Arc::clone(&name.namespace)))
}
