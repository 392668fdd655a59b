//! VirtualService: rules that choose a destination by what a request or connection is.

use std::collections::BTreeMap;
use std::time::Duration;

message! {
    /// Rules for the traffic to some hosts.
    struct VirtualService {
        hosts: Vec<String> => "The hosts that the rules are for; a short name belongs to the object's own namespace.",
        gateways: Vec<String> => "Where the rules act: gateways, and `mesh` for all sidecars; empty means `mesh`.",
        http: Vec<HttpRoute> => "Rules for HTTP, first match wins.",
        tls: Vec<TlsRoute> => "Rules for TLS that is not terminated here, by SNI.",
        tcp: Vec<TcpRoute> => "Rules for everything else.",
        export_to: Vec<String> => "The namespaces that the rules are for; empty means all.",
    }
}

message! {
    /// One HTTP rule.
    struct HttpRoute {
        name: String => "A name for logs.",
        match_: Vec<HttpMatchRequest> => "Any of these must match; empty matches everything.",
        route: Vec<HttpRouteDestination> => "Destinations, by weight.",
        redirect: Option<HttpRedirect> => "Answer with a redirect instead.",
        direct_response: Option<HttpDirectResponse> => "Answer with this instead.",
        delegate: Option<Delegate> => "Go on with the rules of another VirtualService.",
        rewrite: Option<HttpRewrite> => "Change path or authority before forwarding.",
        timeout: Option<Duration> => "For the whole request; absent or zero means none.",
        retries: Option<HttpRetry> => "When to try again.",
        fault: Option<HttpFaultInjection> => "Faults to inject.",
        mirror: Option<Destination> => "Where to send a copy.",
        mirrors: Vec<HttpMirrorPolicy> => "Where to send copies.",
        mirror_percent: Option<u32> => "Deprecated: how many requests are copied.",
        mirror_percentage: Option<Percent> => "How many requests are copied.",
        cors_policy: Option<CorsPolicy> => "Cross-origin answers.",
        headers: Option<Headers> => "Header changes.",
    }
}

message! {
    /// A percentage, 0 to 100.
    struct Percent {
        value: f64 => "The percentage.",
    }
}

message! {
    /// Conditions on a request, all of which must hold.
    struct HttpMatchRequest {
        name: String => "A name for logs.",
        uri: Option<StringMatch> => "The path, without the query.",
        scheme: Option<StringMatch> => "The scheme.",
        method: Option<StringMatch> => "The method.",
        authority: Option<StringMatch> => "The authority (Host).",
        headers: BTreeMap<String, StringMatch> => "Headers; an empty match means presence.",
        port: Option<u32> => "The port that the client addressed.",
        source_labels: BTreeMap<String, String> => "Labels of the client's workload.",
        gateways: Vec<String> => "Only at these gateways (`mesh`: sidecars).",
        query_params: BTreeMap<String, StringMatch> => "Query parameters.",
        ignore_uri_case: bool => "Whether `uri` (exact, prefix) ignores case.",
        without_headers: BTreeMap<String, StringMatch> => "Headers that must not match.",
        source_namespace: String => "The client's namespace.",
        stat_prefix: String => "A name for statistics.",
    }
}

message! {
    /// A match of a string; with no member set it matches any that is present.
    struct StringMatch {
    } oneof {
        value: StringPattern => "How to match.",
    }
}

oneof! {
    /// How a string is matched.
    enum StringPattern {
        Exact(String) = "exact" => "Equal.",
        Prefix(String) = "prefix" => "Begins with.",
        Regex(String) = "regex" => "RE2 syntax, the whole string.",
    }
}

message! {
    /// A destination with its share.
    struct HttpRouteDestination {
        destination: Option<Destination> => "Where to.",
        weight: i32 => "The share, relative to the others.",
        headers: Option<Headers> => "Header changes for this destination only.",
    }
}

message! {
    /// A service, or a part of it.
    struct Destination {
        host: String => "The service; a short name belongs to the object's own namespace.",
        subset: String => "A subset that a DestinationRule defines; empty means all.",
        port: Option<PortSelector> => "The service's port; may be absent when it has only one.",
    }
}

message! {
    /// A port by number.
    struct PortSelector {
        number: u32 => "The number.",
    }
}

message! {
    /// Header changes.
    struct Headers {
        request: Option<HeaderOperations> => "On the request.",
        response: Option<HeaderOperations> => "On the response.",
    }
}

message! {
    /// Changes of headers in one direction.
    struct HeaderOperations {
        set: BTreeMap<String, String> => "Replace.",
        add: BTreeMap<String, String> => "Append.",
        remove: Vec<String> => "Remove.",
    }
}

message! {
    /// A redirect.
    struct HttpRedirect {
        uri: String => "The new path.",
        authority: String => "The new authority.",
        scheme: String => "The new scheme.",
        redirect_code: u32 => "The status; 0 means 301.",
        prefix_rewrite: String => "Replaces the matched prefix.",
    } oneof {
        redirect_port: RedirectPort => "The new port.",
    }
}

oneof! {
    /// The port of a redirect.
    enum RedirectPort {
        Port(u32) = "port" => "This one.",
        DerivePort(DerivePort) = "derivePort" => "By a rule.",
    }
}

enumeration! {
    /// How a redirect's port is derived.
    enum DerivePort {
        FromProtocolDefault = 0 "FROM_PROTOCOL_DEFAULT" => "80 or 443, by the scheme.",
        FromRequestPort = 1 "FROM_REQUEST_PORT" => "As in the request.",
    }
}

message! {
    /// An answer made by the proxy.
    struct HttpDirectResponse {
        status: u32 => "The status.",
        body: Option<HttpBody> => "The body.",
    }
}

