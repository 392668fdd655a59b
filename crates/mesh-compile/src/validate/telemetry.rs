//! Telemetry objects.

use mesh_crd::Object;
use mesh_crd::telemetry::Telemetry;

use super::conflict;
use crate::Objects;
use crate::problem::{Code, Problems};
use crate::telemetry::is_built;

impl Objects {
    pub(super) fn check_telemetry(&self, object: &Object<Telemetry>, problems: &mut Problems) {
        let spec = &object.spec;
        if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
            let message = "objects that are attached to gateways or waypoints are not built: it does not act";
            problems.error(Code::NotActing, "spec.targetRefs", message, "use a selector for sidecars");
        }
        if !spec.tracing.is_empty() {
            problems.unsupported("spec.tracing", "no spans are sent; trace headers pass through");
        }
        if !spec.metrics.is_empty() {
            problems.unsupported("spec.metrics", "metrics keep their names and labels, and all are on");
        }
        for (index, logging) in spec.access_logging.iter().enumerate() {
            if !is_built(logging) {
                let field = format!("spec.accessLogging[{index}]");
                problems.unsupported(&field, "an entry with another provider, one side only, or a filter does not act");
            }
        }
        let labels = |object: &Object<Telemetry>| {
            let labels = object.spec.selector.as_ref().map(|selector| selector.match_labels.clone());
            labels.filter(|labels| !labels.is_empty())
        };
        let own = labels(object);
        self.check_selector(&object.meta.namespace, own.as_ref(), "spec.selector.matchLabels", problems);
        let same: Vec<_> = self
            .telemetries_of(&object.meta.namespace)
            .filter(|other| other.key() != object.key() && labels(other) == own)
            .map(|other| &**other)
            .collect();
        conflict(object, &same, "spec.selector", "the same workloads are selected", problems);
    }
}
