//! Telemetry objects: what they change of a workload's access log. Their other wishes are reported, not built.

use mesh_core::config::AccessLog;
use mesh_crd::Object;
use mesh_crd::kubernetes::Pod;
use mesh_crd::telemetry::{AccessLogging, Telemetry, WorkloadMode};

use crate::Objects;
use crate::objects::{selects, seniority};

/// Istio's built-in access log provider.
pub(crate) const BUILT_IN_PROVIDER: &str = "envoy";
/// Where the built-in provider writes.
const BUILT_IN_FILE: &str = "/dev/stdout";

impl Objects {
    /// The access log of a pod where Telemetry objects change the mesh's; `Some(None)` is off.
    pub(crate) fn access_log_of(&self, pod: &Object<Pod>) -> Option<Option<AccessLog>> {
        let chosen = |namespace: &str, selected: bool| {
            let all = self.telemetries_of(namespace).filter(|object| match labels_of(object) {
                Some(labels) => selected && selects(labels, &pod.meta.labels),
                None => !selected,
            });
            let all = all.filter(|object| object.spec.target_ref.is_none() && object.spec.target_refs.is_empty());
            all.min_by(|a, b| seniority(a).cmp(&seniority(b)))
        };
        let root = &self.options.root_namespace;
        let namespace = &pod.meta.namespace;
        // The most specific object that says something about access logs decides.
        let own_root = if namespace == root { None } else { chosen(root, false) };
        let levels = [chosen(namespace, true), chosen(namespace, false), own_root];
        let deciding = levels.into_iter().flatten().find(|object| !object.spec.access_logging.is_empty())?;
        let logging = deciding.spec.access_logging.iter().find(|logging| is_built(logging))?;
        if logging.disabled == Some(true) {
            return Some(None);
        }
        let mesh = self.mesh_access_log();
        let file = mesh.map_or_else(|| BUILT_IN_FILE.to_owned(), |log| log.file);
        Some(Some(AccessLog { file, format: self.access_log_format() }))
    }
}

/// Whether an entry can be obeyed: both sides, the built-in provider, no filter.
pub(crate) fn is_built(logging: &AccessLogging) -> bool {
    let both = |mode| matches!(mode, WorkloadMode::Unspecified | WorkloadMode::ClientAndServer);
    let ours = logging.providers.iter().all(|provider| provider.name == BUILT_IN_PROVIDER);
    ours && logging.filter.is_none() && logging.match_.as_ref().is_none_or(|of| both(of.mode))
}

fn labels_of(object: &Object<Telemetry>) -> Option<&std::collections::BTreeMap<String, String>> {
    object.spec.selector.as_ref().map(|selector| &selector.match_labels).filter(|labels| !labels.is_empty())
}
