//! Names: of services, of resources on the wire, and of the object that somebody wrote.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// The object that a piece of configuration came from, so that a rejection, a log line or `meshctl why` can name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// For example `VirtualService`.
    pub kind: String,
    /// The object's namespace; empty for what is not namespaced.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// `metadata.generation`; for files a hash of the object's spec.
    pub generation: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{}/{}", self.kind, self.name),
            namespace => write!(f, "{}/{namespace}/{}", self.kind, self.name),
        }
    }
}

/// A service: the namespace of the object that defines it, and its host (`reviews.bookinfo.svc.cluster.local`).
///
/// The host is lower case and has no trailing dot. A ServiceEntry with several hosts makes one service per host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Namespace of the Service or ServiceEntry.
    pub namespace: Arc<str>,
    /// Fully qualified host, lower case; may begin with `*.` for a wildcard ServiceEntry.
    pub host: Arc<str>,
}

impl ServiceName {
    /// Makes a name; the caller has lower-cased the host and cut its trailing dot.
    #[must_use]
    pub fn new(namespace: &str, host: &str) -> Self {
        Self { namespace: namespace.into(), host: host.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.host)
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((namespace, host)) if !namespace.is_empty() && !host.is_empty() && !host.contains('/') => {
                Ok(Self::new(namespace, host))
            }
            _ => Err(NameError),
        }
    }
}

/// The kinds of resource, each a type URL `type.googleapis.com/mesh.v1.<kind>` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// [`super::MeshSettings`].
    MeshSettings,
    /// [`super::Inbound`].
    Inbound,
    /// [`super::Address`].
    Address,
    /// [`super::Host`].
    Host,
    /// [`super::Service`].
    Service,
    /// [`super::Endpoint`].
    Endpoint,
    /// [`super::RouteTable`].
    RouteTable,
}

impl ResourceKind {
    /// All kinds, in the order in which a proxy needs them.
    pub const ALL: [Self; 7] =
        [Self::MeshSettings, Self::Inbound, Self::Address, Self::Host, Self::Service, Self::Endpoint, Self::RouteTable];

    /// The message's name within `mesh.v1`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MeshSettings => "MeshSettings",
            Self::Inbound => "Inbound",
            Self::Address => "Address",
            Self::Host => "Host",
            Self::Service => "Service",
            Self::Endpoint => "Endpoint",
            Self::RouteTable => "RouteTable",
        }
    }
}

/// A resource's name on the wire, parsed. `to_string` and `parse` are inverse (property-tested).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceName {
    /// `settings`.
    MeshSettings,
    /// `inbound/<uid>`.
    Inbound(Arc<str>),
    /// `address/<ip>`.
    Address(IpAddr),
    /// `host/<name>:<port>`: lower case, no trailing dot.
    Host(Arc<str>, u16),
    /// `service/<namespace>/<host>`.
    Service(ServiceName),
    /// `endpoints/<namespace>/<host>/<uid>`.
    Endpoint(ServiceName, Arc<str>),
    /// `endpoints/<namespace>/<host>/*`: the whole collection. As a resource, it ends the first answer (member count).
    Endpoints(ServiceName),
    /// `routes/<namespace>/<host>`.
    RouteTable(ServiceName),
}

/// A text that is not a resource's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a resource name of mesh.v1")]
pub struct NameError;

impl ResourceName {
    /// The kind of resource that the name stands for.
    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::MeshSettings => ResourceKind::MeshSettings,
            Self::Inbound(_) => ResourceKind::Inbound,
            Self::Address(_) => ResourceKind::Address,
            Self::Host(..) => ResourceKind::Host,
            Self::Service(_) => ResourceKind::Service,
            Self::Endpoint(..) | Self::Endpoints(_) => ResourceKind::Endpoint,
            Self::RouteTable(_) => ResourceKind::RouteTable,
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MeshSettings => f.write_str("settings"),
            Self::Inbound(uid) => write!(f, "inbound/{uid}"),
            Self::Address(ip) => write!(f, "address/{ip}"),
            Self::Host(name, port) => write!(f, "host/{name}:{port}"),
            Self::Service(service) => write!(f, "service/{service}"),
            Self::Endpoint(service, uid) => write!(f, "endpoints/{service}/{uid}"),
            Self::Endpoints(service) => write!(f, "endpoints/{service}/*"),
            Self::RouteTable(service) => write!(f, "routes/{service}"),
        }
    }
}

impl FromStr for ResourceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "settings" {
            return Ok(Self::MeshSettings);
        }
        let (head, rest) = text.split_once('/').ok_or(NameError)?;
        match head {
            "inbound" if !rest.is_empty() && !rest.contains('/') => Ok(Self::Inbound(rest.into())),
            "address" => Ok(Self::Address(rest.parse().map_err(|_| NameError)?)),
            "host" => {
                let (name, port) = rest.rsplit_once(':').ok_or(NameError)?;
                let port = port.parse().map_err(|_| NameError)?;
                if name.is_empty() { Err(NameError) } else { Ok(Self::Host(name.into(), port)) }
            }
            "service" => Ok(Self::Service(rest.parse()?)),
            "routes" => Ok(Self::RouteTable(rest.parse()?)),
            "endpoints" => {
                let (service, uid) = rest.rsplit_once('/').ok_or(NameError)?;
                let service = service.parse()?;
                match uid {
                    "" => Err(NameError),
                    "*" => Ok(Self::Endpoints(service)),
                    uid => Ok(Self::Endpoint(service, uid.into())),
                }
            }
            _ => Err(NameError),
        }
    }
}
