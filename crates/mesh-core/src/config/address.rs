//! What is behind an address or a host name: the on-demand keys of a proxy.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Endpoint, ServiceName};

/// The answer to `address/<ip>`. There always is one; absence is an answer and is updated like a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address that was asked for.
    pub address: IpAddr,
    /// What is there.
    pub answer: AddressAnswer,
}

/// What is behind an address, as seen from the asking proxy's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressAnswer {
    /// No workload, Service or ServiceEntry of the whole mesh has it: ALLOW_ANY passes, REGISTRY_ONLY refuses.
    Absent,
    /// A Service's (or ServiceEntry's) own address. Several services can share one (ServiceEntry); the port decides,
    /// the first that has it wins.
    Services(Vec<ServiceName>),
    /// A workload's address, dialled directly (headless service, pod address).
    Workload {
        /// The workload; `ports` of this endpoint is empty (ports are taken from `services`).
        endpoint: Arc<Endpoint>,
        /// The visible services that select the workload, ordered by name.
        services: Vec<ServiceName>,
    },
    /// It exists, but is not visible to the asking namespace. Under ALLOW_ANY it is opaque TCP, with mutual TLS to the
    /// owning workload where that is meshed; under REGISTRY_ONLY it is refused.
    Hidden {
        /// The owning workload, where the address is a workload's.
        endpoint: Option<Arc<Endpoint>>,
        /// Why it is hidden.
        reason: HiddenReason,
    },
}

/// Why something that exists is not visible to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HiddenReason {
    /// The service's `exportTo` does not include the asking namespace.
    ExportTo,
    /// The namespace's `Sidecar` does not list it.
    Sidecar,
}

/// The answer to `host/<name>:<port>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name that was asked for, lower case, without port and trailing dot.
    pub name: Arc<str>,
    /// The port on which the client spoke.
    pub port: u16,
    /// What it means.
    pub answer: HostAnswer,
}

/// What a host name means on a port, as seen from the asking proxy's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAnswer {
    /// Nothing visible has this name on this port.
    Absent,
    /// A service (short names are expanded in the asking namespace), with the table that routes it.
    Service(ServiceName),
    /// No service, but a VirtualService claims the host: only routes.
    Routes(ServiceName),
}
