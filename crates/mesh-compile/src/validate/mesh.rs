//! The ConfigMap with the mesh-wide settings.

use mesh_crd::kubernetes::ConfigMap;
use mesh_crd::mesh_config::{InboundMode, SETTINGS_NOT_READ};
use mesh_crd::networking::OutboundMode;
use mesh_crd::{IssueKind, Object, names};

use crate::Objects;
use crate::problem::{Code, Problems};

impl Objects {
    pub(super) fn check_config_map(&self, object: &Object<ConfigMap>, problems: &mut Problems) {
        if !self.is_mesh_config(&object.key()) {
            return;
        }
        let at = format!("data.{}", names::MESH_CONFIG_KEY);
        if !object.spec.data.contains_key(names::MESH_CONFIG_KEY) {
            let message = "there are no settings in it, so the defaults hold";
            problems.warning(
                Code::NotActing,
                "data",
                message,
                format!("write them under the key {}", names::MESH_CONFIG_KEY),
            );
        }
        if let Some(error) = &self.mesh_error {
            let message = format!(
                "the settings are not valid YAML, so the defaults hold, and unknown destinations are refused: {error}"
            );
            problems.error(Code::InvalidValue, &at, message, "correct the YAML");
        }
        for issue in &self.mesh_issues {
            if SETTINGS_NOT_READ.contains(&issue.path.as_str()) {
                problems.unsupported(&format!("{at}.{}", issue.path), "the setting does not act");
                continue;
            }
            let (code, effect) = match issue.kind {
                IssueKind::Unknown => (Code::UnknownField, "the setting does not act"),
                IssueKind::Invalid if issue.path.starts_with("outboundTrafficPolicy") => {
                    (Code::InvalidValue, "unknown destinations are refused until it can be read")
                }
                IssueKind::Invalid => (Code::InvalidValue, "its default holds"),
            };
            let message = format!("{}; {effect}", issue.message);
            problems.error(code, &format!("{at}.{}", issue.path), message, "correct or remove it");
        }
        for (set, field, effect) in self.unbuilt_settings() {
            if set {
                problems.unsupported(&format!("{at}.{field}"), effect);
            }
        }
    }

    /// Settings that are read, but not built: whether they are set, their name, what happens instead.
    fn unbuilt_settings(&self) -> [(bool, &'static str, &'static str); 20] {
        let mesh = &self.mesh;
        let own_domain = self.options.trust_domain.as_str();
        let own_root = &self.options.root_namespace;
        let differs = |text: &str, own: &str| !text.is_empty() && text != own;
        let dynamic = mesh.outbound_traffic_policy.as_ref().and_then(|policy| policy.mode);
        let local = mesh.inbound_traffic_policy.as_ref().is_some_and(|policy| policy.mode == InboundMode::Localhost);
        [
            (dynamic == Some(OutboundMode::AllowAnyDynamicDns), "outboundTrafficPolicy.mode", "it acts as ALLOW_ANY"),
            (local, "inboundTrafficPolicy.mode", "the application is reached at the pod's address"),
            (!mesh.access_log_format.is_empty(), "accessLogFormat", "the default format is written"),
            (mesh.enable_auto_mtls == Some(false), "enableAutoMtls", "meshed endpoints get mutual TLS all the same"),
            (differs(&mesh.trust_domain, own_domain), "trustDomain", "the installation's trust domain holds"),
            (differs(&mesh.root_namespace, own_root), "rootNamespace", "the installation's root namespace holds"),
            (mesh.protocol_detection_timeout.is_some(), "protocolDetectionTimeout", "the proxy's own 50 ms hold"),
            (mesh.tcp_keepalive.is_some(), "tcpKeepalive", "the proxy's own keepalive probes are sent"),
            (mesh.dns_refresh_rate.is_some(), "dnsRefreshRate", "names are resolved again when their answers expire"),
            (
                mesh.enable_prometheus_merge == Some(false),
                "enablePrometheusMerge",
                "the injector decides by annotations",
            ),
            (mesh.enable_tracing == Some(true), "enableTracing", "no spans are sent"),
            (!mesh.extension_providers.is_empty(), "extensionProviders", "no provider is used"),
            (!mesh.default_providers.is_null(), "defaultProviders", "no provider is used"),
            (!mesh.default_config.is_null(), "defaultConfig", "proxies keep their defaults"),
            (!mesh.mesh_mtls.is_null(), "meshMTLS", "TLS 1.3 is spoken between proxies"),
            (!mesh.discovery_selectors.is_empty(), "discoverySelectors", "all namespaces are read"),
            (!mesh.service_settings.is_empty(), "serviceSettings", "services keep their defaults"),
            (!mesh.ca_certificates.is_empty(), "caCertificates", "only the mesh's own roots are trusted"),
            (mesh.verify_certificate_at_client.is_some(), "verifyCertificateAtClient", "servers are always verified"),
            (
                mesh.default_http_retry_policy.as_ref().is_some_and(|retry| retry.retry_remote_localities.is_some()),
                "defaultHttpRetryPolicy.retryRemoteLocalities",
                "a retry goes where balancing sends it",
            ),
        ]
    }
}
