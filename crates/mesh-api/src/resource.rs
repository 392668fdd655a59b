//! A configuration value with its name, and the same as bytes with a version.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use mesh_core::config::{
    Address, Endpoint, Host, Inbound, MeshSettings, ResourceKind, ResourceName, RouteTable, Service, ServiceName,
};
use prost::{Message, Name};
use sha2::{Digest, Sha256};

use crate::limits::{NAME_BYTES_MAX, REJECTIONS_MAX, RESOURCE_BYTES_MAX, TEXT_BYTES_MAX};
use crate::proto::{self, Any, mesh::v1 as wire};
use crate::{Invalid, Wire};

/// Characters of a version: 64 bits of SHA-256 as hexadecimal digits.
pub const VERSION_CHARS: usize = 16;

/// A value of the configuration model, under its name on the wire. Large values are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `settings`.
    MeshSettings(Arc<MeshSettings>),
    /// `inbound/<uid>`.
    Inbound(Arc<Inbound>),
    /// `address/<ip>`.
    Address(Arc<Address>),
    /// `host/<name>:<port>`.
    Host(Arc<Host>),
    /// `service/<namespace>/<host>`.
    Service(Arc<Service>),
    /// `endpoints/<namespace>/<host>/<uid>`.
    Endpoint(ServiceName, Arc<Endpoint>),
    /// `endpoints/<namespace>/<host>/*`: all members were sent; how many there are.
    EndpointsComplete(ServiceName, u32),
    /// `routes/<namespace>/<host>`.
    RouteTable(Arc<RouteTable>),
}

impl Resource {
    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> ResourceName {
        match self {
            Self::MeshSettings(_) => ResourceName::MeshSettings,
            Self::Inbound(inbound) => ResourceName::Inbound(inbound.uid.clone()),
            Self::Address(address) => ResourceName::Address(address.address),
            Self::Host(host) => ResourceName::Host(host.name.clone(), host.port),
            Self::Service(service) => ResourceName::Service(service.name.clone()),
            Self::Endpoint(service, endpoint) => ResourceName::Endpoint(service.clone(), endpoint.uid.clone()),
            Self::EndpointsComplete(service, _) => ResourceName::Endpoints(service.clone()),
            Self::RouteTable(table) => ResourceName::RouteTable(table.name.clone()),
        }
    }
}

/// A resource as it is sent: encoded once, shared by all streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its name.
    pub name: Arc<str>,
    /// Hash of `bytes`, [`VERSION_CHARS`] long.
    pub version: Arc<str>,
    /// Type URL of the message in `bytes`.
    pub type_url: Arc<str>,
    /// The message.
    pub bytes: Bytes,
}

impl Encoded {
    /// The form in a response. Shares the bytes.
    #[must_use]
    pub fn to_wire(&self) -> proto::discovery::Resource {
        proto::discovery::Resource {
            name: self.name.to_string(),
            version: self.version.to_string(),
            resource: Some(Any { type_url: self.type_url.to_string(), value: self.bytes.clone() }),
        }
    }
}

/// The type URL of a kind: what a proxy names in its requests.
#[must_use]
pub const fn type_url(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::MeshSettings => "type.googleapis.com/mesh.v1.MeshSettings",
        ResourceKind::Inbound => "type.googleapis.com/mesh.v1.Inbound",
        ResourceKind::Address => "type.googleapis.com/mesh.v1.Address",
        ResourceKind::Host => "type.googleapis.com/mesh.v1.Host",
        ResourceKind::Service => "type.googleapis.com/mesh.v1.Service",
        ResourceKind::Endpoint => "type.googleapis.com/mesh.v1.Endpoint",
        ResourceKind::RouteTable => "type.googleapis.com/mesh.v1.RouteTable",
    }
}

/// The kind that a type URL stands for; `None` if it is not one of ours.
#[must_use]
pub fn kind_of(type_url: &str) -> Option<ResourceKind> {
    ResourceKind::ALL.into_iter().find(|kind| self::type_url(*kind) == type_url)
}

/// Encodes a resource and derives its version.
#[must_use]
pub fn encode(resource: &Resource) -> Encoded {
    fn message<W: Wire>(value: &W) -> (String, Bytes) {
        (W::Proto::type_url(), value.to_wire().encode_to_vec().into())
    }
    let (type_url, bytes) = match resource {
        Resource::MeshSettings(value) => message(value.as_ref()),
        Resource::Inbound(value) => message(value.as_ref()),
        Resource::Address(value) => message(value.as_ref()),
        Resource::Host(value) => message(value.as_ref()),
        Resource::Service(value) => message(value.as_ref()),
        Resource::Endpoint(_, value) => message(value.as_ref()),
        Resource::EndpointsComplete(_, members) => {
            let complete = wire::EndpointsComplete { members: *members };
            (wire::EndpointsComplete::type_url(), complete.encode_to_vec().into())
        }
        Resource::RouteTable(value) => message(value.as_ref()),
    };
    let version = version_of(&bytes);
    Encoded { name: resource.name().to_string().into(), version, type_url: type_url.into(), bytes }
}

