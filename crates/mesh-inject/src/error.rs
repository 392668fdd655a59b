//! Why a pod cannot be injected: always the pod's author's to fix, so every text names the field and the way out.

/// An injection that was refused. The pod is not changed at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value is not shaped like a pod.
    #[error("not a pod: {field} must be {expected}")]
    Malformed {
        /// Path of the field.
        field: String,
        /// What was expected there.
        expected: &'static str,
    },
    /// An annotation's value does not mean anything.
    #[error("invalid value {value} for annotation '{annotation}': {problem}")]
    Annotation {
        /// Name of the annotation.
        annotation: &'static str,
        /// The value, escaped and shortened.
        value: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The pod uses the node's network, where there is nothing to capture.
    #[error(
        "the pod has hostNetwork: true; its traffic is the node's and cannot be captured: set hostNetwork: false, or label the pod sidecar.istio.io/inject: \"false\""
    )]
    HostNetwork,
    /// The pod has something of its own under a name that injection uses.
    #[error("{what} '{name}' has a name that is reserved for the mesh: rename it")]
    ReservedName {
        /// Container or volume.
        what: &'static str,
        /// The name.
        name: &'static str,
    },
    /// The application's metrics port is the proxy's.
    #[error(
        "annotation 'prometheus.io/port' names port {port}, which the proxy uses itself: name the port on which the application serves metrics"
    )]
    MetricsPort {
        /// The port.
        port: u16,
    },
    /// Another mesh's sidecar is in the pod already.
    #[error(
        "the pod carries Istio's sidecar already ({container}); two proxies cannot capture one pod: remove it, or label the pod sidecar.istio.io/inject: \"false\""
    )]
    ForeignSidecar {
        /// Which container says so.
        container: String,
    },
}

/// Longest excerpt of a pod's own words in an error, in characters.
const EXCERPT_CHARS_MAX: usize = 80;

/// Quotes a pod author's text for a message: escaped, so that it cannot forge a log line, and short.
pub(crate) fn quote(text: &str) -> String {
    let mut excerpt: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    format!("{excerpt:?}")
}
