//! DestinationRule: how a client's proxy talks to a service once it is chosen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::virtual_service::PortSelector;

message! {
    /// Policies and subsets of a service.
    struct DestinationRule {
        host: String => "The service; a short name belongs to the object's own namespace.",
        traffic_policy: Option<TrafficPolicy> => "For all subsets and ports.",
        subsets: Vec<Subset> => "Named parts of the service.",
        export_to: Vec<String> => "The namespaces that it is for; empty means all.",
        workload_selector: Option<crate::security::WorkloadSelector> => "Only for these client workloads.",
    }
}

message! {
    /// A named part of a service.
    struct Subset {
        name: String => "The name that routes use.",
        labels: BTreeMap<String, String> => "Labels that its endpoints have.",
        traffic_policy: Option<TrafficPolicy> => "Overrides for it.",
    }
}

message! {
    /// How to talk to endpoints.
    struct TrafficPolicy {
        load_balancer: Option<LoadBalancerSettings> => "Balancing.",
        connection_pool: Option<ConnectionPoolSettings> => "Limits.",
        outlier_detection: Option<OutlierDetection> => "Ejection.",
        tls: Option<ClientTlsSettings> => "TLS to the endpoint.",
        port_level_settings: Vec<PortTrafficPolicy> => "For single ports, instead of the above.",
        tunnel: Option<TunnelSettings> => "A CONNECT tunnel.",
        proxy_protocol: Option<ProxyProtocol> => "The PROXY header.",
        retry_budget: Option<RetryBudget> => "How many retries are affordable.",
    }
}

message! {
    /// A policy for one port; it replaces the four settings as a whole, also where it leaves one out.
    struct PortTrafficPolicy {
        port: Option<PortSelector> => "The service's port.",
        load_balancer: Option<LoadBalancerSettings> => "Balancing.",
        connection_pool: Option<ConnectionPoolSettings> => "Limits.",
        outlier_detection: Option<OutlierDetection> => "Ejection.",
        tls: Option<ClientTlsSettings> => "TLS to the endpoint.",
    }
}

message! {
    /// Balancing.
    struct LoadBalancerSettings {
        locality_lb_setting: Option<LocalityLoadBalancerSetting> => "Preferences by locality.",
        zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting> => "Zone-aware balancing.",
        warmup_duration_secs: Option<Duration> => "Deprecated: slow start.",
        warmup: Option<WarmupConfiguration> => "Slow start.",
    } oneof {
        policy: LoadBalancerPolicy => "How one endpoint is chosen.",
    }
}

oneof! {
    /// How one endpoint is chosen.
    enum LoadBalancerPolicy {
        Simple(SimpleLb) = "simple" => "Without memory.",
        ConsistentHash(ConsistentHashLb) = "consistentHash" => "By a hash of the request.",
    }
}

enumeration! {
    /// Balancing without memory.
    enum SimpleLb {
        Unspecified = 0 "UNSPECIFIED" => "The default.",
        LeastConn = 1 "LEAST_CONN" => "Deprecated name of LEAST_REQUEST.",
        Random = 2 "RANDOM" => "Random.",
        Passthrough = 3 "PASSTHROUGH" => "To the address that the client dialled.",
        RoundRobin = 4 "ROUND_ROBIN" => "In turn.",
        LeastRequest = 5 "LEAST_REQUEST" => "The less busy of two.",
    }
}

message! {
    /// Balancing by a hash.
    struct ConsistentHashLb {
        minimum_ring_size: Option<u64> => "Deprecated: the ring's size.",
    } oneof {
        hash_key: HashKey => "What is hashed.",
        hash_algorithm: HashAlgorithm => "How endpoints are found by a hash.",
    }
}

oneof! {
    /// What is hashed.
    enum HashKey {
        HttpHeaderName(String) = "httpHeaderName" => "A header.",
        HttpCookie(HttpCookie) = "httpCookie" => "A cookie.",
        UseSourceIp(bool) = "useSourceIp" => "The client's address.",
        HttpQueryParameterName(String) = "httpQueryParameterName" => "A query parameter.",
    }
}

