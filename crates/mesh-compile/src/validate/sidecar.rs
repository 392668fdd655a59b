//! Sidecars.

use mesh_crd::Object;
use mesh_crd::networking::{CaptureMode, OutboundMode, Sidecar};

use super::conflict;
use crate::Objects;
use crate::problem::{Code, Problems};

impl Objects {
    pub(super) fn check_sidecar(&self, object: &Object<Sidecar>, problems: &mut Problems) {
        let spec = &object.spec;
        if spec.workload_selector.is_some() {
            let message = "a Sidecar for some workloads only is not built: it does not act";
            let fix = "remove the selector, to use it for the whole namespace";
            problems.error(Code::NotActing, "spec.workloadSelector", message, fix);
            return;
        }
        if !spec.ingress.is_empty() {
            problems.unsupported("spec.ingress", "all ports of the workloads are served as their Services say");
        }
        if spec.inbound_connection_pool.is_some() {
            problems.unsupported("spec.inboundConnectionPool", "connections to the application are not limited by it");
        }
        for (index, listener) in spec.egress.iter().enumerate() {
            let at = format!("spec.egress[{index}]");
            if listener.port.is_some() || !listener.bind.is_empty() {
                problems.unsupported(&at, "its hosts are visible on all ports and addresses");
            }
            if listener.capture_mode == CaptureMode::None {
                problems.unsupported(&format!("{at}.captureMode"), "traffic is captured all the same");
            }
            for (number, host) in listener.hosts.iter().enumerate() {
                let field = format!("{at}.hosts[{number}]");
                match host.split_once('/') {
                    Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                        if namespace.len() > 1 && namespace.starts_with('~') {
                            problems.unsupported(&field, "nothing is made visible or hidden by it");
                        }
                    }
                    _ => {
                        let message = format!("{host:?} is not of the form namespace/host; nothing is visible by it");
                        problems.error(Code::InvalidValue, &field, message, "write ./*, */name or namespace/*");
                    }
                }
            }
        }
        if let Some(policy) = &spec.outbound_traffic_policy {
            if policy.egress_proxy.is_some() {
                let field = "spec.outboundTrafficPolicy.egressProxy";
                problems.unsupported(field, "traffic to unknown destinations goes there directly, if it may");
            }
            if policy.mode == OutboundMode::AllowAnyDynamicDns {
                problems.unsupported("spec.outboundTrafficPolicy.mode", "it acts as ALLOW_ANY");
            }
        }
        let same: Vec<_> = self
            .sidecars_of(&object.meta.namespace)
            .filter(|other| other.key() != object.key())
            .filter(|other| other.spec.workload_selector.is_none())
            .map(|other| &**other)
            .collect();
        conflict(object, &same, "spec", "the whole namespace is bounded", problems);
    }
}
