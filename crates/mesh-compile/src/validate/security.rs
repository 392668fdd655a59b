//! PeerAuthentications and AuthorizationPolicies.

use mesh_core::authz::CompiledPolicies;
use mesh_core::config::AuthzAction;
use mesh_crd::security::{AuthorizationPolicy, PeerAuthentication, Rule};
use mesh_crd::{Object, labels};

use super::conflict;
use crate::Objects;
use crate::authz::is_dry_run;
use crate::objects::selects;
use crate::problem::{Code, Problems};

impl Objects {
    pub(super) fn check_peer_authentication(&self, object: &Object<PeerAuthentication>, problems: &mut Problems) {
        let spec = &object.spec;
        let namespace = &object.meta.namespace;
        let selected =
            spec.selector.as_ref().map(|selector| &selector.match_labels).filter(|labels| !labels.is_empty());
        if selected.is_some() && *namespace == self.options.root_namespace {
            let message = "in the root namespace a policy with a selector does not act";
            let fix = "write it in the workload's namespace, or remove the selector to set the mesh's mode";
            problems.error(Code::NotActing, "spec.selector", message, fix);
        } else {
            self.check_selector(namespace, selected, "spec.selector.matchLabels", problems);
        }
        if selected.is_none() && !spec.port_level_mtls.is_empty() {
            let message = "modes of ports act only together with a selector";
            problems.error(Code::NotActing, "spec.portLevelMtls", message, "add a selector");
        }
        if let Some(labels) = selected {
            let pods: Vec<_> = self.pods_of(namespace).filter(|pod| selects(labels, &pod.meta.labels)).collect();
            for port in spec.port_level_mtls.keys() {
                let known = |pod: &&std::sync::Arc<Object<mesh_crd::kubernetes::Pod>>| {
                    self.workload_ports(pod).contains_key(&u16::try_from(*port).unwrap_or(0))
                };
                // A Service's port number, where the workload's own was meant, is the usual mistake.
                let of_service = |pod: &&std::sync::Arc<Object<mesh_crd::kubernetes::Pod>>| {
                    let ports = self.workload_ports(pod);
                    ports
                        .into_iter()
                        .find(|(own, (_, _, number))| u32::from(*number) == *port && u32::from(*own) != *port)
                };
                if pods.iter().any(known) {
                    continue;
                }
                if let Some((own, _)) = pods.iter().find_map(of_service) {
                    let field = format!("spec.portLevelMtls.{port}");
                    let message = format!("{port} is the Service's port; modes are set by the workload's own port");
                    problems.warning(Code::MissingPort, &field, message, format!("write {own}"));
                }
            }
        }
        let same: Vec<_> = self
            .peer_authentications_of(namespace)
            .filter(|other| other.key() != object.key())
            .filter(|other| {
                let theirs = other.spec.selector.as_ref().map(|selector| &selector.match_labels);
                theirs.filter(|labels| !labels.is_empty()) == selected
            })
            .map(|other| &**other)
            .collect();
        conflict(object, &same, "spec.selector", "the same workloads are selected", problems);
    }

    pub(super) fn check_authorization_policy(&self, object: &Object<AuthorizationPolicy>, problems: &mut Problems) {
        let spec = &object.spec;
        let compiled = self.authorization(object, problems);
        // What the proxy itself would say; it takes nothing in that this has not seen.
        for why in CompiledPolicies::compile(std::slice::from_ref(&compiled), &[]).1 {
            let message = format!("the proxy treats a part of it as unknown: {why}");
            problems.error(Code::InvalidValue, "spec.rules", message, "correct the rule");
        }
        if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
            let message =
                "policies that are attached to gateways, waypoints or services are not built: it does not act";
            problems.error(Code::NotActing, "spec.targetRefs", message, "use a selector for sidecars");
        }
        let selected = spec.selector.as_ref().map(|selector| &selector.match_labels);
        self.check_selector(&object.meta.namespace, selected, "spec.selector.matchLabels", problems);
        match compiled.action {
            AuthzAction::Audit => {
                let message = "AUDIT is only reported: nothing is recorded or enforced";
                problems.warning(Code::NotActing, "spec.action", message, "use ALLOW or DENY to enforce");
            }
            AuthzAction::Custom => {
                let message = "external authorization is not built: what the rules select is denied";
                problems.error(Code::Unsupported, "spec.action", message, "use ALLOW or DENY");
            }
            AuthzAction::Allow | AuthzAction::Deny => {}
        }
        if is_dry_run(object) {
            let field = format!("metadata.annotations[{:?}]", labels::DRY_RUN);
            let message = "dry run: the policy is not enforced";
            problems.warning(Code::NotActing, &field, message, "remove the annotation to enforce it");
        }
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            check_principals(rule, &format!("spec.rules[{index}]"), problems);
        }
    }
}

/// Principals with a scheme never match: they are compared without it.
fn check_principals(rule: &Rule, at: &str, problems: &mut Problems) {
    for (index, from) in rule.from.iter().flatten().enumerate() {
        let Some(source) = &from.source else { continue };
        for (name, list) in [("principals", &source.principals), ("notPrincipals", &source.not_principals)] {
            for (number, value) in list.iter().flatten().enumerate() {
                if let Some(rest) = value.strip_prefix("spiffe://") {
                    let field = format!("{at}.from[{index}].source.{name}[{number}]");
                    let message = "principals are compared without spiffe://, so this value never matches";
                    problems.error(Code::InvalidValue, &field, message, format!("write {rest}"));
                }
            }
        }
    }
}