fn version_of(bytes: &[u8]) -> Arc<str> {
    let digest = Sha256::digest(bytes);
    let digits: String = digest.iter().take(VERSION_CHARS / 2).map(|byte| format!("{byte:02x}")).collect();
    digits.into()
}

/// Decodes what a response holds under a name.
///
/// # Errors
/// The name is no resource name, the message is not of the name's kind or does not decode, a field is out of its bounds,
/// or the value names itself differently. Belongs into [`Rejected`] with the name.
pub fn decode(name: &str, any: &Any) -> Result<Resource, Invalid> {
    fn message<W: Wire>(any: &Any) -> Result<W, Invalid> {
        W::from_wire(bare(any)?)
    }
    fn bare<M: Message + Name + Default>(any: &Any) -> Result<M, Invalid> {
        if any.type_url != M::type_url() {
            return Err(Invalid::new(format!("is of type {:?}, not {}", any.type_url, M::type_url())));
        }
        M::decode(any.value.clone()).map_err(|error| Invalid::new(format!("does not decode: {error}")))
    }
    if name.len() > NAME_BYTES_MAX || any.value.len() > RESOURCE_BYTES_MAX {
        return Err(Invalid::new("is too large"));
    }
    let parsed = ResourceName::from_str(name).map_err(|error| Invalid::new(error.to_string()))?;
    let resource = match &parsed {
        ResourceName::MeshSettings => Resource::MeshSettings(Arc::new(message(any)?)),
        ResourceName::Inbound(_) => Resource::Inbound(Arc::new(message(any)?)),
        ResourceName::Address(_) => Resource::Address(Arc::new(message(any)?)),
        ResourceName::Host(..) => Resource::Host(Arc::new(message(any)?)),
        ResourceName::Service(_) => Resource::Service(Arc::new(message(any)?)),
        ResourceName::Endpoint(service, _) => Resource::Endpoint(service.clone(), Arc::new(message(any)?)),
        ResourceName::Endpoints(service) => {
            Resource::EndpointsComplete(service.clone(), bare::<wire::EndpointsComplete>(any)?.members)
        }
        ResourceName::RouteTable(_) => Resource::RouteTable(Arc::new(message(any)?)),
    };
    match resource.name() == parsed {
        true => Ok(resource),
        false => Err(Invalid::new(format!("calls itself {}", resource.name()))),
    }
}

/// A resource that a proxy could not take, and why: an entry of a NACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The resource's name.
    pub name: String,
    /// Why, for people.
    pub reason: String,
}

impl Rejected {
    /// The form in `error_detail.details`.
    #[must_use]
    pub fn to_any(&self) -> Any {
        let rejected = wire::Rejected { name: self.name.clone(), reason: self.reason.clone() };
        Any { type_url: wire::Rejected::type_url(), value: rejected.encode_to_vec().into() }
    }

    /// The `error_detail` of a NACK that rejects these (at most [`REJECTIONS_MAX`] are sent).
    #[must_use]
    pub fn to_status(rejected: &[Self]) -> proto::Status {
        const INVALID_ARGUMENT: i32 = 3;
        let message = match rejected {
            [] => String::new(),
            [only] => format!("{}: {}", only.name, only.reason),
            [first, rest @ ..] => format!("{}: {} (and {} more)", first.name, first.reason, rest.len()),
        };
        let details = rejected.iter().take(REJECTIONS_MAX).map(Self::to_any).collect();
        proto::Status { code: INVALID_ARGUMENT, message, details }
    }
}

/// The rejections that a NACK lists. Entries that are not ours, too long or beyond [`REJECTIONS_MAX`] are left out.
#[must_use]
pub fn rejections(status: &proto::Status) -> Vec<Rejected> {
    let ours = status.details.iter().filter(|any| any.type_url == wire::Rejected::type_url());
    let read = ours.filter_map(|any| wire::Rejected::decode(any.value.clone()).ok());
    read.filter(|entry| entry.name.len() <= NAME_BYTES_MAX && entry.reason.len() <= TEXT_BYTES_MAX)
        .take(REJECTIONS_MAX)
        .map(|entry| Rejected { name: entry.name, reason: entry.reason })
        .collect()
}
