//! Whether a pod gets a sidecar: what the labels of its namespace and its own say together.
//!
//! The table is Istio's, with the mesh's own labels beside Istio's: on a namespace (or a pod) that carries one of ours,
//! Istio's labels of the same object say nothing, so that a namespace can be moved over while its old labels stay.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::error::quote;
use crate::names::*;
use crate::parts::Parts;
use crate::pod::foreign_sidecar;
use crate::settings::Settings;

/// The answer, with what the author should be told about labels that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no, and why.
    pub verdict: Verdict,
    /// Labels that mean nothing, one sentence each.
    pub warnings: Vec<String>,
}

impl Decision {
    /// Whether the pod is to be injected.
    pub fn is_inject(&self) -> bool {
        matches!(self.verdict, Verdict::Inject(_))
    }
}

/// Yes or no, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod is to be injected.
    Inject(Reason),
    /// It stays as it is.
    Skip(Reason),
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The pod's own label (or older annotation) says so.
    Pod,
    /// The namespace's label says so.
    Namespace,
    /// No label says anything: the mesh's default.
    Default,
    /// It belongs to another revision of the mesh.
    OtherRevision(String),
    /// It is in a namespace that is never injected.
    SystemNamespace(String),
    /// It uses the node's network.
    HostNetwork,
    /// It has Istio's sidecar already.
    ForeignSidecar(String),
    /// It is not shaped like a pod.
    Malformed(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Pod => write!(f, "the pod's label {SIDECAR_INJECT} or revision label"),
            Reason::Namespace => write!(f, "the namespace's label"),
            Reason::Default => write!(f, "no label says anything"),
            Reason::OtherRevision(revision) => write!(f, "it belongs to revision {}", quote(revision)),
            Reason::SystemNamespace(namespace) => write!(f, "namespace {namespace} is never injected by its label"),
            Reason::HostNetwork => write!(f, "it has hostNetwork: true"),
            Reason::ForeignSidecar(container) => write!(f, "it has Istio's sidecar ({container})"),
            Reason::Malformed(problem) => write!(f, "{problem}"),
        }
    }
}

/// The revision that `enabled` means.
const DEFAULT_REVISION: &str = "default";

/// Decides for a pod about to be created. `namespace_labels` are those of its namespace; where the pod does not name its
/// namespace, the label `kubernetes.io/metadata.name` does.
pub fn decide(pod: &Value, namespace_labels: &BTreeMap<String, String>, settings: &Settings) -> Decision {
    let mut warnings = Vec::new();
    let verdict = match Parts::read(pod) {
        Ok(pod) => verdict(&pod, namespace_labels, settings, &mut warnings),
        Err(error) => Verdict::Skip(Reason::Malformed(error.to_string())),
    };
    Decision { verdict, warnings }
}

fn verdict(
    pod: &Parts,
    namespace_labels: &BTreeMap<String, String>,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Verdict {
    if pod.spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        return Verdict::Skip(Reason::HostNetwork);
    }
    let name = namespace_labels.get(NAMESPACE_NAME).map(String::as_str);
    let name = pod.metadata_string("namespace").or(name).unwrap_or(DEFAULT_NAMESPACE);
    if SYSTEM_NAMESPACES.contains(&name) {
        return Verdict::Skip(Reason::SystemNamespace(name.to_owned()));
    }
    let namespace = Selection::of_namespace(namespace_labels, settings, warnings);
    let wish = pod_wish(pod, warnings);
    let (revision, reason) = match select(&namespace, wish, pod_revision(pod, settings), settings) {
        Ok(selected) => selected,
        Err(reason) => return Verdict::Skip(reason),
    };
    // The control plane cannot wait for itself: its namespace's label counts for nothing, a pod's own does (gateways).
    if name == settings.root_namespace && wish != Some(true) {
        return Verdict::Skip(Reason::SystemNamespace(name.to_owned()));
    }
    // A revision's injector also answers to `default` when it is the default one, which is what its settings say.
    if revision != settings.revision {
        return Verdict::Skip(Reason::OtherRevision(revision));
    }
    if let Some(container) = foreign_sidecar(pod) {
        return Verdict::Skip(Reason::ForeignSidecar(container));
    }
    Verdict::Inject(reason)
}

/// The table: which revision injects, or why none.
fn select(
    namespace: &Selection,
    wish: Option<bool>,
    pod_revision: Option<&str>,
    settings: &Settings,
) -> Result<(String, Reason), Reason> {
    let default = |reason| Ok((DEFAULT_REVISION.to_owned(), reason));
    match (namespace, wish, pod_revision) {
        (Selection::Disabled, _, _) => Err(Reason::Namespace),
        (_, Some(false), _) => Err(Reason::Pod),
        (Selection::Enabled, _, _) => default(Reason::Namespace),
        (Selection::Revision(revision), _, _) => Ok((revision.clone(), Reason::Namespace)),
        (Selection::Unset, _, Some(revision)) => Ok((revision.to_owned(), Reason::Pod)),
        (Selection::Unset, Some(true), None) => default(Reason::Pod),
        (Selection::Unset, None, None) if settings.namespaces_by_default => default(Reason::Default),
        (Selection::Unset, None, None) => Err(Reason::Default),
    }
}

/// What the labels of a namespace say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Selection {
    Unset,
    Enabled,
    Disabled,
    Revision(String),
}

impl Selection {
    fn of_namespace(labels: &BTreeMap<String, String>, settings: &Settings, warnings: &mut Vec<String>) -> Selection {
        let ours = Selection::read(labels, INJECTION, REVISION, warnings);
        match ours {
            Selection::Unset if settings.istio_labels => {
                Selection::read(labels, ISTIO_INJECTION, ISTIO_REVISION, warnings)
            }
            ours => ours,
        }
    }

    fn read(
        labels: &BTreeMap<String, String>,
        injection: &str,
        revision: &str,
        warnings: &mut Vec<String>,
    ) -> Selection {
        match (labels.get(injection).map(String::as_str), labels.get(revision)) {
            (Some("enabled"), _) => Selection::Enabled,
            (Some("disabled"), _) => Selection::Disabled,
            // Selectors know `enabled` only; anything else switches off, which nobody guesses.
            (Some(other), _) => {
                let other = quote(other);
                warnings.push(format!("namespace label {injection} is {other}: only enabled and disabled mean anything, so nothing is injected"));
                Selection::Disabled
            }
            (None, Some(revision)) if !revision.is_empty() => Selection::Revision(revision.clone()),
            (None, _) => Selection::Unset,
        }
    }
}

/// The pod's own yes or no: the label, or else the older annotation, of which only the no counts.
fn pod_wish(pod: &Parts, warnings: &mut Vec<String>) -> Option<bool> {
    let label = pod.label(SIDECAR_INJECT);
    match label.or_else(|| pod.annotation(SIDECAR_INJECT)) {
        Some("true") if label.is_some() => Some(true),
        Some("false") => Some(false),
        None | Some("" | "true") => None,
        Some(other) => {
            let other = quote(other);
            warnings.push(format!("{SIDECAR_INJECT} is {other}: only true and false mean anything"));
            None
        }
    }
}

fn pod_revision<'a>(pod: &'a Parts, settings: &Settings) -> Option<&'a str> {
    let istio = || if settings.istio_labels { pod.label(ISTIO_REVISION) } else { None };
    pod.label(REVISION).or_else(istio).filter(|revision| !revision.is_empty())
}

#[cfg(test)]
mod tests;
