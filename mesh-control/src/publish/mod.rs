//! What is published: compiled, encoded once, and shared by every stream that subscribes to it.
//!
//! A resource exists here while somebody subscribes to it. Entries are kept by name and, below that, by the namespace
//! from which they are seen ([`View`]); where two namespaces see the same, they share the bytes. A stream learns of a
//! change by a mark in its [`Mailbox`]; what it then sends is the newest, so there is never a queue of versions.

mod debounce;
mod mailbox;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use mesh_api::{Encoded, Resource as WireResource, encode};
use mesh_compile::{Affected, Objects, Resource};
use mesh_core::config::{AddressAnswer, Endpoint, Health, ResourceName, ServiceName};

pub(crate) use debounce::Debounce;
pub(crate) use mailbox::{Mailbox, Marks};

/// The namespace from which configuration is seen.
pub(crate) type View = Arc<str>;

/// A stream of configuration to one proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u64);

/// All published resources and who subscribes to them.
#[derive(Default)]
pub(crate) struct Published {
    entries: HashMap<ResourceName, BTreeMap<View, Entry>>,
    streams: HashMap<StreamId, (View, Arc<Mailbox>)>,
}

struct Entry {
    value: Value,
    subscribers: BTreeSet<StreamId>,
}

#[derive(Clone, PartialEq)]
enum Value {
    Absent,
    One(Arc<Encoded>),
    Many(Arc<Collection>),
}

/// The members of `endpoints/<service>/*`.
#[derive(PartialEq)]
struct Collection {
    members: BTreeMap<Arc<str>, Member>,
    complete: Arc<Encoded>,
}

#[derive(Clone, PartialEq)]
struct Member {
    encoded: Arc<Encoded>,
    health: Health,
}

impl Published {
    pub(crate) fn open(&mut self, stream: StreamId, view: View, mailbox: Arc<Mailbox>) {
        self.streams.insert(stream, (view, mailbox));
    }

    /// Ends all subscriptions of a stream; `names` are those that it had.
    pub(crate) fn close<'a>(&mut self, stream: StreamId, names: impl Iterator<Item = &'a ResourceName>) {
        for name in names {
            self.unsubscribe(stream, name);
        }
        self.streams.remove(&stream);
    }

    /// Compiles the resource unless it is published already, and tells the stream of every later change.
    pub(crate) fn subscribe(&mut self, objects: &Objects, stream: StreamId, name: &ResourceName) {
        let Some((view, _)) = self.streams.get(&stream) else { return };
        let view = view.clone();
        let views = self.entries.entry(name.clone()).or_default();
        if !views.contains_key(&view) {
            let value = compile(objects, &view, name, views.values().map(|entry| &entry.value));
            views.insert(view.clone(), Entry { value, subscribers: BTreeSet::new() });
        }
        if let Some(entry) = views.get_mut(&view) {
            entry.subscribers.insert(stream);
        }
    }

    pub(crate) fn unsubscribe(&mut self, stream: StreamId, name: &ResourceName) {
        let Some((view, _)) = self.streams.get(&stream) else { return };
        let Some(views) = self.entries.get_mut(name) else { return };
        if let Some(entry) = views.get_mut(view) {
            entry.subscribers.remove(&stream);
            if entry.subscribers.is_empty() {
                views.remove(view);
            }
        }
        if views.is_empty() {
            self.entries.remove(name);
        }
    }

    /// The newest form of a resource that the view's streams subscribe to (by itself or as member of a collection).
    pub(crate) fn get(&self, view: &View, name: &ResourceName) -> Option<Arc<Encoded>> {
        let entry = |name: &ResourceName| self.entries.get(name)?.get(view);
        match name {
            ResourceName::Endpoint(service, uid) => match &entry(&ResourceName::Endpoints(service.clone()))?.value {
                Value::Many(collection) => Some(collection.members.get(uid)?.encoded.clone()),
                Value::One(_) | Value::Absent => None,
            },
            name => match &entry(name)?.value {
                Value::One(encoded) => Some(encoded.clone()),
                Value::Many(collection) => Some(collection.complete.clone()),
                Value::Absent => None,
            },
        }
    }

    /// The uids of a published collection.
    pub(crate) fn members(&self, view: &View, service: &ServiceName) -> Vec<Arc<str>> {
        let entry = self.entries.get(&ResourceName::Endpoints(service.clone())).and_then(|views| views.get(view));
        match entry.map(|entry| &entry.value) {
            Some(Value::Many(collection)) => collection.members.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Compiles again what a change touches and somebody holds; marks what became different. Returns how many were
    /// compiled.
    pub(crate) fn refresh(&mut self, objects: &Objects, affected: &Affected, changed: Instant) -> usize {
        let mut compiled = 0;
        for (name, views) in self.entries.iter_mut().filter(|(name, _)| touches(affected, name)) {
            let mut made: Vec<Value> = Vec::new();
            for (view, entry) in views.iter_mut() {
                let value = compile(objects, view, name, made.iter().chain([&entry.value]));
                compiled += 1;
                let changes = differences(name, &entry.value, &value);
                mark(&self.streams, &entry.subscribers, &changes, changed, false);
                entry.value = value.clone();
                made.push(value);
            }
        }
        compiled
    }

    /// The fast lane: of the collections that a change touches, takes away at once what is gone and passes on at once
    /// what no longer serves; of inbound resources, that the pod ends. Everything else waits for [`refresh`](Self::refresh).
    pub(crate) fn refresh_urgent(&mut self, objects: &Objects, affected: &Affected, changed: Instant) {
        for (name, views) in self.entries.iter_mut().filter(|(name, _)| touches(affected, name)) {
            match name {
                ResourceName::Endpoints(service) => {
                    let Some(Resource::Endpoints(now)) = objects.compile("", name) else { continue };
                    for entry in views.values_mut() {
                        let changes = take_away(service, &mut entry.value, &now);
                        mark(&self.streams, &entry.subscribers, &changes, changed, true);
                    }
                }
                ResourceName::Inbound(_) => {
                    for (view, entry) in views.iter_mut() {
                        let value = compile(objects, view, name, [&entry.value].into_iter());
                        if value != entry.value && value != Value::Absent {
                            mark(&self.streams, &entry.subscribers, std::slice::from_ref(name), changed, true);
                            entry.value = value;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// How many resources are published, over all views.
    pub(crate) fn len(&self) -> usize {
        self.entries.values().map(BTreeMap::len).sum()
    }
}

/// A collection is also touched by what decides whether its service is visible.
fn touches(affected: &Affected, name: &ResourceName) -> bool {
    affected.touches(name)
        || matches!(name, ResourceName::Endpoints(service) if affected.touches(&ResourceName::Service(service.clone())))
}

fn mark(
    streams: &HashMap<StreamId, (View, Arc<Mailbox>)>,
    subscribers: &BTreeSet<StreamId>,
    names: &[ResourceName],
    changed: Instant,
    urgent: bool,
) {
    if names.is_empty() {
        return;
    }
    for (_, mailbox) in subscribers.iter().filter_map(|stream| streams.get(stream)) {
        mailbox.mark(names, changed, urgent);
    }
}

/// Compiles and encodes; where one of `known` has the same bytes, that is used.
fn compile<'a>(
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
fn differences(name: &ResourceName, old: &Value, new: &Value) -> Vec<ResourceName> {
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
fn take_away(service: &ServiceName, value: &mut Value, now: &[Endpoint]) -> Vec<ResourceName> {
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
