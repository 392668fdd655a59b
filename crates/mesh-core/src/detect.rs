//! What is done with a connection's first bytes: the table of declared protocol, mutual TLS mode and what was seen.
//!
//! The server's declared protocol decides, never the peer's ALPN (architecture, section 5). The caller reads, waits and
//! asks again: [`First::Silent`] says that the wait has ended without a byte.

use std::time::Duration;

use crate::config::{MtlsMode, Protocol};
use crate::reason::Reason;
use crate::sniff;

/// How long silence is waited out where it can mean a server that speaks first.
pub const SILENCE: Duration = Duration::from_millis(50);

/// What has been seen of the client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum First {
    /// Nothing was looked at yet: the answer may be that nothing needs to be.
    Unread,
    /// No byte within [`SILENCE`].
    Silent,
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A ClientHello; whether it offers one of the mesh's ALPNs.
    Tls {
        /// The ClientHello offers one of the protocols by which a mesh's proxy says that it is one.
        mesh: bool,
    },
    /// Anything else.
    Other,
}

impl First {
    /// What sniffing found; `hello_mesh` is what the ClientHello offers, where there is one. `None`: read more.
    #[must_use]
    pub fn of(sniffed: sniff::First, hello_mesh: bool) -> Option<Self> {
        match sniffed {
            sniff::First::Http1 => Some(Self::Http1),
            sniff::First::Http2 => Some(Self::Http2),
            sniff::First::Tls => Some(Self::Tls { mesh: hello_mesh }),
            sniff::First::Other => Some(Self::Other),
            sniff::First::NeedMore => None,
        }
    }
}

/// What a port was seen to be before. It never decides what bytes are, only what silence means and whether to connect at
/// once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Nothing is known.
    #[default]
    Nothing,
    /// The server has answered with a parsed HTTP response's head.
    Http,
    /// The server has spoken first, with bytes that do not begin with `HTTP/`.
    ServerFirst,
}

/// Which HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Http {
    /// HTTP/1.0 or 1.1.
    One,
    /// HTTP/2.
    Two,
}

/// What is known of the receiving port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The declared protocol.
    pub protocol: Protocol,
    /// Mutual TLS on it.
    pub mtls: MtlsMode,
    /// Rules about requests apply to it ([`crate::authz::CompiledPolicies::has_http_rules`]).
    pub http_rules: bool,
    /// What it was seen to be.
    pub memory: Memory,
}

impl Port {
    /// Whether only HTTP is right on it.
    const fn must_be_http(&self) -> bool {
        self.protocol.is_http() || (self.http_rules && matches!(self.protocol, Protocol::Unspecified))
    }
}

/// What to do with a connection that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Read the first bytes and ask again. After [`SILENCE`] ask with [`First::Silent`]; if the answer is again this, wait
    /// until the deadline for first bytes (reason `client_timeout`).
    Read,
    /// Terminate the mesh's TLS, then ask [`inbound_inner`].
    TerminateMeshTls,
    /// Serve requests. The bytes read are replayed.
    Http(Http),
    /// Pass bytes unread, after layer-4 policy (without a principal where TLS was not terminated).
    Opaque,
    /// Connect to the application at once after layer-4 policy, but hold its bytes for [`SILENCE`], while a mesh
    /// ClientHello is still terminated. What the client sends first decides; if nothing, the connection is opaque.
    ConnectAndHold,
    /// Close, with this reason.
    Refused(Reason),
}

/// Decides about a connection as it arrives.
#[must_use]
pub fn inbound(port: &Port, first: First) -> Inbound {
    match (port.mtls, first) {
        (_, First::Unread) => Inbound::Read,
        (MtlsMode::Strict, First::Silent) => Inbound::Read,
        (MtlsMode::Strict | MtlsMode::Permissive, First::Tls { mesh: true }) => Inbound::TerminateMeshTls,
        (MtlsMode::Strict, First::Tls { mesh: false }) => Inbound::Refused(Reason::ForeignTlsRefused),
        (MtlsMode::Strict, _) => Inbound::Refused(Reason::PlaintextRefused),
        (MtlsMode::Permissive, First::Silent) if silence_is_opaque(port) => Inbound::ConnectAndHold,
        (MtlsMode::Permissive | MtlsMode::Disable, first) => plain(port, first),
    }
}

