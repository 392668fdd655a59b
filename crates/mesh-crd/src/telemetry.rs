//! Telemetry: what proxies report.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::security::{PolicyTargetReference, WorkloadSelector};

message! {
    /// What proxies report.
    struct Telemetry {
        selector: Option<WorkloadSelector> => "Which workloads; absent means the namespace (root namespace: the mesh).",
        target_ref: Option<PolicyTargetReference> => "Deprecated: what it is attached to instead.",
        target_refs: Vec<PolicyTargetReference> => "What it is attached to instead.",
        tracing: Vec<Tracing> => "Traces.",
        metrics: Vec<Metrics> => "Metrics.",
        access_logging: Vec<AccessLogging> => "Access logs.",
    }
}

message! {
    /// A provider, by its name in MeshConfig.
    struct ProviderRef {
        name: String => "The name.",
    }
}

enumeration! {
    /// Which side of a connection.
    enum WorkloadMode {
        Unspecified = 0 "UNSPECIFIED" => "Both.",
        Client = 1 "CLIENT" => "The client's.",
        Server = 2 "SERVER" => "The server's.",
        ClientAndServer = 3 "CLIENT_AND_SERVER" => "Both.",
    }
}

message! {
    /// A side of connections.
    struct ModeSelector {
        mode: WorkloadMode => "The side.",
    }
}

message! {
    /// Traces.
    struct Tracing {
        match_: Option<ModeSelector> => "Which side.",
        providers: Vec<ProviderRef> => "Where they go.",
        random_sampling_percentage: Option<f64> => "How many requests begin one.",
        disable_span_reporting: Option<bool> => "Whether none are sent.",
        custom_tags: BTreeMap<String, CustomTag> => "More tags.",
        use_request_id_for_trace_sampling: Option<bool> => "Whether the request id decides.",
        enable_istio_tags: Option<bool> => "Whether Istio's tags are added.",
        disable_context_propagation: Option<bool> => "Whether headers are left alone.",
    }
}

message! {
    /// A tag of spans.
    struct CustomTag {
    } oneof {
        value: CustomTagValue => "Where its value comes from.",
    }
}

oneof! {
    /// Where a tag's value comes from.
    enum CustomTagValue {
        Literal(TagLiteral) = "literal" => "Written here.",
        Environment(TagName) = "environment" => "A variable of the proxy.",
        Header(TagName) = "header" => "A request header.",
        Formatter(TagLiteral) = "formatter" => "A format.",
    }
}

message! {
    /// A value that is written here.
    struct TagLiteral {
        value: String => "The value.",
    }
}

message! {
    /// A value that is looked up.
    struct TagName {
        name: String => "What to look up.",
        default_value: String => "The value where it is missing.",
    }
}

message! {
    /// Metrics.
    struct Metrics {
        providers: Vec<ProviderRef> => "Where they go.",
        overrides: Vec<MetricsOverride> => "Changes.",
        reporting_interval: Option<Duration> => "How often.",
    }
}

message! {
    /// A change of a metric.
    struct MetricsOverride {
        match_: Option<MetricSelector> => "Which metrics.",
        disabled: Option<bool> => "Whether they are off.",
        tag_overrides: BTreeMap<String, TagOverride> => "Changes of labels.",
    }
}

message! {
    /// Which metrics.
    struct MetricSelector {
        mode: WorkloadMode => "Which side.",
    } oneof {
        metric: MetricName => "Which one; absent means all.",
    }
}

oneof! {
    /// A metric by name.
    enum MetricName {
        Standard(String) = "metric" => "One of Istio's, e.g. REQUEST_COUNT.",
        Custom(String) = "customMetric" => "Another.",
    }
}

message! {
    /// A change of a label.
    struct TagOverride {
        operation: TagOperation => "What to do.",
        value: String => "An expression.",
    }
}

enumeration! {
    /// What to do with a label.
    enum TagOperation {
        Upsert = 0 "UPSERT" => "Set.",
        Remove = 1 "REMOVE" => "Remove.",
    }
}

message! {
    /// Access logs.
    struct AccessLogging {
        match_: Option<ModeSelector> => "Which side.",
        providers: Vec<ProviderRef> => "Where they go.",
        disabled: Option<bool> => "Whether they are off.",
        filter: Option<AccessLogFilter> => "Which requests.",
    }
}

message! {
    /// Which requests are logged.
    struct AccessLogFilter {
        expression: String => "A CEL expression.",
    }
}