message! {
    /// A body.
    struct HttpBody {
    } oneof {
        specifier: BodySpecifier => "The content.",
    }
}

oneof! {
    /// A body's content.
    enum BodySpecifier {
        Text(String) = "string" => "As text.",
        Bytes(String) = "bytes" => "As base64.",
    }
}

message! {
    /// Another VirtualService.
    struct Delegate {
        name: String => "Its name.",
        namespace: String => "Its namespace; empty means the same.",
    }
}

message! {
    /// Changes of path and authority.
    struct HttpRewrite {
        uri: String => "Replaces the path, or the matched prefix.",
        authority: String => "Replaces the authority.",
        uri_regex_rewrite: Option<RegexRewrite> => "Replaces by a regular expression.",
    }
}

message! {
    /// A rewrite by regular expression.
    struct RegexRewrite {
        match_: String => "What to find (RE2).",
        rewrite: String => "What to put there; `\\1` is the first group.",
    }
}

message! {
    /// When to try again.
    struct HttpRetry {
        attempts: i32 => "How often; 0 means never.",
        per_try_timeout: Option<Duration> => "For each attempt.",
        retry_on: String => "Conditions, comma separated, in Envoy's words; numbers are statuses.",
        retry_remote_localities: Option<bool> => "Whether other localities are tried.",
        retry_ignore_previous_hosts: Option<bool> => "Whether hosts that failed are passed over.",
        backoff: Option<Duration> => "The pause before the first retry.",
    }
}

message! {
    /// Faults to inject.
    struct HttpFaultInjection {
        delay: Option<FaultDelay> => "A pause before forwarding.",
        abort: Option<FaultAbort> => "An answer instead of forwarding.",
    }
}

message! {
    /// A pause.
    struct FaultDelay {
        percent: Option<i32> => "Deprecated: how many requests.",
        percentage: Option<Percent> => "How many requests; absent means none.",
    } oneof {
        kind: FaultDelayKind => "How long.",
    }
}

oneof! {
    /// How long a fault delays.
    enum FaultDelayKind {
        Fixed(Duration) = "fixedDelay" => "Always this long.",
        Exponential(Duration) = "exponentialDelay" => "Not supported, as in Istio.",
    }
}

message! {
    /// An answer instead of forwarding.
    struct FaultAbort {
        percentage: Option<Percent> => "How many requests; absent means none.",
    } oneof {
        error: FaultAbortError => "The answer.",
    }
}

oneof! {
    /// What a fault answers.
    enum FaultAbortError {
        HttpStatus(i32) = "httpStatus" => "An HTTP status.",
        GrpcStatus(String) = "grpcStatus" => "A gRPC status by name.",
        Http2Error(String) = "http2Error" => "Not supported, as in Istio.",
    }
}

message! {
    /// Where to send a copy.
    struct HttpMirrorPolicy {
        destination: Option<Destination> => "Where.",
        percentage: Option<Percent> => "How many requests; absent means all.",
    }
}

message! {
    /// Cross-origin answers.
    struct CorsPolicy {
        allow_origin: Vec<String> => "Deprecated: exact origins.",
        allow_origins: Vec<StringMatch> => "Origins.",
        allow_methods: Vec<String> => "Methods.",
        allow_headers: Vec<String> => "Request headers.",
        expose_headers: Vec<String> => "Response headers.",
        max_age: Option<Duration> => "How long a preflight is valid.",
        allow_credentials: Option<bool> => "Whether credentials may be sent.",
        unmatched_preflights: UnmatchedPreflights => "What happens to a preflight that does not match.",
    }
}

enumeration! {
    /// What happens to a preflight that does not match.
    enum UnmatchedPreflights {
        Unspecified = 0 "UNSPECIFIED" => "Forward.",
        Forward = 1 "FORWARD" => "Forward.",
        Ignore = 2 "IGNORE" => "Answer without permission.",
    }
}

message! {
    /// One rule for TLS connections.
    struct TlsRoute {
        match_: Vec<TlsMatchAttributes> => "Any of these must match.",
        route: Vec<RouteDestination> => "Destinations, by weight.",
    }
}

message! {
    /// Conditions on a TLS connection.
    struct TlsMatchAttributes {
        sni_hosts: Vec<String> => "SNI names, with a leading wildcard at most.",
        destination_subnets: Vec<String> => "Addresses that the client dialled.",
        port: Option<u32> => "The port that the client dialled.",
        source_labels: BTreeMap<String, String> => "Labels of the client's workload.",
        gateways: Vec<String> => "Only at these gateways (`mesh`: sidecars).",
        source_namespace: String => "The client's namespace.",
    }
}

message! {
    /// One rule for TCP connections.
    struct TcpRoute {
        match_: Vec<L4MatchAttributes> => "Any of these must match; empty matches everything.",
        route: Vec<RouteDestination> => "Destinations, by weight.",
    }
}

message! {
    /// Conditions on a TCP connection.
    struct L4MatchAttributes {
        destination_subnets: Vec<String> => "Addresses that the client dialled.",
        port: Option<u32> => "The port that the client dialled.",
        source_subnet: String => "Deprecated and never implemented by Istio.",
        source_labels: BTreeMap<String, String> => "Labels of the client's workload.",
        gateways: Vec<String> => "Only at these gateways (`mesh`: sidecars).",
        source_namespace: String => "The client's namespace.",
    }
}

message! {
    /// A destination of a connection, with its share.
    struct RouteDestination {
        destination: Option<Destination> => "Where to.",
        weight: i32 => "The share, relative to the others.",
    }
}