message! {
    /// A cookie to hash.
    struct HttpCookie {
        name: String => "Its name.",
        path: String => "Its path, when it is made here.",
        ttl: Option<Duration> => "Its life, when it is made here; absent: it is not made.",
        attributes: Vec<CookieAttribute> => "More attributes.",
    }
}

message! {
    /// An attribute of a cookie.
    struct CookieAttribute {
        name: String => "Its name.",
        value: String => "Its value.",
    }
}

oneof! {
    /// How endpoints are found by a hash.
    enum HashAlgorithm {
        RingHash(RingHash) = "ringHash" => "A ring.",
        Maglev(Maglev) = "maglev" => "A table.",
    }
}

message! {
    /// A ring.
    struct RingHash {
        minimum_ring_size: u64 => "Its smallest size.",
    }
}

message! {
    /// A table.
    struct Maglev {
        table_size: u64 => "Its size, a prime.",
    }
}

message! {
    /// Preferences by locality.
    struct LocalityLoadBalancerSetting {
        distribute: Vec<LocalityDistribute> => "Shares of traffic between localities.",
        failover: Vec<LocalityFailover> => "Regions to fail over to.",
        failover_priority: Vec<String> => "Labels by which endpoints are preferred.",
        enabled: Option<bool> => "Whether it acts.",
    }
}

message! {
    /// Shares of traffic from one locality.
    struct LocalityDistribute {
        from: String => "`region/zone/subzone`, with `*`.",
        to: BTreeMap<String, u32> => "Shares in percent.",
    }
}

message! {
    /// A region to fail over to.
    struct LocalityFailover {
        from: String => "The client's region.",
        to: String => "The region used next.",
    }
}

message! {
    /// Zone-aware balancing.
    struct ZoneAwareLoadBalancerSetting {
        enabled: Option<bool> => "Whether it acts.",
        failover: Vec<LocalityFailover> => "Regions to fail over to.",
        failover_priority: Vec<String> => "Labels by which endpoints are preferred.",
        min_cluster_size: Option<u64> => "Fewer endpoints than this: zones are ignored.",
    }
}

message! {
    /// Slow start.
    struct WarmupConfiguration {
        duration: Option<Duration> => "How long.",
        minimum_percent: Option<f64> => "The share at the beginning.",
        aggression: Option<f64> => "The shape of the increase.",
    }
}

message! {
    /// Limits.
    struct ConnectionPoolSettings {
        tcp: Option<TcpSettings> => "Of connections.",
        http: Option<HttpSettings> => "Of HTTP.",
    }
}

message! {
    /// Limits of connections.
    struct TcpSettings {
        max_connections: i32 => "At most this many; 0 means unlimited.",
        connect_timeout: Option<Duration> => "For connecting.",
        tcp_keepalive: Option<TcpKeepalive> => "Keepalive probes.",
        max_connection_duration: Option<Duration> => "The longest life.",
        idle_timeout: Option<Duration> => "The longest silence.",
    }
}

message! {
    /// Keepalive probes.
    struct TcpKeepalive {
        probes: u32 => "How many may be lost.",
        time: Option<Duration> => "The silence before the first.",
        interval: Option<Duration> => "The pause between them.",
    }
}

message! {
    /// Limits of HTTP.
    struct HttpSettings {
        http1_max_pending_requests: i32 => "Waiting requests; 0 means unlimited.",
        http2_max_requests: i32 => "Active requests; 0 means unlimited.",
        max_requests_per_connection: i32 => "Then a connection ends; 0 means never.",
        max_retries: i32 => "Retries at the same time; 0 means unlimited.",
        idle_timeout: Option<Duration> => "The longest time without a request.",
        h2_upgrade_policy: H2UpgradePolicy => "Whether HTTP/1 becomes HTTP/2 on the way.",
        use_client_protocol: bool => "Whether the client's version is kept.",
        max_concurrent_streams: i32 => "Streams per connection; 0 means unlimited.",
        http2_keep_alive: Option<Http2KeepAlive> => "PINGs.",
    }
}

