//! The catalogue of failures that the mesh makes itself.
//!
//! Every answer that is ours and not the application's has a reason: a stable code, whose fault it is, what it means and
//! what to run next. The same words stand in the `mesh-reason` header, in access logs, in the metric label and in
//! `meshctl why`. Envoy's response flags are emitted beside it, for the tools that read them.

use std::fmt;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Responsible {
    /// Whoever sent the request.
    Client,
    /// The mesh's proxy, on the client's or the server's side.
    Proxy,
    /// What lies between.
    Network,
    /// The upstream's side: its pod, its proxy, its certificate.
    Upstream,
    /// The application's process.
    Application,
    /// Somebody's configuration object.
    Configuration,
    /// mesh-control.
    ControlPlane,
    /// A policy did what it was written for.
    Policy,
}

impl Responsible {
    /// The word in logs, metrics and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Network => "network",
            Self::Upstream => "upstream",
            Self::Application => "application",
            Self::Configuration => "config",
            Self::ControlPlane => "control_plane",
            Self::Policy => "policy",
        }
    }
}

/// What a reason means, in all the places where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Stable, snake case.
    pub code: &'static str,
    /// Whose fault it is.
    pub responsible: Responsible,
    /// Envoy's response flag; `-` where it has none.
    pub flag: &'static str,
    /// HTTP status of the answer that we make.
    pub http_status: u16,
    /// gRPC status of the answer that we make.
    pub grpc_status: u8,
    /// What happened, in one line.
    pub cause: &'static str,
    /// What to run or look at next.
    pub next: &'static str,
}

macro_rules! catalogue {
    ($($(#[doc = $doc:literal])+ $variant:ident => $code:literal $responsible:ident $flag:literal $http:literal $grpc:literal
        $cause:literal, $next:literal;)+) => {
        /// Why the mesh itself ended a request or a connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Everything that is known about the reason.
            #[must_use]
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry {
                        code: $code, responsible: Responsible::$responsible, flag: $flag, http_status: $http,
                        grpc_status: $grpc, cause: $cause, next: $next,
                    },)+
                }
            }

            /// The reason with this code.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

