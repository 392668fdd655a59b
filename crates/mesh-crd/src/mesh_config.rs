//! MeshConfig: the mesh-wide settings, as Istio writes them into a ConfigMap.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::networking::{H2UpgradePolicy, HttpRetry, LocalityLoadBalancerSetting, OutboundMode, TcpKeepalive};
use crate::read::{Issues, Read, Reader};
use crate::yaml::{self, YamlError};

message! {
    /// Mesh-wide settings; an absent field means the default that its documentation names.
    struct MeshConfig {
        outbound_traffic_policy: Option<MeshOutboundTrafficPolicy> => "Unknown destinations; ALLOW_ANY.",
        inbound_traffic_policy: Option<InboundTrafficPolicy> => "How the application is reached; PASSTHROUGH.",
        access_log_file: String => "Where access logs go; empty means off.",
        access_log_format: String => "Their format.",
        access_log_encoding: AccessLogEncoding => "TEXT or JSON.",
        enable_auto_mtls: Option<bool> => "Whether meshed endpoints get mutual TLS by themselves; true.",
        trust_domain: String => "The trust domain; `cluster.local`.",
        trust_domain_aliases: Vec<String> => "Trust domains that count as the same.",
        root_namespace: String => "The namespace of mesh-wide policy.",
        default_service_export_to: Vec<String> => "Who sees services that do not say; everybody.",
        default_virtual_service_export_to: Vec<String> => "For whom VirtualServices are that do not say; everybody.",
        default_destination_rule_export_to: Vec<String> => "For whom DestinationRules are that do not say; everybody.",
        connect_timeout: Option<Duration> => "For connecting to an endpoint; 10 s.",
        protocol_detection_timeout: Option<Duration> => "How long a client may be silent before its protocol is decided.",
        h2_upgrade_policy: H2UpgradePolicy => "Whether HTTP/1 becomes HTTP/2 on the way; no.",
        tcp_keepalive: Option<TcpKeepalive> => "Keepalive probes.",
        default_http_retry_policy: Option<HttpRetry> => "Retries of routes that do not say.",
        locality_lb_setting: Option<LocalityLoadBalancerSetting> => "Preferences by locality.",
        path_normalization: Option<PathNormalization> => "How paths are normalised; BASE.",
        dns_refresh_rate: Option<Duration> => "How often names are resolved; 60 s.",
        enable_prometheus_merge: Option<bool> => "Whether the application's metrics are merged; true.",
        enable_tracing: Option<bool> => "Whether traces are made; true.",
        extension_providers: Vec<Value> => "Providers, kept as written.",
        default_providers: Value => "Which providers are used, kept as written.",
        default_config: Value => "The proxies' defaults, kept as written.",
        mesh_mtls as "meshMTLS": Value => "Limits of mutual TLS, kept as written.",
        discovery_selectors: Vec<Value> => "Which namespaces are read, kept as written.",
        service_settings: Vec<Value> => "Settings of single services, kept as written.",
        ca_certificates: Vec<Value> => "More roots of trust, kept as written.",
        verify_certificate_at_client: Option<bool> => "Whether external servers are verified.",
    }
}

message! {
    /// Unknown destinations.
    struct MeshOutboundTrafficPolicy {
        mode: Option<OutboundMode> => "What happens to them; absent means ALLOW_ANY.",
    }
}

message! {
    /// How the application is reached.
    struct InboundTrafficPolicy {
        mode: InboundMode => "How.",
    }
}

enumeration! {
    /// How the application is reached.
    enum InboundMode {
        Passthrough = 0 "PASSTHROUGH" => "At the pod's address.",
        Localhost = 1 "LOCALHOST" => "At the loopback address.",
    }
}

enumeration! {
    /// The shape of access logs.
    enum AccessLogEncoding {
        Text = 0 "TEXT" => "Lines of text.",
        Json = 1 "JSON" => "Lines of JSON.",
    }
}

message! {
    /// How paths are normalised.
    struct PathNormalization {
        normalization: NormalizationType => "How.",
    }
}

enumeration! {
    /// How paths are normalised.
    enum NormalizationType {
        Default = 0 "DEFAULT" => "As BASE.",
        None = 1 "NONE" => "Not at all.",
        Base = 2 "BASE" => "RFC 3986.",
        MergeSlashes = 3 "MERGE_SLASHES" => "BASE, and `//` becomes `/`.",
        DecodeAndMergeSlashes = 4 "DECODE_AND_MERGE_SLASHES" => "Encoded slashes too.",
    }
}

/// Settings of Istio's that this mesh does not have; they are told apart from misspelt ones.
pub const SETTINGS_NOT_READ: [&str; 24] = [
    "ca",
    "certificates",
    "configSources",
    "defaultTrafficPolicy",
    "disableEnvoyListenerLog",
    "enableAutoSni",
    "enableEnvoyAccessLogService",
    "hboneIdleTimeout",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "mixerCheckServer",
    "policyCheckFailOpen",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "reportBatchMaxEntries",
    "sdsUdsPath",
    "serviceEntryVisibility",
    "serviceScopeConfigs",
    "thriftConfig",
    "tlsDefaults",
    "zoneAwareLbSetting",
];

/// Reads a MeshConfig from its YAML text. Issues carry paths inside that text.
pub fn parse_mesh_config(text: &str) -> Result<(MeshConfig, Issues), YamlError> {
    let (value, _) = yaml::read(text, 1)?;
    let mut reader = Reader::default();
    let config = match value {
        Value::Null => MeshConfig::default(),
        value => MeshConfig::read(&value, &mut reader),
    };
    Ok((config, reader.into_issues()))
}

/// The texts of extension providers by name, for looking one up.
pub fn provider_names(config: &MeshConfig) -> BTreeMap<&str, &Value> {
    let named = |provider| Some((Value::get(provider, "name")?.as_str()?, provider));
    config.extension_providers.iter().filter_map(named).collect()
}