message! {
    /// PINGs on HTTP/2 connections.
    struct Http2KeepAlive {
        interval: Option<Duration> => "The pause between them.",
        timeout: Option<Duration> => "How long an answer may take.",
    }
}

enumeration! {
    /// Whether HTTP/1 becomes HTTP/2 on the way.
    enum H2UpgradePolicy {
        Default = 0 "DEFAULT" => "As the mesh says.",
        DoNotUpgrade = 1 "DO_NOT_UPGRADE" => "No.",
        Upgrade = 2 "UPGRADE" => "Yes.",
    }
}

message! {
    /// Ejection of failing endpoints.
    struct OutlierDetection {
        consecutive_errors: Option<i32> => "Deprecated.",
        split_external_local_origin_errors: bool => "Whether local errors are counted apart.",
        consecutive_local_origin_failures: Option<u32> => "Local errors in a row.",
        consecutive_gateway_errors: Option<u32> => "502, 503, 504 in a row; 0 means off.",
        consecutive_5xx_errors: Option<u32> => "5xx in a row; 0 means off.",
        interval: Option<Duration> => "The pause between sweeps.",
        base_ejection_time: Option<Duration> => "The time of the first ejection.",
        max_ejection_percent: i32 => "The largest ejected share; 0 means 10.",
        min_health_percent: i32 => "Below this share ejection is ignored.",
        outlier_detection_http_error_codes: Vec<u32> => "Statuses that count as errors.",
    }
}

message! {
    /// TLS to the endpoint.
    struct ClientTlsSettings {
        mode: ClientTlsMode => "What kind.",
        client_certificate: String => "A file.",
        private_key: String => "A file.",
        ca_certificates: String => "A file, or `system`.",
        ca_crl: String => "A file.",
        credential_name: String => "A Secret.",
        subject_alt_names: Vec<String> => "Names of which the server must have one.",
        sni: String => "The name that is asked for.",
        insecure_skip_verify: Option<bool> => "Whether the server is not verified.",
    }
}

enumeration! {
    /// What kind of TLS.
    enum ClientTlsMode {
        Disable = 0 "DISABLE" => "None.",
        Simple = 1 "SIMPLE" => "The server proves itself.",
        Mutual = 2 "MUTUAL" => "Both prove themselves, with certificates from files or a Secret.",
        IstioMutual = 3 "ISTIO_MUTUAL" => "Both prove themselves with the mesh's certificates.",
    }
}

message! {
    /// A CONNECT tunnel.
    struct TunnelSettings {
        protocol: String => "`CONNECT` or `POST`.",
        target_host: String => "The host behind the tunnel.",
        target_port: u32 => "The port behind the tunnel.",
    }
}

message! {
    /// The PROXY header.
    struct ProxyProtocol {
        version: ProxyProtocolVersion => "Its version.",
    }
}

enumeration! {
    /// The version of the PROXY header.
    enum ProxyProtocolVersion {
        V1 = 0 "V1" => "Text.",
        V2 = 1 "V2" => "Binary.",
    }
}

message! {
    /// How many retries are affordable.
    struct RetryBudget {
        percent: Option<Budgeted> => "Share of the active requests; default 20.",
        min_retry_concurrency: u32 => "Always affordable; 0 means 3.",
        budget_interval: Option<Duration> => "The window.",
    }
}

/// A budget's share in percent; both the plain number and `{value: …}` are written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budgeted(pub f64);

impl crate::read::Read for Budgeted {
    fn absent() -> Self {
        Budgeted(0.0)
    }
    fn read(value: &serde_json::Value, reader: &mut crate::read::Reader) -> Self {
        Budgeted(crate::read::Read::read(value.get("value").unwrap_or(value), reader))
    }
}
