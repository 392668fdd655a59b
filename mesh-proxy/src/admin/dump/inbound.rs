//! What this workload accepts, and from whom.

use std::collections::BTreeMap;

use mesh_core::config::{self, AuthzAction, MtlsMode};
use serde::Serialize;

use super::common::{Locality, Origin, Workload, protocol};
use super::settings::AccessLog;
use crate::config::View;
use crate::drain::{DrainWatch, Stage};

/// The own Inbound.
#[derive(Serialize)]
pub(in crate::admin) struct Inbound {
    uid: String,
    /// SPIFFE id.
    identity: String,
    addresses: Vec<String>,
    labels: BTreeMap<String, String>,
    workload: Workload,
    locality: Locality,
    /// Mutual TLS on ports that are not listed: `permissive`, `strict` or `disable`.
    mtls: &'static str,
    /// The PeerAuthentication that decided it; `null`: the default.
    mtls_origin: Option<Origin>,
    ports: Vec<Port>,
    /// In the order of evaluation within an action: root namespace first, then by name.
    policies: Vec<Policy>,
    /// `null`: the mesh's own; `"off"`, or where it goes.
    access_log: Option<OwnAccessLog>,
    /// Whether the control plane says that the pod is ending.
    draining: bool,
    /// How far the end has come: `running`, `draining` or `stopping`.
    stage: &'static str,
}

/// A port of the workload.
#[derive(Serialize)]
struct Port {
    port: u16,
    protocol: &'static str,
    mtls: &'static str,
    mtls_origin: Option<Origin>,
    /// The service that telemetry names, and its port.
    service: Option<String>,
    service_port: Option<u16>,
}

/// An AuthorizationPolicy that selects the workload.
#[derive(Serialize)]
struct Policy {
    origin: Origin,
    /// `allow`, `deny`, `audit` or `custom`.
    action: &'static str,
    dry_run: bool,
    /// How many there are. None: `allow` denies all, `deny` has no effect.
    rules: usize,
}

/// A Telemetry object's say about the access log.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum OwnAccessLog {
    Off,
    #[serde(untagged)]
    To(AccessLog),
}

/// `None` before the control plane has told.
pub(in crate::admin) fn own(view: &View, drain: &DrainWatch) -> Option<Inbound> {
    let inbound = &view.inbound()?.inbound;
    let ports = inbound.ports.iter().map(|(number, port)| Port {
        port: *number,
        protocol: protocol(port.protocol),
        mtls: mtls(port.mtls),
        mtls_origin: port.mtls_origin.as_ref().map(Origin::from),
        service: port.service.as_ref().map(|(name, _)| name.to_string()),
        service_port: port.service.as_ref().map(|(_, port)| *port),
    });
    Some(Inbound {
        uid: inbound.uid.to_string(),
        identity: inbound.identity.to_string(),
        addresses: inbound.addresses.iter().map(ToString::to_string).collect(),
        labels: inbound.labels.clone(),
        workload: (&inbound.workload).into(),
        locality: (&inbound.locality).into(),
        mtls: mtls(inbound.mtls),
        mtls_origin: inbound.mtls_origin.as_ref().map(Origin::from),
        ports: ports.collect(),
        policies: inbound.policies.iter().map(policy).collect(),
        access_log: inbound.access_log.as_ref().map(|log| match log {
            None => OwnAccessLog::Off,
            Some(log) => OwnAccessLog::To(log.into()),
        }),
        draining: inbound.draining,
        stage: match drain.stage() {
            Stage::Running => "running",
            Stage::Draining => "draining",
            Stage::Stopping { .. } => "stopping",
        },
    })
}

fn policy(policy: &config::AuthzPolicy) -> Policy {
    Policy {
        origin: (&policy.origin).into(),
        action: match policy.action {
            AuthzAction::Allow => "allow",
            AuthzAction::Deny => "deny",
            AuthzAction::Audit => "audit",
            AuthzAction::Custom => "custom",
        },
        dry_run: policy.dry_run,
        rules: policy.rules.len(),
    }
}

fn mtls(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Permissive => "permissive",
        MtlsMode::Strict => "strict",
        MtlsMode::Disable => "disable",
    }
}
