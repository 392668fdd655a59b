//! Services, and how a client of one namespace treats them: DestinationRules, merged per port and subset.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Origin, ServiceName};

/// A service as seen from one client namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The object that defines it.
    pub origin: Origin,
    /// The DestinationRules that shaped it, in the order in which they were merged.
    pub rules: Vec<Origin>,
    /// Its own addresses; none for headless services and for hosts without addresses.
    pub addresses: Vec<IpAddr>,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Outside the mesh (ServiceEntry MESH_EXTERNAL): no mesh TLS, telemetry destination unknown.
    pub external: bool,
    /// Its ports, by number.
    pub ports: BTreeMap<u16, ServicePort>,
    /// Its subsets, by name.
    pub subsets: BTreeMap<String, Subset>,
}

/// How the endpoints of a service are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// By the endpoints collection.
    Endpoints,
    /// Headless: clients dial workloads themselves; by name, the endpoints collection.
    Headless,
    /// The address that the client dialled (ServiceEntry NONE, `loadBalancer: PASSTHROUGH`).
    OriginalDestination,
    /// The endpoints collection, whose members have hostnames that the proxy resolves (ServiceEntry DNS).
    Dns,
    /// ExternalName: the proxy passes to the name's addresses.
    ExternalName(String),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its number.
    pub number: u16,
    /// Its name; may be empty.
    pub name: String,
    /// The declared protocol.
    pub protocol: Protocol,
    /// How this port is treated when no subset is named.
    pub policy: TrafficPolicy,
}

/// What a port's declaration says it speaks (`appProtocol`, else the port name's prefix, else well-known TCP ports).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Nothing is declared: learned, then sniffed.
    #[default]
    Unspecified,
    /// HTTP/1.1 (a client that speaks HTTP/2 with prior knowledge is served as such).
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC: HTTP/2, with gRPC's status in telemetry.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS of the application, routed by SNI, not terminated.
    Tls,
    /// UDP: not captured.
    Udp,
}

impl Protocol {
    /// Whether requests are parsed on such a port.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// An endpoint belongs to it if it has all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Per service port, the merged policy (service port's number → policy). Complete: every port is there.
    pub policies: BTreeMap<u16, TrafficPolicy>,
}

/// How clients treat a port (or a subset's port).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// Which endpoint gets a request.
    pub balancer: Balancer,
    /// Limits and timeouts of connections.
    pub pool: ConnectionPool,
    /// When an endpoint is left out for a while.
    pub outlier: Option<OutlierDetection>,
    /// TLS towards the endpoints.
    pub tls: ClientTls,
    /// Locality priorities; they act only together with `outlier` (as in Istio).
    pub locality: LocalityFailover,
    /// Percentage of active requests that may be retries; at least `retry_min_concurrency` may always be.
    pub retry_budget_percent: u32,
    /// Retries that may always be in flight.
    pub retry_min_concurrency: u32,
}

/// Load balancing (`trafficPolicy.loadBalancer`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// Power of two choices on active requests (Istio's default).
    #[default]
    LeastRequest,
    /// In turn, weighted.
    RoundRobin,
    /// At random, weighted.
    Random,
    /// The address that the client dialled.
    Passthrough,
    /// By a hash of something in the request.
    ConsistentHash(HashSpec),
}

/// Consistent hashing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashSpec {
    /// What is hashed.
    pub key: HashKey,
    /// Where the hash leads.
    pub table: HashTable,
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header's value; name in lower case.
    Header(String),
    /// A cookie; made and set with this lifetime and path where it is absent and `ttl` is given.
    Cookie {
        /// Its name.
        name: String,
        /// Its path; empty is none.
        path: String,
        /// Its lifetime; zero is a session cookie; `None`: it is never set by the proxy.
        ttl: Option<Duration>,
    },
    /// The client's address.
    SourceIp,
    /// A query parameter.
    Query(String),
}

/// The table that a hash is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    /// Ring with at least this many points (default 1024).
    Ring(u64),
    /// Maglev table of this (prime) size (default 65537).
    Maglev(u64),
}

