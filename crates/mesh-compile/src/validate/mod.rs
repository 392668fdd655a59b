//! What is wrong with an object, judged by the same code that compiles it, and by what exists around it.
//!
//! Each problem says what happens because of it. An error means that the object, or the part that is named, does not
//! do what was asked for; it is still taken in as far as it can be, and everything else works.

mod destination_rule;
mod entries;
mod mesh;
mod security;
mod sidecar;
mod telemetry;
mod virtual_service;

use std::collections::{BTreeMap, BTreeSet};

use mesh_crd::kubernetes::{EndpointSlice, Service};
use mesh_crd::{IssueKind, Kind, Object, ObjectKey};

use crate::objects::{Store, seniority};
use crate::problem::{Code, ObjectRef, Problem, Problems};
use crate::{Objects, objects};

impl Objects {
    /// The problems of one object, ordered by severity; none where it does not exist or is of a kind that the mesh
    /// does not read.
    pub fn validate(&self, object: &ObjectRef) -> Vec<Problem> {
        let key = &object.key;
        match object.kind.as_str() {
            "Namespace" => plain(&self.namespaces, key),
            "Service" => checked(&self.services, key, check_service),
            "EndpointSlice" => checked(&self.slices, key, check_slice),
            "Pod" => plain(&self.pods, key),
            "ServiceAccount" => plain(&self.service_accounts, key),
            "ConfigMap" => checked(&self.config_maps, key, |object, problems| self.check_config_map(object, problems)),
            "VirtualService" => checked(&self.virtual_services, key, |object, problems| {
                self.check_virtual_service(object, problems);
            }),
            "DestinationRule" => checked(&self.destination_rules, key, |object, problems| {
                self.check_destination_rule(object, problems);
            }),
            "ServiceEntry" => checked(&self.service_entries, key, |object, problems| {
                self.check_service_entry(object, problems);
            }),
            "WorkloadEntry" => checked(&self.workload_entries, key, |object, problems| {
                self.check_workload_entry(object, problems);
            }),
            "Gateway" => checked(&self.gateways, key, |_, problems| {
                let message = "gateways are not built yet: the object is read, but nothing listens for it";
                problems.warning(Code::NotActing, "spec", message, "use a Service and sidecars until they are");
            }),
            "Sidecar" => checked(&self.sidecars, key, |object, problems| self.check_sidecar(object, problems)),
            "PeerAuthentication" => checked(&self.peer_authentications, key, |object, problems| {
                self.check_peer_authentication(object, problems);
            }),
            "AuthorizationPolicy" => checked(&self.authorization_policies, key, |object, problems| {
                self.check_authorization_policy(object, problems);
            }),
            "RequestAuthentication" => checked(&self.request_authentications, key, |_, problems| {
                let message = "request authentication is not built yet: tokens are neither required nor validated, and \
                     rules on requestPrincipals or request.auth are unknown, so that they only deny";
                problems.warning(Code::NotActing, "spec", message, "validate tokens in the application until it is");
            }),
            "Telemetry" => checked(&self.telemetries, key, |object, problems| self.check_telemetry(object, problems)),
            _ => Vec::new(),
        }
    }

    /// The problems of all objects.
    pub fn validate_all(&self) -> Vec<Problem> {
        let mut all = Vec::new();
        let mut kind = |kind: &str, keys: Vec<&ObjectKey>| {
            for key in keys {
                all.extend(self.validate(&ObjectRef { kind: kind.to_owned(), key: key.clone() }));
            }
        };
        kind("Namespace", self.namespaces.keys().collect());
        kind("Service", self.services.keys().collect());
        kind("EndpointSlice", self.slices.keys().collect());
        kind("Pod", self.pods.keys().collect());
        kind("ServiceAccount", self.service_accounts.keys().collect());
        kind("ConfigMap", self.config_maps.keys().collect());
        kind("VirtualService", self.virtual_services.keys().collect());
        kind("DestinationRule", self.destination_rules.keys().collect());
        kind("ServiceEntry", self.service_entries.keys().collect());
        kind("WorkloadEntry", self.workload_entries.keys().collect());
        kind("Gateway", self.gateways.keys().collect());
        kind("Sidecar", self.sidecars.keys().collect());
        kind("PeerAuthentication", self.peer_authentications.keys().collect());
        kind("AuthorizationPolicy", self.authorization_policies.keys().collect());
        kind("RequestAuthentication", self.request_authentications.keys().collect());
        kind("Telemetry", self.telemetries.keys().collect());
        all
    }

    /// Whether a selector of a policy selects any pod; policies of the root namespace select in all namespaces.
    fn selects_any_pod(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let matches = |object: &Object<mesh_crd::kubernetes::Pod>| objects::selects(labels, &object.meta.labels);
        match namespace == self.options.root_namespace {
            true => self.pods.values().any(|pod| matches(pod)),
            false => self.pods_of(namespace).any(|pod| matches(pod)),
        }
    }

