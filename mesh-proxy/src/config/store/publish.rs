//! Making the next view: what is complete goes in, what it replaces goes out, who waits is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use mesh_core::config::{AddressAnswer, HostAnswer, ResourceName, RouteTable, ServiceName};
use mesh_core::route::CompiledRoutes;

use super::{HOLD_MAX, Newest, Store};
use crate::config::cluster::{self, EndpointSet};
use crate::config::keys::KeyUsage;
use crate::config::view::{Held, InboundView, RoutesView, ServiceView};

/// What a publication leads to.
#[derive(Debug, Default)]
pub(in crate::config) struct Published {
    /// To be subscribed to.
    pub(in crate::config) subscribe: Vec<ResourceName>,
    /// To be unsubscribed from.
    pub(in crate::config) unsubscribe: Vec<ResourceName>,
    /// Whether the saved copy is behind.
    pub(in crate::config) save: bool,
    /// When to publish again even if nothing comes: something is held back until then.
    pub(in crate::config) again_at: Option<Instant>,
}

impl Store {
    /// Builds and swaps in the next view, if anything changed.
    pub(in crate::config) fn publish(&mut self, now: Instant) -> Published {
        let mut published = Published::default();
        let mut changed = self.publish_singles() | std::mem::take(&mut self.dirty.withdrawn);
        changed |= self.publish_services();
        // What is subscribed to depends on what is in use, and what can be used on what came: tables first, since
        // answers wait for them.
        if self.dirty.settle || self.dirty.closure {
            changed |= self.publish_tables(now, &mut published);
            changed |= self.publish_answers(now, &mut published);
        }
        if self.dirty.closure {
            changed |= self.resubscribe(&mut published);
            changed |= self.publish_services();
        }
        published.save = std::mem::take(&mut self.dirty.save);
        self.dirty.settle = published.again_at.is_some();
        self.dirty.closure = false;
        if changed {
            self.view.generation += 1;
            self.views.store(self.view.clone());
        }
        self.answer_waiters();
        published
    }

    fn publish_singles(&mut self) -> bool {
        let (settings, inbound) = (self.dirty.settings, self.dirty.inbound);
        if std::mem::take(&mut self.dirty.settings) {
            self.view.settings.clone_from(&self.settings);
        }
        if std::mem::take(&mut self.dirty.inbound) {
            self.view.inbound = self
                .inbound
                .as_ref()
                .map(|inbound| Arc::new(InboundView::compile(Arc::clone(inbound), self.settings.as_deref())));
        }
        settings || inbound
    }

    /// Puts the services that changed and are known into the view. Endpoints that left are gone with this view.
    fn publish_services(&mut self) -> bool {
        let dirty = std::mem::take(&mut self.dirty.services);
        let mut changed = false;
        for name in dirty {
            let wanted = self.subscribed.contains(&ResourceName::Service(name.clone()));
            let next = (wanted && self.service_is_known(&name)).then(|| self.service_view(&name));
            match next {
                Some(next) => {
                    Arc::make_mut(&mut self.view.services).insert(name, Arc::new(next));
                    changed = true;
                }
                None if self.view.services.contains_key(&name) && !wanted => {
                    Arc::make_mut(&mut self.view.services).remove(&name);
                    changed = true;
                }
                None => {}
            }
        }
        changed
    }

    fn service_view(&self, name: &ServiceName) -> ServiceView {
        let service = self.services.get(name).cloned();
        let members = self.collections.get(name).map(|collection| Arc::clone(&collection.members)).unwrap_or_default();
        let previous = self.view.services.get(name);
        let clusters = service
            .as_ref()
            .map(|service| cluster::build(service, &members, previous.map(|previous| &previous.clusters), &self.place))
            .unwrap_or_default();
        ServiceView { service, endpoints: EndpointSet::new(members), clusters }
    }

    /// Takes newer tables into use, where what they name is there; a working predecessor is kept meanwhile.
    fn publish_tables(&mut self, now: Instant, published: &mut Published) -> bool {
        let mut next: Vec<(ServiceName, Arc<RouteTable>)> = Vec::new();
        for (name, newest) in &self.tables {
            let used = self.view.routes.get(name);
            if used.is_some_and(|used| Arc::ptr_eq(&used.table, &newest.value)) {
                continue;
            }
            let ready = match used {
                None => self.table_is_known(&newest.value),
                Some(used) if self.table_works(&used.table) => self.table_works(&newest.value),
                Some(_) => self.table_is_known(&newest.value),
            };
            if ready || (used.is_some() && held_long_enough(newest, now, published)) {
                next.push((name.clone(), Arc::clone(&newest.value)));
            } else if newest.since == now {
                tracing::debug!(routes = %name, "new routes wait until what they name is there");
            }
        }
        let gone: Vec<ServiceName> =
            self.view.routes.keys().filter(|name| !self.tables.contains_key(*name)).cloned().collect();
        let changed = !next.is_empty() || !gone.is_empty();
        if changed {
            let routes = Arc::make_mut(&mut self.view.routes);
            gone.iter().for_each(|name| drop(routes.remove(name)));
            for (name, table) in next {
                let (compiled, problems) = CompiledRoutes::compile(&table, &self.place.labels);
                if !problems.is_empty() {
                    tracing::warn!(routes = %name, problems = problems.join("; "), "rules that do not compile answer with an error");
                }
                routes.insert(name, Arc::new(RoutesView { table, compiled }));
            }
            self.dirty.closure = true;
        }
        changed
    }