// The order is that of a connection's way: destination, detection, policy, route, upstream, answer.
catalogue! {
    /// REGISTRY_ONLY, and nobody described the destination.
    RegistryOnly => "registry_only" Configuration "-" 502 14
        "the destination is not in the registry and outboundTrafficPolicy is REGISTRY_ONLY",
        "add a ServiceEntry for the destination, or set outboundTrafficPolicy.mode to ALLOW_ANY";
    /// The destination exists, but is not visible to the client's namespace.
    Hidden => "hidden" Configuration "-" 502 14
        "the destination exists but is not visible from this namespace (exportTo or Sidecar)",
        "meshctl proxy-config services POD; check exportTo of the service and the namespace's Sidecar";
    /// The control plane did not answer what an address is.
    DiscoveryUnavailable => "discovery_unavailable" ControlPlane "-" 503 14
        "the control plane did not say in time what this mesh address is; it is never tried in plaintext",
        "meshctl proxy-status; check that mesh-control is running";
    /// The name could not be resolved.
    DnsFailed => "dns_failed" Network "DF" 503 14
        "the destination's name could not be resolved",
        "resolve the name from the pod; check the ServiceEntry's endpoints";
    /// The original destination of an inbound connection is not the pod's.
    NotOwnAddress => "not_own_address" Client "-" 502 14
        "the connection's original destination is not an address of this pod",
        "look for stale addresses or routing rules at the client";
    /// The connection was dialled to one of the proxy's own ports.
    ProxyPort => "proxy_port" Client "-" 502 14
        "the connection's destination is a port of the proxy itself",
        "dial the application's port";
    /// Plaintext where STRICT asks for mutual TLS.
    PlaintextRefused => "plaintext_refused" Policy "-" 403 7
        "plaintext was refused: the port's PeerAuthentication is STRICT",
        "meshctl sandbox get peerauthentications; inject a sidecar into the client";
    /// TLS that is not the mesh's, where STRICT asks for the mesh's.
    ForeignTlsRefused => "foreign_tls_refused" Policy "-" 403 7
        "TLS that is not the mesh's was refused: the port's PeerAuthentication is STRICT",
        "inject a sidecar into the client, or set the port to PERMISSIVE";
    /// Unread TLS on a port whose requests must be readable.
    TlsOnHttpPort => "tls_on_http_port" Client "-" 400 3
        "TLS of the application arrived on a port that is declared HTTP or has HTTP rules",
        "name the service's port https or tls, or send plaintext and let the mesh encrypt";
    /// Not HTTP, on a port that has HTTP rules.
    NotHttp => "not_http" Client "-" 400 3
        "the connection does not speak HTTP, and rules about requests apply to the port",
        "declare the port's protocol (appProtocol: tcp), or remove the HTTP rules from it";
    /// A TLS setting that is not built.
    UnsupportedTls => "unsupported_tls" Configuration "-" 503 14
        "the destination asks for a TLS setting that is not built",
        "meshctl sandbox status; see the DestinationRule's problems";
    /// The client did not prove an identity that we accept.
    PeerTlsFailed => "peer_tls_failed" Client "-" 403 16
        "the TLS handshake with the client failed",
        "meshctl proxy-config secrets POD at the client; check certificates and clocks";
    /// First bytes or head did not come in time.
    ClientTimeout => "client_timeout" Client "-" 408 4
        "the client did not send its first bytes or the request's head in time",
        "check the client, and the network between";
    /// Not a valid request.
    BadRequest => "bad_request" Client "DPE" 400 3
        "the request is not valid HTTP, or its target is refused (NUL, fragment)",
        "look at the request that the client sent";
    /// The head is too large.
    HeaderTooLarge => "header_too_large" Client "DPE" 431 8
        "the request's head is larger than the limit",
        "make cookies or headers smaller";
    /// The client ended the request.
    ClientGone => "client_gone" Client "DC" 499 1
        "the client ended the request before the answer was complete",
        "check the client's timeout";
    /// An AuthorizationPolicy denied it.
    PolicyDenied => "policy_denied" Policy "-" 403 7
        "an AuthorizationPolicy denied the request, or none of the ALLOW policies matched",
        "the access log names the policy and rule; meshctl sandbox get authorizationpolicies";
    /// No rule of the VirtualService matches.
    NoRoute => "no_route" Configuration "NR" 404 12
        "no rule of the route matches the request",
        "meshctl proxy-config routes POD; compare the VirtualService's matches with the request";
    /// The route's rule is broken.
    InvalidRule => "invalid_rule" Configuration "-" 500 13
        "the matching rule is broken or asks for something that is not built",
        "meshctl sandbox status; see the VirtualService's problems";
    /// The route leads to something that does not exist.
    DestinationMissing => "destination_missing" Configuration "NC" 503 14
        "the route names a service, port or subset that does not exist",
        "meshctl sandbox status; create the service, or the subset in a DestinationRule";
    /// Nothing runs behind the service.
    NoEndpoints => "no_endpoints" Upstream "UH" 503 14
        "the service has no endpoints",
        "meshctl proxy-config endpoints POD; check the Service's selector and its pods";
    /// Something runs, but nothing of it should be used.
    NoHealthyUpstream => "no_healthy_upstream" Upstream "UH" 503 14
        "all endpoints of the service are unhealthy or ejected",
        "meshctl proxy-config endpoints POD; check readiness probes and outlier detection";
    /// A circuit limit.
    Overflow => "overflow" Configuration "UO" 503 14
        "a circuit limit of the destination was reached",
        "raise connectionPool limits in the DestinationRule, or add replicas";
    /// The proxy's own limits.
    ProxyOverloaded => "proxy_overloaded" Proxy "UO" 503 14
        "a limit of the proxy itself was reached",
        "check the proxy's metrics and its CPU and memory limits";
    /// Nobody listens.
    ConnectFailed => "connect_failed" Upstream "UF" 503 14
        "the connection to the endpoint was refused or could not be made",
        "check that the application listens on the port, and network policies";
    /// No answer to the connection attempt.
    ConnectTimeout => "connect_timeout" Network "UF" 503 14
        "the connection to the endpoint was not made in time",
        "check network policies and the endpoint's node";
    /// The handshake with the endpoint failed.
    TlsFailed => "tls_failed" Upstream "UF" 503 14
        "the TLS handshake with the endpoint failed",
        "meshctl proxy-config secrets POD on both sides; check certificates and clocks";
    /// The endpoint is not who configuration says.
    PeerIdentityMismatch => "peer_identity_mismatch" Upstream "UF" 503 14
        "the endpoint's certificate has another identity than configuration names",
        "meshctl proxy-config endpoints POD; the address may have been reused by another pod";
    /// The endpoint is meshed, but nobody knows as whom.
    IdentityUnknown => "identity_unknown" ControlPlane "UF" 503 14
        "the endpoint takes mesh TLS, but its identity is not known, so no handshake could prove it",
        "meshctl proxy-config endpoints POD; check the endpoint's service account";
    /// Our own certificate is missing or has expired.
    NoCertificate => "no_certificate" ControlPlane "UF" 503 14
        "this proxy has no valid certificate",
        "meshctl proxy-status; check that mesh-control is running and the pod's token";
    /// Provably not processed, so safe to send again.
    Unsent => "unsent" Application "UF" 503 14
        "the request provably did not reach the application",
        "it is safe to repeat; check why the application does not accept";
    /// The upstream ended the connection before its answer.
    UpstreamReset => "upstream_reset" Upstream "UC" 503 14
        "the upstream ended the connection before it answered",
        "check the application's log and whether it restarted";
    /// The upstream ended the connection within its answer.
    ResponseTruncated => "response_truncated" Upstream "UC" 502 14
        "the upstream ended the connection before its answer was complete",
        "check the application's log";
    /// The upstream's bytes are not HTTP.
    BadResponse => "bad_response" Application "UPE" 502 13
        "the upstream's answer is not valid HTTP",
        "check that the port's declared protocol is what the application speaks";
    /// The upstream's head is too large.
    ResponseTooLarge => "response_too_large" Application "UPE" 502 8
        "the head of the upstream's answer is larger than the limit",
        "make the answer's headers smaller";
    /// The route's timeout.
    RequestTimeout => "request_timeout" Upstream "UT" 504 4
        "the answer did not come within the route's timeout",
        "raise the VirtualService's timeout, or look for what makes the upstream slow";
    /// A connection on which nothing happened.
    IdleTimeout => "idle_timeout" Client "SI" 408 4
        "nothing was sent in either direction for the idle timeout",
        "raise connectionPool.tcp.idleTimeout, or send keep-alives";
    /// A connection that lived too long.
    DurationTimeout => "duration_timeout" Configuration "DT" 408 4
        "the connection reached maxConnectionDuration",
        "raise connectionPool.tcp.maxConnectionDuration";
    /// An injected abort.
    FaultInjected => "fault_injected" Configuration "FI" 503 14
        "the VirtualService injects this failure",
        "remove fault.abort from the VirtualService";
    /// An injected delay.
    DelayInjected => "delay_injected" Configuration "DI" 200 0
        "the VirtualService delays this request",
        "remove fault.delay from the VirtualService";
    /// The pod ends.
    Draining => "draining" Proxy "UF" 503 14
        "the proxy is ending and takes no new work",
        "nothing, if the pod is being replaced";
    /// A bug of ours.
    Internal => "internal" Proxy "-" 500 13
        "the proxy failed; this is a bug",
        "please report it with the proxy's log";
}

impl Reason {
    /// Stable, snake case: header, log, metric, command line.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.entry().code
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn responsible(self) -> Responsible {
        self.entry().responsible
    }

    /// Envoy's response flag; `-` where it has none.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        self.entry().flag
    }

    /// HTTP status of the answer that we make.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.entry().http_status
    }

    /// gRPC status of the answer that we make.
    #[must_use]
    pub const fn grpc_status(self) -> u8 {
        self.entry().grpc_status
    }

    /// What happened, in one line.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        self.entry().cause
    }

    /// What to run or look at next.
    #[must_use]
    pub const fn next(self) -> &'static str {
        self.entry().next
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_words_and_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            let entry = reason.entry();
            assert!(entry.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", entry.code);
            assert!(seen.insert(entry.code), "{} twice", entry.code);
            assert_eq!(Reason::from_code(entry.code), Some(*reason));
            assert!((200..600).contains(&entry.http_status) && entry.grpc_status <= 16);
            assert!(!entry.cause.is_empty() && !entry.next.is_empty() && !entry.cause.ends_with('.'));
        }
    }
}
