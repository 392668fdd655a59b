//! Who talks, for telemetry: workload, canonical service, app and version of either side. Never used for policy.
//!
//! A client's proxy describes itself once per connection in [`MESH_PEER`](crate::http::hygiene::MESH_PEER), at most
//! [`DESCRIPTION_BYTES_MAX`] bytes; the server believes of it only names for series and log lines, and takes the
//! namespace from the verified identity.

use std::sync::Arc;

use http::HeaderValue;
use mesh_core::config::Workload;
use mesh_core::identity::SpiffeId;

/// Bytes of a description.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 1024;
/// What is said where nothing is known.
pub(crate) const UNKNOWN: &str = "unknown";

/// One side of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) workload: Arc<str>,
    pub(crate) namespace: Arc<str>,
    /// `spiffe://…`, where verified.
    pub(crate) principal: Arc<str>,
    pub(crate) canonical_service: Arc<str>,
    pub(crate) canonical_revision: Arc<str>,
    pub(crate) app: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) cluster: Arc<str>,
}

impl Peer {
    /// A side of which nothing is known.
    pub(crate) fn unknown() -> Self {
        let unknown: Arc<str> = UNKNOWN.into();
        Self {
            workload: Arc::clone(&unknown),
            namespace: Arc::clone(&unknown),
            principal: Arc::clone(&unknown),
            canonical_service: Arc::clone(&unknown),
            canonical_revision: Arc::clone(&unknown),
            app: Arc::clone(&unknown),
            version: Arc::clone(&unknown),
            cluster: unknown,
        }
    }

    /// A workload that configuration describes; `principal` where a connection proved it.
    pub(crate) fn of(workload: &Workload, principal: Option<&SpiffeId>) -> Self {
        Self {
            workload: known(&workload.name),
            namespace: known(&workload.namespace),
            principal: principal.map_or_else(|| UNKNOWN.into(), |id| id.as_str().into()),
            canonical_service: known(&workload.canonical_service),
            canonical_revision: match workload.canonical_revision.as_str() {
                "" if !workload.canonical_service.is_empty() => "latest".into(),
                revision => known(revision),
            },
            app: known(&workload.app),
            version: known(&workload.version),
            cluster: known(&workload.cluster),
        }
    }

    /// A verified peer of whose workload nothing is known yet.
    pub(crate) fn verified(identity: &SpiffeId) -> Self {
        Self { principal: identity.as_str().into(), namespace: identity.namespace().into(), ..Self::unknown() }
    }
}

fn known(text: &str) -> Arc<str> {
    if text.is_empty() { UNKNOWN.into() } else { text.into() }
}

/// The header by which this workload describes itself. `None` where a name is too long for it.
pub(crate) fn describe(workload: &Workload) -> Option<HeaderValue> {
    let parts = [
        ("w", &workload.name),
        ("s", &workload.canonical_service),
        ("r", &workload.canonical_revision),
        ("a", &workload.app),
        ("v", &workload.version),
        ("c", &workload.cluster),
    ];
    let mut text = String::new();
    for (key, value) in parts {
        if !value.is_empty() && value.bytes().all(is_plain) {
            text.push_str(key);
            text.push('=');
            text.push_str(value);
            text.push(';');
        }
    }
    if text.len() > DESCRIPTION_BYTES_MAX { None } else { HeaderValue::from_str(&text).ok() }
}

/// Reads a description by a verified peer. What is malformed is left out: it only names series.
pub(crate) fn read(description: &HeaderValue, identity: &SpiffeId) -> Peer {
    let mut workload = Workload { namespace: identity.namespace().to_owned(), ..Workload::default() };
    let text = description.to_str().ok().filter(|text| text.len() <= DESCRIPTION_BYTES_MAX).unwrap_or_default();
    for part in text.split(';') {
        let Some((key, value)) = part.split_once('=') else { continue };
        if !value.bytes().all(is_plain) {
            continue;
        }
        let field = match key {
            "w" => &mut workload.name,
            "s" => &mut workload.canonical_service,
            "r" => &mut workload.canonical_revision,
            "a" => &mut workload.app,
            "v" => &mut workload.version,
            "c" => &mut workload.cluster,
            _ => continue,
        };
        value.clone_into(field);
    }
    Peer::of(&workload, Some(identity))
}

/// Characters of Kubernetes' names and label values.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> SpiffeId {
        "spiffe://cluster.local/ns/bookinfo/sa/web".parse().unwrap()
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let workload = Workload {
            name: "web-v1".into(),
            namespace: "elsewhere".into(),
            canonical_service: "web".into(),
            app: "web".into(),
            version: "v1".into(),
            cluster: "Kubernetes".into(),
            ..Workload::default()
        };
        let peer = read(&describe(&workload).unwrap(), &identity());
        assert_eq!((&*peer.workload, &*peer.canonical_service, &*peer.canonical_revision), ("web-v1", "web", "latest"));
        // The namespace is the identity's, whatever the peer says.
        assert_eq!((&*peer.namespace, &*peer.principal), ("bookinfo", "spiffe://cluster.local/ns/bookinfo/sa/web"));
    }

    #[test]
    fn a_hostile_description_names_nothing() {
        let peer = read(&HeaderValue::from_static("w=a\"b{};s;=;v=1\t2;zz=3"), &identity());
        assert_eq!((&*peer.workload, &*peer.version, &*peer.canonical_service), ("unknown", "unknown", "unknown"));
        let long = HeaderValue::from_str(&format!("w={}", "a".repeat(DESCRIPTION_BYTES_MAX))).unwrap();
        assert_eq!(&*read(&long, &identity()).workload, "unknown");
    }
}