/// Connections towards a service (`trafficPolicy.connectionPool`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionPool {
    /// Default 10 s.
    pub connect_timeout: Duration,
    /// Idle time after which a TCP connection is closed; zero is never. Default 1 h.
    pub tcp_idle_timeout: Duration,
    /// Longest life of a connection; `None` is without end.
    pub max_connection_duration: Option<Duration>,
    /// Keep-alive probes of TCP, if asked for.
    pub keepalive: Option<TcpKeepalive>,
    /// Idle time after which a pooled HTTP connection is closed. Default 1 h.
    pub http_idle_timeout: Duration,
    /// Requests that one connection may carry; 0 is without limit.
    pub requests_per_connection_max: u32,
    /// Speak HTTP/2 to endpoints whatever the client speaks (`h2UpgradePolicy: UPGRADE`).
    pub upgrade_to_http2: bool,
    /// Speak what the client speaks (`useClientProtocol`).
    pub use_client_protocol: bool,
    /// Circuit limits, shared by all workers of a proxy.
    pub limits: CircuitLimits,
}

impl Default for ConnectionPool {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            connect_timeout: Duration::from_secs(10),
            tcp_idle_timeout: HOUR,
            max_connection_duration: None,
            keepalive: None,
            http_idle_timeout: HOUR,
            requests_per_connection_max: 0,
            upgrade_to_http2: false,
            use_client_protocol: false,
            limits: CircuitLimits::default(),
        }
    }
}

/// Probes of an idle TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Unanswered probes until the connection is given up; 0 is the system's default.
    pub probes: u32,
    /// Idle time until the first probe; zero is the system's default.
    pub time: Duration,
    /// Time between probes; zero is the system's default.
    pub interval: Duration,
}

/// Circuit limits per destination; overflow is refused with 503 and flag UO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitLimits {
    /// Connections at once.
    pub connections_max: u32,
    /// Requests that wait for a connection.
    pub pending_max: u32,
    /// Requests at once.
    pub requests_max: u32,
    /// Retries at once.
    pub retries_max: u32,
}

impl Default for CircuitLimits {
    fn default() -> Self {
        Self { connections_max: u32::MAX, pending_max: u32::MAX, requests_max: u32::MAX, retries_max: u32::MAX }
    }
}

/// Outlier detection (`trafficPolicy.outlierDetection`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// 5xx answers (and local failures, unless split) in a row until ejection; 0 is off. Default 5.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 in a row until ejection; 0 is off. Default 0.
    pub consecutive_gateway_errors: u32,
    /// Local failures (connect, timeout, reset) in a row until ejection, where `split_local_errors`. Default 5.
    pub consecutive_local_failures: u32,
    /// Count local failures apart.
    pub split_local_errors: bool,
    /// Time between sweeps. Default 10 s.
    pub interval: Duration,
    /// First ejection time; the n-th is n times as long. Default 30 s.
    pub base_ejection_time: Duration,
    /// Most endpoints ejected at once, percent (at least one may be). Default 10.
    pub max_ejection_percent: u32,
    /// Below this share of healthy endpoints, ejection is disregarded, percent. Default 0.
    pub min_health_percent: u32,
}

/// TLS towards endpoints (`trafficPolicy.tls`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientTls {
    /// Mesh mutual TLS to endpoints that are meshed, plaintext to the others.
    #[default]
    Auto,
    /// Plaintext.
    Disable,
    /// Mesh mutual TLS to every endpoint; those that have no known identity are refused unless `subject_alt_names`.
    Mutual {
        /// Identities that are accepted beside the endpoint's own.
        subject_alt_names: Vec<String>,
        /// SNI to send, if not the default.
        sni: Option<String>,
    },
    /// Ordinary TLS to an external server, verified against the system's roots (`mode: SIMPLE`).
    Simple {
        /// SNI to send; empty is the host.
        sni: Option<String>,
        /// Names of which the server's certificate must have one; empty: the SNI.
        subject_alt_names: Vec<String>,
        /// Skip verification: only where written so.
        insecure_skip_verify: bool,
    },
    /// What was asked for is not built: requests fail with this reason instead of going out in another form.
    Unsupported(String),
}

/// Locality preferences (`localityLbSetting`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityFailover {
    /// `enabled: false` treats all localities alike.
    pub disabled: bool,
    /// `failover[]`: from region → to region.
    pub failover: BTreeMap<String, String>,
    /// `failoverPriority[]`: label keys (optionally `key=value`).
    pub priority: Vec<String>,
    /// `distribute[]`: from (`region/zone/*`) → to → weight, percent.
    pub distribute: BTreeMap<String, BTreeMap<String, u32>>,
}
