//! Taking a response in, resource by resource.

use std::sync::Arc;
use std::time::Instant;

use mesh_api::proto::Any;
use mesh_api::{Rejected, Resource};
use mesh_core::config::{AddressAnswer, HostAnswer, Inbound, ResourceName};
use mesh_core::route::CompiledRoutes;

use super::{Newest, Place, Saved, Store};

/// A response, or what was saved of earlier ones.
pub(in crate::config) struct Incoming {
    /// Names, versions and messages.
    pub(in crate::config) resources: Vec<(String, String, Any)>,
    /// Names of what does not exist (any more).
    pub(in crate::config) removed: Vec<String>,
}

impl Store {
    /// Takes in everything that can be used, and says what cannot. What is rejected leaves its predecessor in use.
    pub(in crate::config) fn apply(&mut self, incoming: Incoming, now: Instant) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for (name, version, any) in incoming.resources {
            if let Err(reason) = self.take(&name, version, any, now) {
                rejected.push(Rejected { name, reason });
            }
        }
        for name in incoming.removed {
            match name.parse() {
                Ok(name) => self.remove(name, now),
                Err(_) => rejected.push(Rejected { reason: "is no name of a resource".to_owned(), name }),
            }
        }
        rejected
    }

    fn take(&mut self, text: &str, version: String, any: Any, now: Instant) -> Result<(), String> {
        let resource = mesh_api::decode(text, &any).map_err(|invalid| invalid.to_string())?;
        let name = resource.name();
        if !self.is_wanted(&name) {
            return Ok(()); // crossed with our unsubscription
        }
        let mut partly = Ok(());
        match resource {
            Resource::MeshSettings(settings) => {
                self.settings = Some(settings);
                // Policies are compiled for the mesh's trust domains.
                self.dirty.settings = true;
                self.dirty.inbound = true;
            }
            Resource::Inbound(inbound) => self.take_inbound(inbound)?,
            Resource::Address(address) => self.take_address(address.address, address.answer.clone(), now),
            Resource::Host(host) => self.take_host((Arc::clone(&host.name), host.port), host.answer.clone(), now),
            Resource::Service(service) => {
                self.dirty.services.insert(service.name.clone());
                self.dirty.settle = true;
                self.services.insert(service.name.clone(), service);
            }
            Resource::Endpoint(service, endpoint) => {
                let collection = self.collections.entry(service.clone()).or_default();
                Arc::make_mut(&mut collection.members).insert(Arc::clone(&endpoint.uid), endpoint);
                if collection.complete {
                    self.dirty.services.insert(service);
                }
            }
            Resource::EndpointsComplete(service, count) => {
                let collection = self.collections.entry(service.clone()).or_default();
                if !collection.complete {
                    collection.complete = true;
                    self.dirty.settle = true;
                    if collection.members.len() != count as usize {
                        tracing::debug!(%service, count, held = collection.members.len(), "members of the collection are missing");
                    }
                }
                self.dirty.services.insert(service);
            }
            Resource::RouteTable(table) => {
                // A table that does not compile whole is refused where a working one would be lost; where there is
                // none, its sound rules are better than nothing, and the broken ones answer with their reason.
                let (_, problems) = CompiledRoutes::compile(&table, &self.place.labels);
                if !problems.is_empty() {
                    partly = Err(problems.join("; "));
                }
                if partly.is_err() && self.tables.contains_key(&table.name) {
                    return partly;
                }
                self.dirty.closure = true;
                self.dirty.settle = true;
                self.tables.insert(table.name.clone(), Newest { value: table, since: now });
            }
        }
        self.absent.remove(&name);
        self.held.insert(name, Saved { version, type_url: any.type_url, bytes: any.value });
        self.dirty.save = true;
        partly
    }

    fn is_wanted(&self, name: &ResourceName) -> bool {
        match name {
            ResourceName::Endpoint(service, _) => self.subscribed.contains(&ResourceName::Endpoints(service.clone())),
            other => self.subscribed.contains(other),
        }
    }

    fn take_inbound(&mut self, inbound: Arc<Inbound>) -> Result<(), String> {
        if inbound.uid != self.uid {
            return Err("is another workload's".to_owned());
        }
        let place = Place { locality: inbound.locality.clone(), labels: inbound.labels.clone() };
        if place != *self.place {
            if place.labels != self.place.labels {
                // Every table was compiled for the old labels.
                Arc::make_mut(&mut self.view.routes).clear();
                self.dirty.settle = true;
            }
            self.place = Arc::new(place);
            self.dirty.services.extend(self.services.keys().cloned());
        }
        self.inbound = Some(inbound);
        self.dirty.inbound = true;
        Ok(())
    }

    fn take_address(&mut self, address: std::net::IpAddr, answer: AddressAnswer, now: Instant) {
        self.addresses.insert(address, Newest { value: answer, since: now });
        self.dirty.closure = true;
        self.dirty.settle = true;
    }

    fn take_host(&mut self, host: (Arc<str>, u16), answer: HostAnswer, now: Instant) {
        self.hosts.insert(host, Newest { value: answer, since: now });
        self.dirty.closure = true;
        self.dirty.settle = true;
    }

    /// Takes in that something does not exist. For a key that is its answer.
    fn remove(&mut self, name: ResourceName, now: Instant) {
        if !self.is_wanted(&name) {
            return;
        }
        self.held.remove(&name);
        match &name {
            // Without these a proxy cannot go on; the last ones stay.
            ResourceName::MeshSettings | ResourceName::Inbound(_) => {}
            ResourceName::Address(address) => self.take_address(*address, AddressAnswer::Absent, now),
            ResourceName::Host(host, port) => self.take_host((Arc::clone(host), *port), HostAnswer::Absent, now),
            ResourceName::Service(service) => {
                self.services.remove(service);
                self.dirty.services.insert(service.clone());
            }
            ResourceName::Endpoint(service, uid) => {
                if let Some(collection) = self.collections.get_mut(service) {
                    Arc::make_mut(&mut collection.members).remove(uid);
                    self.dirty.services.insert(service.clone());
                }
            }
            ResourceName::Endpoints(service) => {
                self.collections.remove(service);
                self.held.retain(|held, _| !matches!(held, ResourceName::Endpoint(of, _) if of == service));
                self.dirty.services.insert(service.clone());
            }
            ResourceName::RouteTable(service) => {
                self.tables.remove(service);
                self.dirty.closure = true;
            }
        }
        self.dirty.save = true;
        if !matches!(name, ResourceName::Endpoint(..)) {
            self.absent.insert(name);
            self.dirty.settle = true;
        }
    }
}
