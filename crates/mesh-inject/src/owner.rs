//! Whose pod it is: the workload's name and kind as people know them, not the ReplicaSet in between.

use serde_json::Value;

use crate::names::POD_TEMPLATE_HASH;
use crate::parts::Parts;

/// The workload that a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// API version, for example `apps/v1`.
    pub(crate) api_version: String,
    /// Kind, for example `Deployment`.
    pub(crate) kind: String,
    /// Name; empty only if the pod has none either.
    pub(crate) name: String,
}

impl Owner {
    /// Finds the owner in the pod's owner references; a pod without is its own.
    pub(crate) fn of(pod: &Parts) -> Owner {
        let references = pod.owner_references();
        let is_controller = |reference: &&Value| reference.get("controller") == Some(&Value::Bool(true));
        match references.iter().find(is_controller).and_then(Owner::from_reference) {
            Some(owner) => owner.climb(pod),
            None => Owner { api_version: "v1".into(), kind: "Pod".into(), name: pod_name(pod) },
        }
    }

    fn from_reference(reference: &Value) -> Option<Owner> {
        let field = |name| reference.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Owner {
            api_version: field("apiVersion")?.to_owned(),
            kind: field("kind")?.to_owned(),
            name: field("name")?.to_owned(),
        })
    }

    /// From a controller's helper to the controller: ReplicaSets of Deployments and Jobs of CronJobs are recognised by
    /// how their names are made.
    fn climb(self, pod: &Parts) -> Owner {
        match self.kind.as_str() {
            "ReplicaSet" => {
                let hash = pod.label(POD_TEMPLATE_HASH).unwrap_or_default();
                let base = self.name.strip_suffix(hash).and_then(|name| name.strip_suffix('-'));
                match base {
                    Some(name) if !hash.is_empty() && !name.is_empty() => {
                        Owner { kind: "Deployment".into(), name: name.into(), ..self }
                    }
                    _ => self,
                }
            }
            "Job" => match self.name.rsplit_once('-') {
                Some((name, minute)) if is_cron_minute(minute) && !name.is_empty() => {
                    Owner { kind: "CronJob".into(), name: name.into(), ..self }
                }
                _ => self,
            },
            _ => self,
        }
    }

    /// The owner as a path, as Istio writes it into telemetry.
    pub(crate) fn path(&self, namespace: &str) -> String {
        let kind = self.kind.to_ascii_lowercase();
        format!("kubernetes://apis/{}/namespaces/{namespace}/{kind}s/{}", self.api_version, self.name)
    }
}

/// CronJobs name their Jobs after the scheduled minute since 1970.
fn is_cron_minute(text: &str) -> bool {
    (8..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// The pod's name; while a controller creates it, only the prefix is known.
fn pod_name(pod: &Parts) -> String {
    let prefix = || pod.metadata_string("generateName").map(|prefix| prefix.trim_end_matches('-'));
    pod.metadata_string("name").or_else(prefix).unwrap_or_default().to_owned()
}
