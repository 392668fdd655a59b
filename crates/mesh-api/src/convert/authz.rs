//! `AuthzPolicy` and its terms.

use mesh_core::config::Term;

use super::{Field, enumeration, message, message_fields, sum};
use crate::proto::mesh::v1 as wire;
use crate::{Invalid, Wire};

message!(AuthzPolicy { origin, action, dry_run, rules });
enumeration!(AuthzAction { Allow, Deny, Audit, Custom });
message!(AuthzRule { from, to, when });
message!(Source { terms });
message!(Operation { terms });
message!(Condition { terms });
sum!(ValueMatch in value_match { Exact, Prefix, Suffix, Template; Present });
message_fields!(Term);

impl Wire for Term {
    type Proto = wire::Term;

    fn to_wire(&self) -> Self::Proto {
        use wire::term::Kind;
        let (not, kind) = match self {
            Self::Principal { not, values } => (*not, Kind::Principal(wire::Values { values: values.put() })),
            Self::Namespace { not, values } => (*not, Kind::Namespace(wire::Values { values: values.put() })),
            Self::ServiceAccount { not, values } => (*not, Kind::ServiceAccount(wire::Names { values: values.put() })),
            Self::TrustDomain { not, values } => (*not, Kind::TrustDomain(wire::Values { values: values.put() })),
            Self::SourceIp { not, values } => (*not, Kind::SourceIp(wire::Names { values: values.put() })),
            Self::DestinationIp { not, values } => (*not, Kind::DestinationIp(wire::Names { values: values.put() })),
            Self::DestinationPort { not, values } => {
                (*not, Kind::DestinationPort(wire::Ports { values: values.put() }))
            }
            Self::Sni { not, values } => (*not, Kind::Sni(wire::Values { values: values.put() })),
            Self::Host { not, values } => (*not, Kind::Host(wire::Values { values: values.put() })),
            Self::Method { not, values } => (*not, Kind::Method(wire::Values { values: values.put() })),
            Self::Path { not, values } => (*not, Kind::Path(wire::Values { values: values.put() })),
            Self::Header { name, not, values } => {
                (*not, Kind::Header(wire::HeaderValues { name: name.put(), values: values.put() }))
            }
            Self::Unknown { field, http_only } => {
                (false, Kind::Unknown(wire::UnknownTerm { field: field.put(), http_only: *http_only }))
            }
        };
        Self::Proto { not, kind: Some(kind) }
    }

    fn from_wire(proto: Self::Proto) -> Result<Self, Invalid> {
        use wire::term::Kind;
        let not = proto.not;
        let values = |error: Invalid| error.within("values");
        let kind = proto.kind.ok_or_else(|| Invalid::new("is no Term"))?;
        Ok(match kind {
            Kind::Principal(list) => Self::Principal { not, values: Field::take(list.values).map_err(values)? },
            Kind::Namespace(list) => Self::Namespace { not, values: Field::take(list.values).map_err(values)? },
            Kind::ServiceAccount(list) => {
                Self::ServiceAccount { not, values: Field::take(list.values).map_err(values)? }
            }
            Kind::TrustDomain(list) => Self::TrustDomain { not, values: Field::take(list.values).map_err(values)? },
            Kind::SourceIp(list) => Self::SourceIp { not, values: Field::take(list.values).map_err(values)? },
            Kind::DestinationIp(list) => Self::DestinationIp { not, values: Field::take(list.values).map_err(values)? },
            Kind::DestinationPort(list) => {
                Self::DestinationPort { not, values: Field::take(list.values).map_err(values)? }
            }
            Kind::Sni(list) => Self::Sni { not, values: Field::take(list.values).map_err(values)? },
            Kind::Host(list) => Self::Host { not, values: Field::take(list.values).map_err(values)? },
            Kind::Method(list) => Self::Method { not, values: Field::take(list.values).map_err(values)? },
            Kind::Path(list) => Self::Path { not, values: Field::take(list.values).map_err(values)? },
            Kind::Header(header) => Self::Header {
                name: Field::take(header.name)?,
                not,
                values: Field::take(header.values).map_err(values)?,
            },
            Kind::Unknown(unknown) => {
                Self::Unknown { field: Field::take(unknown.field)?, http_only: unknown.http_only }
            }
        })
    }
}
