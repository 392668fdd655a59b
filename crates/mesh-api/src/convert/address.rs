//! `Address` and `Host`.

use mesh_core::config::{AddressAnswer, HiddenReason};

use super::{Field, enumeration, message, message_fields, sum};
use crate::proto::mesh::v1 as wire;
use crate::{Invalid, Wire};

message!(Address { address, answer });
message!(Host { name, port, answer });
sum!(HostAnswer in host_answer { Service, Routes; Absent });
enumeration!(HiddenReason { ExportTo, Sidecar });
message_fields!(AddressAnswer);

impl Wire for AddressAnswer {
    type Proto = wire::AddressAnswer;

    fn to_wire(&self) -> Self::Proto {
        use wire::address_answer::Kind;
        let kind = match self {
            Self::Absent => Kind::Absent(wire::Empty {}),
            Self::Services(names) => Kind::Services(wire::ServiceNames { names: names.put() }),
            Self::Workload { endpoint, services } => {
                Kind::Workload(wire::AddressWorkload { endpoint: endpoint.put(), services: services.put() })
            }
            Self::Hidden { endpoint, reason } => {
                Kind::Hidden(wire::AddressHidden { endpoint: endpoint.put(), reason: reason.put() })
            }
        };
        Self::Proto { kind: Some(kind) }
    }

    fn from_wire(proto: Self::Proto) -> Result<Self, Invalid> {
        use wire::address_answer::Kind;
        match proto.kind {
            Some(Kind::Absent(wire::Empty {})) => Ok(Self::Absent),
            Some(Kind::Services(services)) => Field::take(services.names).map(Self::Services),
            Some(Kind::Workload(workload)) => Ok(Self::Workload {
                endpoint: Field::take(workload.endpoint).map_err(|error| error.within("endpoint"))?,
                services: Field::take(workload.services).map_err(|error| error.within("services"))?,
            }),
            Some(Kind::Hidden(hidden)) => Ok(Self::Hidden {
                endpoint: Field::take(hidden.endpoint).map_err(|error| error.within("endpoint"))?,
                reason: <HiddenReason as Field<i32>>::take(hidden.reason).map_err(|error| error.within("reason"))?,
            }),
            None => Err(Invalid::new("is no AddressAnswer")),
        }
    }
}
