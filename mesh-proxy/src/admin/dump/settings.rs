//! What holds for the whole mesh, and how this process was set up.

use mesh_core::config::{self, AccessLogFormat, OutboundPolicy, PathNormalization};
use serde::Serialize;

use super::common::ms;
use crate::bootstrap::Bootstrap;
use crate::config::View;

/// Both.
#[derive(Serialize)]
pub(in crate::admin) struct Settings {
    /// `null` before the control plane has told.
    mesh: Option<Mesh>,
    proxy: Proxy,
}

/// The mesh's settings, as seen from this proxy's namespace.
#[derive(Serialize)]
struct Mesh {
    trust_domain: String,
    trust_domain_aliases: Vec<String>,
    cluster_domain: String,
    root_namespace: String,
    /// `allow_any` or `registry_only`.
    outbound_policy: &'static str,
    /// Prefixes in which mesh addresses can lie, beside the private ranges.
    mesh_prefixes: Vec<String>,
    /// Whether HTTP and TLS to external addresses ask by name.
    hosts_without_addresses: bool,
    /// `none`, `base`, `merge_slashes` or `decode_and_merge_slashes`.
    path_normalization: &'static str,
    /// `null`: there is none.
    access_log: Option<AccessLog>,
}

/// An access log.
#[derive(Serialize)]
pub(super) struct AccessLog {
    file: String,
    /// `text` or `json`.
    format: &'static str,
}

/// This process.
#[derive(Serialize)]
struct Proxy {
    version: &'static str,
    pod: String,
    namespace: String,
    uid: String,
    /// SPIFFE id.
    identity: String,
    addresses: Vec<String>,
    workload: String,
    node: String,
    cluster_id: String,
    trust_domain: String,
    cluster_domain: String,
    /// `host:port`.
    control_plane: String,
    control_plane_identity: String,
    app_containers: Vec<String>,
    workers: usize,
    grace_period_ms: u64,
    log_level: String,
}

impl From<&config::AccessLog> for AccessLog {
    fn from(log: &config::AccessLog) -> Self {
        let format = match log.format {
            AccessLogFormat::Text => "text",
            AccessLogFormat::Json => "json",
        };
        Self { file: log.file.clone(), format }
    }
}

/// What holds now.
pub(in crate::admin) fn all(view: &View, bootstrap: &Bootstrap) -> Settings {
    Settings { mesh: view.settings().map(|settings| mesh(settings)), proxy: proxy(bootstrap) }
}

fn mesh(settings: &config::MeshSettings) -> Mesh {
    Mesh {
        trust_domain: settings.trust_domain.clone(),
        trust_domain_aliases: settings.trust_domain_aliases.clone(),
        cluster_domain: settings.cluster_domain.clone(),
        root_namespace: settings.root_namespace.clone(),
        outbound_policy: match settings.outbound_policy {
            OutboundPolicy::AllowAny => "allow_any",
            OutboundPolicy::RegistryOnly => "registry_only",
        },
        mesh_prefixes: settings.mesh_prefixes.iter().map(ToString::to_string).collect(),
        hosts_without_addresses: settings.hosts_without_addresses,
        path_normalization: match settings.path_normalization {
            PathNormalization::None => "none",
            PathNormalization::Base => "base",
            PathNormalization::MergeSlashes => "merge_slashes",
            PathNormalization::DecodeAndMergeSlashes => "decode_and_merge_slashes",
        },
        access_log: settings.access_log.as_ref().map(AccessLog::from),
    }
}

fn proxy(bootstrap: &Bootstrap) -> Proxy {
    Proxy {
        version: env!("CARGO_PKG_VERSION"),
        pod: bootstrap.pod_name.clone(),
        namespace: bootstrap.pod_namespace.clone(),
        uid: bootstrap.pod_uid.clone(),
        identity: bootstrap.identity.to_string(),
        addresses: bootstrap.instance_ips.iter().map(ToString::to_string).collect(),
        workload: bootstrap.workload_name.clone(),
        node: bootstrap.node_name.clone(),
        cluster_id: bootstrap.cluster_id.clone(),
        trust_domain: bootstrap.trust_domain.to_string(),
        cluster_domain: bootstrap.cluster_domain.clone(),
        control_plane: format!("{}:{}", bootstrap.control.host, bootstrap.control.port),
        control_plane_identity: bootstrap.control_identity.to_string(),
        app_containers: bootstrap.app_containers.clone(),
        workers: bootstrap.workers,
        grace_period_ms: ms(bootstrap.grace_period),
        log_level: bootstrap.log_level.clone(),
    }
}
