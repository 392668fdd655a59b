//! The configuration model: what the control plane tells a proxy, in the mesh's own words.
//!
//! The compiler (`mesh-compile`) makes these values from Kubernetes' objects, the wire (`mesh-api`) carries them, and
//! the proxy decides by them. They are plain data: no wire types, no Kubernetes types, no clock. Every collection is
//! ordered, so that equal configuration has equal bytes and a resource's version can be the hash of its bytes.
//!
//! | resource | its name on the wire | answers |
//! |---|---|---|
//! | [`MeshSettings`] | `settings` | what holds for the whole mesh, as seen from the proxy's namespace |
//! | [`Address`] | `address/<ip>` | what is behind an address |
//! | [`Host`] | `host/<name>:<port>` | which service and routes a host name means on a port |
//! | [`Service`] | `service/<namespace>/<host>` | ports, protocols and how clients treat it |
//! | [`Endpoint`] | `endpoints/<namespace>/<host>/<uid>` | one workload of a service; subscribed as `endpoints/<namespace>/<host>/*` |
//! | [`RouteTable`] | `routes/<namespace>/<host>` | where requests to a host go |
//! | [`Inbound`] | `inbound/<uid>` | what a workload accepts, and from whom |
//!
//! Names are the same for every proxy; the *content* is as seen from the authenticated namespace of the proxy that asks.

mod address;
mod authz;
mod endpoint;
mod inbound;
mod matching;
mod names;
mod route;
mod service;
mod settings;

pub use address::{Address, AddressAnswer, HiddenReason, Host, HostAnswer};
pub use authz::{AuthzAction, AuthzPolicy, AuthzRule, Condition, Operation, Source, Term, ValueMatch};
pub use endpoint::{Endpoint, Health, Locality, ProxyKind, Workload};
pub use inbound::{Inbound, InboundPort, MtlsMode};
pub use matching::{HeaderMatch, HostPattern, QueryMatch, StringMatch};
pub use names::{NameError, Origin, ResourceKind, ResourceName, ServiceName};
pub use route::{
    Abort, Delay, Destination, DirectResponse, Fault, HeaderEdits, HttpAction, HttpMatch, HttpRule, L4Match, Percent,
    Redirect, RedirectPort, RetryOn, RetryPolicy, Rewrite, RouteTable, TcpRule, TlsRule, WeightedDestination,
};
pub use service::{
    Balancer, CircuitLimits, ClientTls, ConnectionPool, HashKey, HashSpec, HashTable, LocalityFailover,
    OutlierDetection, Protocol, Resolution, Service, ServicePort, Subset, TcpKeepalive, TrafficPolicy,
};
pub use settings::{AccessLog, AccessLogFormat, MeshSettings, OutboundPolicy, PathNormalization};