    /// Reports a selector that selects nothing.
    fn check_selector(
        &self,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
        field: &str,
        problems: &mut Problems,
    ) {
        if let Some(labels) = labels.filter(|labels| !labels.is_empty() && !self.selects_any_pod(namespace, labels)) {
            let message = format!("no pod has all of these labels: {labels:?}");
            problems.warning(Code::SelectsNothing, field, message, "correct the labels, or deploy the workload");
        }
    }
}

/// What a Service asks for that the mesh does not do. What kube-proxy does for clients outside the mesh stays.
fn check_service(object: &Object<Service>, problems: &mut Problems) {
    let spec = &object.spec.spec;
    if spec.session_affinity == "ClientIP" {
        let fix = "use a DestinationRule with consistentHash: {useSourceIp: true}";
        let message = "session affinity does not act for clients in the mesh";
        problems.warning(Code::Unsupported, "spec.sessionAffinity", message, fix);
    }
    if !spec.traffic_distribution.is_empty() {
        problems.unsupported("spec.trafficDistribution", "endpoints are not preferred by where they are");
    }
    if !spec.external_ips.is_empty() {
        let effect =
            "the mesh does not take these addresses for the Service, because anybody may write any address here";
        problems.unsupported("spec.externalIPs", effect);
    }
    for (index, port) in spec.ports.iter().enumerate().filter(|(_, port)| port.protocol == "SCTP") {
        problems
            .unsupported(&format!("spec.ports[{index}].protocol"), &format!("port {} is not in the mesh", port.port));
    }
}

/// A slice that nothing is sent to.
fn check_slice(object: &Object<EndpointSlice>, problems: &mut Problems) {
    if object.spec.address_type == "FQDN" {
        problems.unsupported("addressType", "nothing is sent to endpoints that are names");
    }
}

/// Issues only.
fn plain<T: Kind>(store: &Store<T>, key: &ObjectKey) -> Vec<Problem> {
    checked(store, key, |_, _| ())
}

/// Issues, and what `check` finds.
fn checked<T: Kind>(store: &Store<T>, key: &ObjectKey, check: impl FnOnce(&Object<T>, &mut Problems)) -> Vec<Problem> {
    let Some(object) = store.get(key) else { return Vec::new() };
    let mut problems = Problems::of(&**object);
    for issue in &object.issues {
        let effect = effect(T::KIND, &issue.path);
        let (code, fix) = match issue.kind {
            IssueKind::Unknown => (Code::UnknownField, "correct the name, or remove the field"),
            IssueKind::Invalid => (Code::InvalidValue, "correct the value"),
        };
        problems.error(code, &issue.path, format!("{}; {effect}", issue.message), fix);
    }
    check(object, &mut problems);
    problems.into_vec()
}

/// What happens because something at `path` could not be read.
fn effect(kind: &str, path: &str) -> &'static str {
    let in_rule = path.starts_with("spec.http[") || path.starts_with("spec.tls[") || path.starts_with("spec.tcp[");
    match kind {
        "VirtualService" if in_rule && path.contains(".match") => "this match never matches",
        "VirtualService" if path.starts_with("spec.http[") => "requests that match this rule are answered with 500",
        "VirtualService" if in_rule => "connections that match this rule are closed",
        "PeerAuthentication" => "the policy counts as STRICT until it can be read",
        "AuthorizationPolicy" => "it is unknown whether it holds: ALLOW never matches by it, DENY always does",
        "DestinationRule" if path.contains(".tls") => "requests to the destination fail until it can be read",
        "DestinationRule" if path.starts_with("spec.subsets[") && !path.contains(".trafficPolicy") => {
            "this subset does not exist until it can be read"
        }
        "DestinationRule" if path.ends_with("trafficPolicy") => "requests to the destination fail until it can be read",
        "Sidecar" if path.contains("outboundTrafficPolicy") => "unknown destinations are refused until it can be read",
        _ => "the rest of the object acts without it",
    }
}

/// Reports that several objects are for the same thing, where the oldest wins.
fn conflict<T: Kind>(object: &Object<T>, others: &[&Object<T>], field: &str, what: &str, problems: &mut Problems) {
    let all = others.iter().copied().chain([object]);
    let Some(winner) = all.min_by(|a, b| seniority(a).cmp(&seniority(b))) else { return };
    if others.is_empty() {
        return;
    }
    let names: BTreeSet<_> = others.iter().map(|other| other.key().to_string()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let rule = "the oldest wins, then the first by namespace and name";
    if winner.key() == object.key() {
        let message = format!("{what} also by {names}; this object wins ({rule})");
        problems.warning(Code::Conflict, field, message, "merge them into one object");
    } else {
        let message = format!("{what} also by {names}; {} wins ({rule}), and this object does not act", winner.key());
        problems.error(Code::Conflict, field, message, format!("merge it into {}", winner.key()));
    }
}
