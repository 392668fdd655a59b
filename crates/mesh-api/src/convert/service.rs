//! `Service` and its traffic policies.

use std::collections::BTreeMap;

use mesh_core::config::{ClientTls, HashKey};

use super::{Field, message, message_fields, sum};
use crate::proto::mesh::v1 as wire;
use crate::{Invalid, Wire};

message!(Service { name, origin, rules, addresses, resolution, external, ports, subsets });
sum!(Resolution in resolution { ExternalName; Endpoints, Headless, OriginalDestination, Dns });
message!(ServicePort { number, name, protocol, policy });
message!(Subset { labels, policies });
message!(TrafficPolicy { balancer, pool, outlier, tls, locality, retry_budget_percent, retry_min_concurrency });
sum!(Balancer in balancer { ConsistentHash; LeastRequest, RoundRobin, Random, Passthrough });
message!(HashSpec { key, table });
sum!(HashTable in hash_table { Ring, Maglev; });
message!(ConnectionPool {
    connect_timeout,
    tcp_idle_timeout,
    max_connection_duration,
    keepalive,
    http_idle_timeout,
    requests_per_connection_max,
    upgrade_to_http2,
    use_client_protocol,
    limits,
});
message!(TcpKeepalive { probes, time, interval });
message!(CircuitLimits { connections_max, pending_max, requests_max, retries_max });
message!(OutlierDetection {
    consecutive_5xx,
    consecutive_gateway_errors,
    consecutive_local_failures,
    split_local_errors,
    interval,
    base_ejection_time,
    max_ejection_percent,
    min_health_percent,
});
message!(LocalityFailover { disabled, failover, priority, distribute });
message_fields!(HashKey);
message_fields!(ClientTls);

impl Wire for HashKey {
    type Proto = wire::HashKey;

    fn to_wire(&self) -> Self::Proto {
        use wire::hash_key::Kind;
        let kind = match self {
            Self::Header(name) => Kind::Header(name.put()),
            Self::Cookie { name, path, ttl } => {
                Kind::Cookie(wire::HashCookie { name: name.put(), path: path.put(), ttl: ttl.put() })
            }
            Self::SourceIp => Kind::SourceIp(wire::Empty {}),
            Self::Query(name) => Kind::Query(name.put()),
        };
        Self::Proto { kind: Some(kind) }
    }

    fn from_wire(proto: Self::Proto) -> Result<Self, Invalid> {
        use wire::hash_key::Kind;
        match proto.kind {
            Some(Kind::Header(name)) => Field::take(name).map(Self::Header),
            Some(Kind::Cookie(wire::HashCookie { name, path, ttl })) => {
                Ok(Self::Cookie { name: Field::take(name)?, path: Field::take(path)?, ttl: Field::take(ttl)? })
            }
            Some(Kind::SourceIp(wire::Empty {})) => Ok(Self::SourceIp),
            Some(Kind::Query(name)) => Field::take(name).map(Self::Query),
            None => Err(Invalid::new("is no HashKey")),
        }
    }
}

impl Wire for ClientTls {
    type Proto = wire::ClientTls;

    fn to_wire(&self) -> Self::Proto {
        use wire::client_tls::Kind;
        let kind = match self {
            Self::Auto => Kind::Auto(wire::Empty {}),
            Self::Disable => Kind::Disable(wire::Empty {}),
            Self::Mutual { subject_alt_names, sni } => {
                Kind::Mutual(wire::MutualTls { subject_alt_names: subject_alt_names.put(), sni: sni.put() })
            }
            Self::Simple { sni, subject_alt_names, insecure_skip_verify } => Kind::Simple(wire::SimpleTls {
                sni: sni.put(),
                subject_alt_names: subject_alt_names.put(),
                insecure_skip_verify: *insecure_skip_verify,
            }),
            Self::Unsupported(what) => Kind::Unsupported(what.put()),
        };
        Self::Proto { kind: Some(kind) }
    }

    fn from_wire(proto: Self::Proto) -> Result<Self, Invalid> {
        use wire::client_tls::Kind;
        match proto.kind {
            Some(Kind::Auto(wire::Empty {})) => Ok(Self::Auto),
            Some(Kind::Disable(wire::Empty {})) => Ok(Self::Disable),
            Some(Kind::Mutual(wire::MutualTls { subject_alt_names, sni })) => {
                Ok(Self::Mutual { subject_alt_names: Field::take(subject_alt_names)?, sni: Field::take(sni)? })
            }
            Some(Kind::Simple(wire::SimpleTls { sni, subject_alt_names, insecure_skip_verify })) => Ok(Self::Simple {
                sni: Field::take(sni)?,
                subject_alt_names: Field::take(subject_alt_names)?,
                insecure_skip_verify,
            }),
            Some(Kind::Unsupported(what)) => Field::take(what).map(Self::Unsupported),
            None => Err(Invalid::new("is no ClientTls")),
        }
    }
}

impl Field<wire::LocalityShares> for BTreeMap<String, u32> {
    fn put(&self) -> wire::LocalityShares {
        wire::LocalityShares { shares: Field::put(self) }
    }

    fn take(wire: wire::LocalityShares) -> Result<Self, Invalid> {
        Field::take(wire.shares)
    }
}