    /// Takes newer answers into use, where everything that they lead to is in the view.
    fn publish_answers(&mut self, now: Instant, published: &mut Published) -> bool {
        let mut addresses = HashMap::new();
        for (address, newest) in &self.addresses {
            let used = self.view.addresses.get(address).map(|held| &held.answer);
            let keep =
                |used: &AddressAnswer| matches!(used, AddressAnswer::Services(_) | AddressAnswer::Workload { .. });
            if used == Some(&newest.value) {
                continue;
            }
            let complete = || self.address_is_complete(&newest.value);
            if let Some(step) = step(used, newest, complete, keep, now, published) {
                addresses.insert(*address, step);
            }
        }
        let mut hosts = HashMap::new();
        for (host, newest) in &self.hosts {
            let used = self.view.hosts.get(host).map(|held| &held.answer);
            let keep = |used: &HostAnswer| !matches!(used, HostAnswer::Absent);
            if used == Some(&newest.value) {
                continue;
            }
            let complete = || self.host_is_complete(&newest.value);
            if let Some(step) = step(used, newest, complete, keep, now, published) {
                hosts.insert(host.clone(), step);
            }
        }
        let changed = !addresses.is_empty() || !hosts.is_empty();
        for (address, step) in addresses {
            let usage = self.usage_of(super::Key::Address(address));
            apply_step(Arc::make_mut(&mut self.view.addresses), address, step, usage);
        }
        for (host, step) in hosts {
            let usage = self.usage_of(super::Key::Host(Arc::clone(&host.0), host.1));
            apply_step(Arc::make_mut(&mut self.view.hosts), host, step, usage);
        }
        self.dirty.closure |= changed;
        changed
    }

    fn usage_of(&mut self, key: super::Key) -> Arc<KeyUsage> {
        Arc::clone(&self.key_state(key, false).usage)
    }

    /// Compares what is wanted with what is subscribed to, and drops what nobody wants any more. Says whether that
    /// changed the view.
    fn resubscribe(&mut self, published: &mut Published) -> bool {
        let wanted = self.closure();
        published.subscribe = wanted.difference(&self.subscribed).cloned().collect();
        published.unsubscribe = self.subscribed.difference(&wanted).cloned().collect();
        self.subscribed = wanted;
        for name in &published.subscribe {
            if let ResourceName::Service(service) | ResourceName::Endpoints(service) = name {
                self.dirty.services.insert(service.clone());
            }
        }
        let routes = self.view.routes.len();
        for name in &published.unsubscribe {
            self.drop_resource(name);
        }
        self.view.routes.len() != routes
    }

    fn drop_resource(&mut self, name: &ResourceName) {
        self.held.remove(name);
        self.absent.remove(name);
        self.dirty.save = true;
        match name {
            ResourceName::Service(service) => {
                self.services.remove(service);
                self.dirty.services.insert(service.clone());
            }
            ResourceName::Endpoints(service) => {
                self.collections.remove(service);
                self.held.retain(|held, _| !matches!(held, ResourceName::Endpoint(of, _) if of == service));
                self.dirty.services.insert(service.clone());
            }
            ResourceName::RouteTable(service) => {
                self.tables.remove(service);
                Arc::make_mut(&mut self.view.routes).remove(service);
            }
            ResourceName::MeshSettings
            | ResourceName::Inbound(_)
            | ResourceName::Address(_)
            | ResourceName::Host(..)
            | ResourceName::Endpoint(..) => {}
        }
    }

    fn answer_waiters(&mut self) {
        let view = &self.view;
        for (key, state) in self.keys.iter_mut().filter(|(_, state)| !state.waiters.is_empty()) {
            let held = match key {
                super::Key::Address(address) => view.addresses.contains_key(address),
                super::Key::Host(name, port) => view.hosts.contains_key(&(Arc::clone(name), *port)),
            };
            if held {
                for waiter in state.waiters.drain(..) {
                    let _ = waiter.send(Ok(())); // it may have given up
                }
            }
        }
    }
}

/// What happens to an answer in the view.
enum Step<T> {
    /// The newest goes in.
    Use(T),
    /// The old one goes out, and whoever asks waits for the newest.
    Withdraw,
}

/// Decides about one answer that differs from the one in use; `None` leaves the view as it is.
fn step<T: Clone>(
    used: Option<&T>,
    newest: &Newest<T>,
    complete: impl FnOnce() -> bool,
    keep: impl FnOnce(&T) -> bool,
    now: Instant,
    published: &mut Published,
) -> Option<Step<T>> {
    if complete() {
        return Some(Step::Use(newest.value.clone()));
    }
    let used = used?;
    // An answer that leads somewhere goes on working while its successor's services are fetched. One that says that
    // nothing is there must not: the address may be the mesh's now, and would be dialled in plaintext.
    let kept = keep(used) && !held_long_enough(newest, now, published);
    (!kept).then_some(Step::Withdraw)
}

fn apply_step<K: std::hash::Hash + Eq, T>(map: &mut HashMap<K, Held<T>>, key: K, step: Step<T>, usage: Arc<KeyUsage>) {
    match step {
        Step::Use(answer) => {
            map.insert(key, Held { answer, usage });
        }
        Step::Withdraw => {
            map.remove(&key);
        }
    }
}

/// Whether a predecessor was kept for long enough; if not, says when to look again.
fn held_long_enough<T>(newest: &Newest<T>, now: Instant, published: &mut Published) -> bool {
    let until = newest.since + HOLD_MAX;
    if now >= until {
        return true;
    }
    published.again_at = Some(published.again_at.map_or(until, |at| at.min(until)));
    false
}
