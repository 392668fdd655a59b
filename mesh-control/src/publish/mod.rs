//! What is published: compiled, encoded once, and shared by every stream that subscribes to it.
//!
//! A resource exists here while somebody subscribes to it. Entries are kept by name and, below that, by the namespace
//! from which they are seen ([`View`]); where two namespaces see the same, they share the bytes. A stream learns of a
//! change by a mark in its [`Mailbox`]; what it then sends is the newest, so there is never a queue of versions.

mod debounce;
mod mailbox;
mod value;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use mesh_api::Encoded;
use mesh_compile::{Affected, Objects, Resource};
use mesh_core::config::{ResourceName, ServiceName};

pub(crate) use debounce::Debounce;
pub(crate) use mailbox::{Mailbox, Marks};
pub(crate) use value::is_absent;

use self::value::{Value, compile, differences, take_away};

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