/// Decides about the bytes within the mesh's TLS that was terminated. Begin with [`First::Unread`]: opaque ports do not
/// wait. On a port of which nothing is declared, the application is connected to at once ([`Inbound::ConnectAndHold`]
/// without holding): who speaks first decides, there is no second wait.
#[must_use]
pub fn inbound_inner(port: &Port, first: First) -> Inbound {
    match (port.protocol, first) {
        (Protocol::Tcp | Protocol::Tls | Protocol::Udp, _) => Inbound::Opaque,
        (_, First::Unread) if port.must_be_http() => Inbound::Read,
        (Protocol::Unspecified, First::Unread) if port.memory == Memory::Http => Inbound::Read,
        (Protocol::Unspecified, First::Unread) => Inbound::ConnectAndHold,
        (_, first) => plain(port, first),
    }
}

/// Bytes that are not the mesh's TLS (any more).
fn plain(port: &Port, first: First) -> Inbound {
    let opaque_declared = matches!(port.protocol, Protocol::Tcp | Protocol::Tls | Protocol::Udp);
    match first {
        First::Unread => Inbound::Read,
        First::Silent if silence_is_opaque(port) => Inbound::Opaque,
        First::Silent => Inbound::Read,
        First::Tls { .. } if port.protocol.is_http() || port.http_rules => Inbound::Refused(Reason::TlsOnHttpPort),
        First::Tls { .. } => Inbound::Opaque,
        _ if opaque_declared => Inbound::Opaque,
        First::Http1 => Inbound::Http(Http::One),
        First::Http2 => Inbound::Http(Http::Two),
        // The parser says what is wrong with it (400).
        First::Other if port.protocol.is_http() => Inbound::Http(Http::One),
        First::Other if port.http_rules => Inbound::Refused(Reason::NotHttp),
        First::Other => Inbound::Opaque,
    }
}

/// Whether a client that says nothing may be waiting for the server to speak.
fn silence_is_opaque(port: &Port) -> bool {
    !port.must_be_http() && port.memory != Memory::Http
}

/// What to do with a connection that the pod's application makes to a known service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// Read the first bytes and ask again; after [`SILENCE`] ask with [`First::Silent`]. If the answer is again this, wait
    /// until the deadline for first bytes (reason `client_timeout`).
    Read,
    /// Serve requests.
    Http(Http),
    /// Pass TLS unread, routed by SNI.
    TlsBySni,
    /// Pass bytes unread, by TCP rules.
    Opaque,
    /// Close, with this reason.
    Refused(Reason),
}

/// Decides about a connection to a port with this declaration. Begin with [`First::Unread`].
#[must_use]
pub fn outbound(protocol: Protocol, memory: Memory, first: First) -> Outbound {
    match (protocol, first) {
        (Protocol::Tcp | Protocol::Udp, _) => Outbound::Opaque,
        // Only what a server-first port is known to be spares the wait.
        (Protocol::Unspecified, First::Unread) if memory == Memory::ServerFirst => Outbound::Opaque,
        (_, First::Unread) => Outbound::Read,
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, First::Silent) => Outbound::Read,
        (Protocol::Unspecified, First::Silent) if memory == Memory::Http => Outbound::Read,
        (Protocol::Unspecified | Protocol::Tls, First::Silent) => Outbound::Opaque,
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, First::Tls { .. }) => {
            Outbound::Refused(Reason::TlsOnHttpPort)
        }
        (Protocol::Unspecified | Protocol::Tls, First::Tls { .. }) => Outbound::TlsBySni,
        (Protocol::Tls, First::Http1 | First::Http2 | First::Other) => Outbound::Opaque,
        (_, First::Http1) => Outbound::Http(Http::One),
        (_, First::Http2) => Outbound::Http(Http::Two),
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, First::Other) => Outbound::Http(Http::One),
        (Protocol::Unspecified, First::Other) => Outbound::Opaque,
    }
}

#[cfg(test)]
mod tests;
