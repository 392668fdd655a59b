//! `Endpoint`.

use super::{enumeration, message};
use crate::Invalid;

message!(Endpoint {
    uid, addresses, hostname, network, locality, identity, labels, ports, health, weight, proxy, mesh_tls,
    plaintext_ports, workload,
} check |endpoint| {
    if endpoint.weight == 0 {
        return Err(Invalid::new("is 0").within("weight"));
    }
    if endpoint.uid.contains('*') {
        return Err(Invalid::new("would be a collection's name").within("uid"));
    }
    Ok(())
});
message!(Locality { region, zone, subzone });
message!(Workload { name, namespace, canonical_service, canonical_revision, app, version, cluster, pod });
enumeration!(Health { Healthy, Draining, Unhealthy });
enumeration!(ProxyKind { None, Mesh, Istio });
