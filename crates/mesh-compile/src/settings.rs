//! What holds for the whole mesh, as seen from one namespace.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mesh_core::config::{AccessLog, AccessLogFormat, MeshSettings, OutboundPolicy, PathNormalization};
use mesh_crd::mesh_config::{AccessLogEncoding, NormalizationType};
use mesh_crd::networking::OutboundMode;

use crate::Objects;
use crate::objects::entry_hosts;
use crate::view::{Definition, View};

/// The most prefixes in the settings.
const PREFIXES_MAX: usize = 256;

/// Ranges that every proxy counts as inside the mesh; they are not listed.
const PRIVATE_V4: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
const PRIVATE_V6: &str = "fc00::/7";

impl Objects {
    /// The settings for clients in `namespace`.
    pub fn compile_settings(&self, namespace: &str) -> MeshSettings {
        let mesh = &self.mesh;
        let normalization = mesh.path_normalization.as_ref().map(|setting| setting.normalization).unwrap_or_default();
        MeshSettings {
            mesh_prefixes: self.mesh_prefixes(),
            outbound_policy: self.outbound_policy(namespace),
            hosts_without_addresses: self.has_hosts_without_addresses(namespace),
            trust_domain: self.options.trust_domain.as_str().to_owned(),
            trust_domain_aliases: mesh.trust_domain_aliases.clone(),
            cluster_domain: self.options.cluster_domain.clone(),
            root_namespace: self.options.root_namespace.clone(),
            path_normalization: match normalization {
                NormalizationType::None => PathNormalization::None,
                NormalizationType::Default | NormalizationType::Base => PathNormalization::Base,
                NormalizationType::MergeSlashes => PathNormalization::MergeSlashes,
                NormalizationType::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
            },
            access_log: self.mesh_access_log(),
        }
    }

    /// The access log that MeshConfig asks for.
    pub(crate) fn mesh_access_log(&self) -> Option<AccessLog> {
        let file = self.mesh.access_log_file.clone();
        (!file.is_empty()).then(|| AccessLog { file, format: self.access_log_format() })
    }

    pub(crate) fn access_log_format(&self) -> AccessLogFormat {
        match self.mesh.access_log_encoding {
            AccessLogEncoding::Text => AccessLogFormat::Text,
            AccessLogEncoding::Json => AccessLogFormat::Json,
        }
    }

    /// What happens to unknown destinations: the namespace's Sidecar decides before the mesh. Settings that could not
    /// be read refuse, because their author wanted to say something about what gets out.
    fn outbound_policy(&self, namespace: &str) -> OutboundPolicy {
        let policy = |mode: OutboundMode| match mode {
            OutboundMode::RegistryOnly => OutboundPolicy::RegistryOnly,
            OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns => OutboundPolicy::AllowAny,
        };
        if let Some(sidecar) = self.sidecar_of(namespace) {
            if sidecar.issues.touching("spec.outboundTrafficPolicy").is_some() {
                return OutboundPolicy::RegistryOnly;
            }
            if let Some(own) = &sidecar.spec.outbound_traffic_policy {
                return policy(own.mode);
            }
        }
        if self.mesh_error.is_some() || self.mesh_issues.touching("outboundTrafficPolicy").is_some() {
            return OutboundPolicy::RegistryOnly;
        }
        let mode = self.mesh.outbound_traffic_policy.as_ref().and_then(|policy| policy.mode);
        mode.map_or(OutboundPolicy::AllowAny, policy)
    }

    /// Whether a host is visible that no address leads to: then clients ask by name.
    fn has_hosts_without_addresses(&self, namespace: &str) -> bool {
        let view = View::new(self, namespace);
        let entry = self.service_entries.values().any(|entry| {
            let seen = |host: &String| view.sees(Definition::Entry(entry), host).is_ok();
            entry.spec.addresses.is_empty() && entry_hosts(entry).iter().any(seen)
        });
        let alias = || {
            self.services.values().any(|service| {
                service.spec.spec.type_ == "ExternalName"
                    && view.sees(Definition::Service(service), &self.service_host(&service.key())).is_ok()
            })
        };
        let routed = || {
            self.virtual_services.values().any(|object| {
                let unknown = |host: &String| view.resolve(host).is_none() && view.sees_routes(object, host);
                self.route_hosts(object).iter().any(unknown)
            })
        };
        entry || alias() || routed()
    }

    /// The ranges in which addresses of the mesh lie, at most [`PREFIXES_MAX`]; private ranges are left out. Single
    /// addresses are widened (/24, /64), so that pods that come and go do not change every proxy's settings.
    fn mesh_prefixes(&self) -> Vec<IpNet> {
        let index = &self.index;
        let services = index.addresses.keys().chain(index.pods_by_ip.keys());
        let workloads = index.workloads_by_ip.keys().chain(index.endpoints_by_ip.keys());
        let singles = services.chain(workloads).map(|ip| IpNet::from(*ip));
        let inside: BTreeSet<IpNet> =
            singles.chain(index.networks.keys().copied()).map(|net| widen(net, 24, 64)).collect();
        let outside_private = inside.into_iter().filter(|net| !is_private(*net)).collect();
        aggregate(outside_private)
    }
}

/// A network with at most this many bits of prefix.
fn widen(net: IpNet, v4_bits: u8, v6_bits: u8) -> IpNet {
    let bits = if net.addr().is_ipv4() { v4_bits } else { v6_bits };
    IpNet::new(net.addr(), net.prefix_len().min(bits)).map_or(net, |net| net.trunc())
}

/// Whether an address makes, or may make, a prefix of the settings.
pub(crate) fn is_listed(ip: IpAddr) -> bool {
    !is_private(IpNet::from(ip))
}

fn is_private(net: IpNet) -> bool {
    let v6 = std::iter::once(PRIVATE_V6);
    PRIVATE_V4.into_iter().chain(v6).any(|range| range.parse::<IpNet>().is_ok_and(|range| range.contains(&net)))
}

/// Joined neighbours; as many as allowed, by making the prefixes shorter step by step until they fit.
fn aggregate(nets: Vec<IpNet>) -> Vec<IpNet> {
    let mut nets = IpNet::aggregate(&nets);
    let (mut v4_bits, mut v6_bits) = (24u8, 64u8);
    while nets.len() > PREFIXES_MAX {
        v4_bits = v4_bits.saturating_sub(2);
        v6_bits = v6_bits.saturating_sub(8);
        nets = IpNet::aggregate(&nets.iter().map(|net| widen(*net, v4_bits, v6_bits)).collect());
    }
    nets.sort_by_key(|net| match net {
        IpNet::V4(net) => (Some(*net), None::<Ipv6Net>),
        IpNet::V6(net) => (None::<Ipv4Net>, Some(*net)),
    });
    nets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_256_prefixes_and_every_address_inside() {
        let ips: Vec<IpNet> =
            (0u32..3000).map(|n| IpNet::from(std::net::IpAddr::from((n * 1_431_655).to_be_bytes()))).collect();
        let nets = aggregate(ips.iter().map(|net| widen(*net, 24, 64)).collect());
        assert!(nets.len() <= PREFIXES_MAX, "{}", nets.len());
        assert!(ips.iter().all(|ip| nets.iter().any(|net| net.contains(ip))));
    }
}
