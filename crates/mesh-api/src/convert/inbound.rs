//! `Inbound`.

use mesh_core::config::{AccessLog, ServiceName};

use super::{Field, enumeration, message};
use crate::Invalid;
use crate::proto::mesh::v1 as wire;

message!(Inbound {
    uid,
    identity,
    addresses,
    labels,
    workload,
    locality,
    ports,
    mtls,
    mtls_origin,
    policies,
    access_log,
    draining,
});
message!(InboundPort { protocol, mtls, mtls_origin, service });
enumeration!(MtlsMode { Permissive, Strict, Disable });

impl Field<wire::InboundService> for (ServiceName, u16) {
    fn put(&self) -> wire::InboundService {
        wire::InboundService { name: self.0.put(), port: self.1.put() }
    }

    fn take(wire: wire::InboundService) -> Result<Self, Invalid> {
        let name = Field::take(wire.name).map_err(|error: Invalid| error.within("name"))?;
        Ok((name, Field::take(wire.port).map_err(|error: Invalid| error.within("port"))?))
    }
}

impl Field<wire::AccessLogOverride> for Option<AccessLog> {
    fn put(&self) -> wire::AccessLogOverride {
        wire::AccessLogOverride { log: Field::put(self) }
    }

    fn take(wire: wire::AccessLogOverride) -> Result<Self, Invalid> {
        Field::take(wire.log)
    }
}
