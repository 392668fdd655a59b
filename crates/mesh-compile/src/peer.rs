//! PeerAuthentication: which mode of mutual TLS each port of a workload has.
//!
//! A policy with a selector in the workload's namespace, then the namespace's, then the root namespace's; the oldest
//! of each level. UNSET takes the next wider one; nothing at all is PERMISSIVE. A policy that could not be read
//! whole counts as STRICT: its author wanted to say something about who gets in.

use std::collections::BTreeMap;

use mesh_core::config::{MtlsMode, Origin};
use mesh_crd::kubernetes::Pod;
use mesh_crd::security::{MutualTls, MutualTlsMode, PeerAuthentication};
use mesh_crd::{Kind, Object};

use crate::Objects;
use crate::objects::{origin, selects, seniority};

/// The modes of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    /// On ports that no policy names.
    pub(crate) default: MtlsMode,
    pub(crate) default_origin: Option<Origin>,
    /// By the workload's port, where a policy names it.
    pub(crate) ports: BTreeMap<u16, MtlsMode>,
    pub(crate) ports_origin: Option<Origin>,
}

/// The modes of all ports that are known.
pub(crate) struct PortModes {
    pub(crate) default: MtlsMode,
    pub(crate) ports: BTreeMap<u16, MtlsMode>,
}

impl Objects {
    /// What the PeerAuthentications come to for a pod.
    pub(crate) fn modes(&self, pod: &Object<Pod>) -> Modes {
        let root = &self.options.root_namespace;
        let namespace = &pod.meta.namespace;
        let chosen = |namespace: &str, selected: bool| {
            let all = self.peer_authentications_of(namespace).filter(|policy| match labels_of(policy) {
                // Whom a selector that could not be read means is unknown, so it is everybody. The root namespace has no
                // selectors: there it is the whole mesh.
                _ if policy.issues.touching("spec.selector").is_some() => selected || namespace == root,
                Some(labels) => selected && selects(labels, &pod.meta.labels),
                None => !selected,
            });
            all.min_by(|a, b| seniority(a).cmp(&seniority(b))).map(|policy| &**policy)
        };
        let own = if namespace == root { None } else { chosen(namespace, true) };
        let levels = [own, chosen(namespace, false), chosen(root, false)];
        let mut modes = Modes::default();
        for policy in levels.into_iter().flatten() {
            if let Some(mode) = mode_of(policy) {
                (modes.default, modes.default_origin) = (mode, Some(origin(policy)));
                break;
            }
        }
        if let Some(policy) = own {
            let broken = !policy.issues.is_empty();
            for (port, mtls) in &policy.spec.port_level_mtls {
                let mode = if broken { Some(MtlsMode::Strict) } else { written(mtls) };
                if let (Ok(port), Some(mode)) = (u16::try_from(*port), mode) {
                    modes.ports.insert(port, mode);
                    modes.ports_origin = Some(origin(policy));
                }
            }
        }
        modes
    }

    /// The mode of every port that a service or a policy names.
    pub(crate) fn port_modes(&self, pod: &Object<Pod>) -> PortModes {
        let modes = self.modes(pod);
        let mut ports = modes.ports;
        for port in self.workload_ports(pod).into_keys() {
            ports.entry(port).or_insert(modes.default);
        }
        PortModes { default: modes.default, ports }
    }
}

/// The labels that a policy selects by; an empty selector is none.
fn labels_of(policy: &Object<PeerAuthentication>) -> Option<&BTreeMap<String, String>> {
    policy.spec.selector.as_ref().map(|selector| &selector.match_labels).filter(|labels| !labels.is_empty())
}

/// The mode that a policy sets for all ports, if any.
fn mode_of(policy: &Object<PeerAuthentication>) -> Option<MtlsMode> {
    if is_broken(policy) {
        return Some(MtlsMode::Strict);
    }
    policy.spec.mtls.as_ref().and_then(written)
}

/// Whether something of the policy's specification could not be read.
pub(crate) fn is_broken<T: Kind>(policy: &Object<T>) -> bool {
    policy.issues.iter().any(|issue| mesh_crd::path::is_within(&issue.path, "spec") || issue.path.is_empty())
}

fn written(mtls: &MutualTls) -> Option<MtlsMode> {
    match mtls.mode {
        MutualTlsMode::Unset => None,
        MutualTlsMode::Disable => Some(MtlsMode::Disable),
        MutualTlsMode::Permissive => Some(MtlsMode::Permissive),
        MutualTlsMode::Strict => Some(MtlsMode::Strict),
    }
}
