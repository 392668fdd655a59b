//! Where requests and connections to a host go: VirtualServices, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use super::{HeaderMatch, HostPattern, Origin, QueryMatch, ServiceName, StringMatch};

/// The routes of one host, as seen from one client namespace.
///
/// No rule matches: HTTP answers 404 (flag NR). A service without a VirtualService has a table with no rules at all and
/// `implicit` set: requests go to the service itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    /// The host that it routes.
    pub name: ServiceName,
    /// The hosts that its VirtualService names.
    pub hosts: Vec<HostPattern>,
    /// The VirtualService that won, if there is one.
    pub origin: Option<Origin>,
    /// Where there are no rules for a protocol: go to the service itself.
    pub implicit: bool,
    /// HTTP rules; the first that matches decides.
    pub http: Vec<HttpRule>,
    /// TLS rules, by SNI.
    pub tls: Vec<TlsRule>,
    /// TCP rules.
    pub tcp: Vec<TcpRule>,
}

/// One entry of `spec.http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// The rule's name, or its index as text.
    pub name: String,
    /// One of these must match; none written means that everything matches.
    pub matches: Vec<HttpMatch>,
    /// What happens.
    pub action: HttpAction,
    /// Changes of the request before it is forwarded, if the action routes.
    pub rewrite: Option<Rewrite>,
    /// Header changes for every destination of the rule.
    pub headers: HeaderEdits,
    /// Whole time, retries included; `None` is without limit.
    pub timeout: Option<Duration>,
    /// Retries.
    pub retry: RetryPolicy,
    /// Injected faults.
    pub fault: Option<Fault>,
}

/// One entry of `match`; all its conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMatch {
    /// Its name, for telemetry.
    pub name: String,
    /// On the path, without query.
    pub path: Option<StringMatch>,
    /// The path is compared without case (exact and prefix only).
    pub ignore_case: bool,
    /// On the method.
    pub method: Option<StringMatch>,
    /// On the authority, as sent.
    pub authority: Option<StringMatch>,
    /// On the scheme.
    pub scheme: Option<StringMatch>,
    /// On headers, `withoutHeaders` included.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters.
    pub query: Vec<QueryMatch>,
    /// The service port that the client dialled.
    pub port: Option<u16>,
    /// Labels that the client's workload must have; the proxy compares them once, when it takes the table in.
    pub source_labels: BTreeMap<String, String>,
    /// Something in the match is not built: it never matches. Says what.
    pub unsupported: Option<String>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAction {
    /// To one of these, by weight. Never empty; a single destination is taken whatever its weight.
    Route(Vec<WeightedDestination>),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer directly.
    Direct(DirectResponse),
    /// The rule is broken or not built: answer 500 with this reason, never fall through.
    Invalid(String),
}

/// A destination and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedDestination {
    /// Where.
    pub destination: Destination,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// Header changes for this destination.
    pub headers: HeaderEdits,
}

/// A service, perhaps one subset of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// Which service. A name that does not exist stays as written: requests get 503, flag NC, `destination_missing`.
    pub service: ServiceName,
    /// Which subset.
    pub subset: Option<String>,
    /// Which port; `None`: the service's single port, else the port that the client dialled.
    pub port: Option<u16>,
}

/// Header changes: `set`, then `add`, then `remove`. Names in lower case; hop-by-hop, pseudo and identity headers are not
/// among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replaced or added in the request.
    pub request_set: Vec<(String, String)>,
    /// Appended in the request.
    pub request_add: Vec<(String, String)>,
    /// Removed from the request.
    pub request_remove: Vec<String>,
    /// Replaced or added in the response.
    pub response_set: Vec<(String, String)>,
    /// Appended in the response.
    pub response_add: Vec<(String, String)>,
    /// Removed from the response.
    pub response_remove: Vec<String>,
}

/// `rewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Replaces the matched prefix, or the whole path where the match is exact or absent.
    pub uri: Option<String>,
    /// Replaces what the pattern matches; `\1` … refer to groups.
    pub uri_regex: Option<(String, String)>,
    /// Replaces the authority.
    pub authority: Option<String>,
}

/// `redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// New path.
    pub uri: Option<String>,
    /// Replaces the matched prefix.
    pub prefix: Option<String>,
    /// New authority.
    pub authority: Option<String>,
    /// New scheme.
    pub scheme: Option<String>,
    /// New port.
    pub port: Option<RedirectPort>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// The port of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    /// This one.
    Number(u16),
    /// 80 or 443, by scheme (so none is written).
    ProtocolDefault,
    /// That of the request.
    Request,
}

/// `directResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// HTTP status.
    pub status: u16,
    /// Body, at most 1 MiB.
    pub body: Vec<u8>,
}

/// Retries of a rule. The default retries only what is provably unsent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts beside the first; 0 is none.
    pub attempts: u32,
    /// Time per attempt; `None`: the rule's timeout.
    pub per_try_timeout: Option<Duration>,
    /// What is retried beside what is provably unsent.
    pub on: RetryOn,
    /// First pause; doubled each time up to ten times, with jitter. Default 25 ms.
    pub backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 2, per_try_timeout: None, on: RetryOn::default(), backoff: Duration::from_millis(25) }
    }
}

/// Written `retryOn` conditions. What cannot be proven unsent acts on idempotent methods, or with `Idempotency-Key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// `5xx`.
    pub server_error: bool,
    /// `gateway-error`: 502, 503, 504.
    pub gateway_error: bool,
    /// `reset`, `reset-before-request`.
    pub reset: bool,
    /// `connect-failure`: always on (provably unsent).
    pub connect_failure: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// Numbers in `retryOn`, and `retriable-status-codes`.
    pub statuses: Vec<u16>,
    /// gRPC statuses: `cancelled` 1, `deadline-exceeded` 4, `resource-exhausted` 8, `internal` 13, `unavailable` 14.
    pub grpc: Vec<u8>,
}

/// Faults, drawn independently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Wait before forwarding.
    pub delay: Option<Delay>,
    /// Answer instead of forwarding.
    pub abort: Option<Abort>,
}

/// A delay for a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub duration: Duration,
    /// For how many.
    pub percent: Percent,
}

/// An abort for a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// HTTP status (200 with `grpc` set).
    pub status: u16,
    /// gRPC status instead, if asked for.
    pub grpc: Option<u8>,
    /// For how many.
    pub percent: Percent,
}

/// A share, in parts per million (Istio's `Percent` is a double of percent; 0.0001 % is its finest step here).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Percent(pub u32);

/// One entry of `spec.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRule {
    /// One of these must match.
    pub matches: Vec<L4Match>,
    /// By weight.
    pub destinations: Vec<WeightedDestination>,
}

/// One entry of `spec.tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpRule {
    /// One of these must match; none written means that everything matches.
    pub matches: Vec<L4Match>,
    /// By weight.
    pub destinations: Vec<WeightedDestination>,
}

/// Conditions on a connection; all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L4Match {
    /// One of these must match the SNI (TLS rules only).
    pub sni: Vec<HostPattern>,
    /// One of these must hold the original destination.
    pub destination_subnets: Vec<IpNet>,
    /// The port that the client dialled.
    pub port: Option<u16>,
    /// Labels that the client's workload must have.
    pub source_labels: BTreeMap<String, String>,
    /// Something in the match is not built: it never matches. Says what.
    pub unsupported: Option<String>,
}
