//! A published value: encoded once, shared where it is equal, compared member by member.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mesh_api::{Encoded, Resource as WireResource, encode};
use mesh_compile::{Objects, Resource};
use mesh_core::config::{AddressAnswer, Endpoint, Health, ResourceName, ServiceName};

use super::View;

#[derive(Clone, PartialEq)]
pub(super) enum Value {
    Absent,
    One(Arc<Encoded>),
    Many(Arc<Collection>),
}

/// The members of `endpoints/<service>/*`.
#[derive(PartialEq)]
pub(super) struct Collection {
    pub(super) members: BTreeMap<Arc<str>, Member>,
    pub(super) complete: Arc<Encoded>,
}

#[derive(Clone, PartialEq)]
pub(super) struct Member {
    pub(super) encoded: Arc<Encoded>,
    health: Health,
}

/// Compiles and encodes; where one of `known` has the same bytes, that is used.
pub(super) fn compile<'a>(
    objects: &Objects,
    view: &View,
    name: &ResourceName,
    known: impl Iterator<Item = &'a Value> + Clone,
) -> Value {
    if let ResourceName::Endpoints(service) = name {
        // Who cannot see a service has no business with its endpoints either.
        if objects.compile(view, &ResourceName::Service(service.clone())).is_none() {
            return Value::Absent;
        }
        return match objects.compile(view, name) {
            Some(Resource::Endpoints(members)) => Value::Many(collect(service, members, known)),
            _ => Value::Absent,
        };
    }
    let Some(resource) = objects.compile(view, name) else { return Value::Absent };
    let Some(resource) = wire(resource) else { return Value::Absent };
    let encoded = encode(&resource);
    if encoded.bytes.len() > mesh_api::limits::RESOURCE_BYTES_MAX {
        tracing::warn!(resource = %name, bytes = encoded.bytes.len(), "a resource is too large to be sent; split it");
        return Value::Absent;
    }
    for other in known {
        if let Value::One(other) = other
            && **other == encoded
        {
            return Value::One(other.clone());
        }
    }
    Value::One(Arc::new(encoded))
}

fn collect<'a>(
    service: &ServiceName,
    endpoints: Vec<Endpoint>,
    known: impl Iterator<Item = &'a Value> + Clone,
) -> Arc<Collection> {
    let shared = |encoded: Encoded, find: &dyn Fn(&Collection) -> Option<Arc<Encoded>>| {
        for other in known.clone() {
            if let Value::Many(collection) = other
                && let Some(same) = find(collection)
                && *same == encoded
            {
                return same;
            }
        }
        Arc::new(encoded)
    };
    let mut members = BTreeMap::new();
    for endpoint in endpoints {
        let (uid, health) = (endpoint.uid.clone(), endpoint.health);
        let encoded = encode(&WireResource::Endpoint(service.clone(), Arc::new(endpoint)));
        let encoded = shared(encoded, &|collection| Some(collection.members.get(&uid)?.encoded.clone()));
        members.insert(uid, Member { encoded, health });
    }
    let complete = shared(complete(service, members.len()), &|collection| Some(collection.complete.clone()));
    let made = Collection { members, complete };
    for other in known {
        if let Value::Many(collection) = other
            && **collection == made
        {
            return collection.clone();
        }
    }
    Arc::new(made)
}

fn complete(service: &ServiceName, members: usize) -> Encoded {
    encode(&WireResource::EndpointsComplete(service.clone(), u32::try_from(members).unwrap_or(u32::MAX)))
}

/// The wire's form of a compiled resource; a single endpoint and a collection travel as a [`Collection`].
fn wire(resource: Resource) -> Option<WireResource> {
    Some(match resource {
        Resource::MeshSettings(value) => WireResource::MeshSettings(Arc::new(value)),
        Resource::Inbound(value) => WireResource::Inbound(Arc::from(value)),
        Resource::Address(value) => WireResource::Address(Arc::new(value)),
        Resource::Host(value) => WireResource::Host(Arc::new(value)),
        Resource::Service(value) => WireResource::Service(Arc::from(value)),
        Resource::RouteTable(value) => WireResource::RouteTable(Arc::from(value)),
        Resource::Endpoint(_) | Resource::Endpoints(_) => return None,
    })
}

/// Whether an address's answer is that nothing has it.
pub(crate) fn is_absent(resource: &Resource) -> bool {
    matches!(resource, Resource::Address(address) if address.answer == AddressAnswer::Absent)
}

/// The names under which `old` and `new` differ.
pub(super) fn differences(name: &ResourceName, old: &Value, new: &Value) -> Vec<ResourceName> {
    let (before, after) = match (old, new) {
        (Value::Many(before), Value::Many(after)) if Arc::ptr_eq(before, after) => return Vec::new(),
        (Value::Many(before), Value::Many(after)) => (Some(before), Some(after)),
        (Value::Many(before), _) => (Some(before), None),
        (_, Value::Many(after)) => (None, Some(after)),
        (old, new) if old == new => return Vec::new(),
        _ => return vec![name.clone()],
    };
    let ResourceName::Endpoints(service) = name else { return Vec::new() };
    let members = |collection: Option<&Arc<Collection>>| {
        collection.map(|collection| collection.members.clone()).unwrap_or_default()
    };
    let (before_members, after_members) = (members(before), members(after));
    let uids: BTreeSet<&Arc<str>> = before_members.keys().chain(after_members.keys()).collect();
    let differs = |uid: &&&Arc<str>| before_members.get(**uid) != after_members.get(**uid);
    let mut names: Vec<ResourceName> =
        uids.iter().filter(differs).map(|uid| ResourceName::Endpoint(service.clone(), (*uid).clone())).collect();
    if before.map(|one| &one.complete) != after.map(|one| &one.complete) {
        names.push(name.clone());
    }
    names
}

/// Takes out of a published collection what is not in `now`, and replaces what serves less than before. Members that
/// are new or otherwise changed stay as they are.
pub(super) fn take_away(service: &ServiceName, value: &mut Value, now: &[Endpoint]) -> Vec<ResourceName> {
    let Value::Many(collection) = value else { return Vec::new() };
    let by_uid: HashMap<&Arc<str>, &Endpoint> = now.iter().map(|endpoint| (&endpoint.uid, endpoint)).collect();
    let mut members = collection.members.clone();
    let mut names = Vec::new();
    for (uid, member) in &collection.members {
        match by_uid.get(uid) {
            None => {
                members.remove(uid);
            }
            Some(endpoint) if endpoint.health > member.health => {
                let encoded = encode(&WireResource::Endpoint(service.clone(), Arc::new((*endpoint).clone())));
                members.insert(uid.clone(), Member { encoded: Arc::new(encoded), health: endpoint.health });
            }
            Some(_) => continue,
        }
        names.push(ResourceName::Endpoint(service.clone(), uid.clone()));
    }
    if names.is_empty() {
        return names;
    }
    if members.len() != collection.members.len() {
        names.push(ResourceName::Endpoints(service.clone()));
    }
    let complete = Arc::new(complete(service, members.len()));
    *value = Value::Many(Arc::new(Collection { members, complete }));
    names
}
