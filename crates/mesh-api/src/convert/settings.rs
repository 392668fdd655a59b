//! `MeshSettings`.

use super::{enumeration, message};
use crate::Invalid;
use crate::limits::MESH_PREFIXES_MAX;

message!(MeshSettings {
    mesh_prefixes, outbound_policy, hosts_without_addresses, trust_domain, trust_domain_aliases, cluster_domain,
    root_namespace, path_normalization, access_log,
} check |settings| match settings.mesh_prefixes.len() {
    0..=MESH_PREFIXES_MAX => Ok(()),
    count => Err(Invalid::new(format!("{count} prefixes, more than {MESH_PREFIXES_MAX}")).within("mesh_prefixes")),
});
enumeration!(OutboundPolicy { AllowAny, RegistryOnly });
enumeration!(PathNormalization { None, Base, MergeSlashes, DecodeAndMergeSlashes });
