//! What one namespace sees: `exportTo` and `Sidecar`, and the resources compiled from there.

use std::sync::LazyLock;

use mesh_core::config::{
    Address, Endpoint, HiddenReason, Host, Inbound, MeshSettings, ResourceName, RouteTable, Service, ServiceName,
};
use mesh_crd::kubernetes;
use mesh_crd::networking::{ServiceEntry, Sidecar, VirtualService};
use mesh_crd::{Kind, Object, labels};

use crate::hosts;
use crate::objects::{Definer, Objects, seniority};

/// A compiled resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// For [`ResourceName::MeshSettings`].
    MeshSettings(MeshSettings),
    /// For [`ResourceName::Inbound`].
    Inbound(Box<Inbound>),
    /// For [`ResourceName::Address`]; there always is one.
    Address(Address),
    /// For [`ResourceName::Host`]; there always is one.
    Host(Host),
    /// For [`ResourceName::Service`].
    Service(Box<Service>),
    /// For [`ResourceName::Endpoints`]: all members, by uid.
    Endpoints(Vec<Endpoint>),
    /// For [`ResourceName::Endpoint`].
    Endpoint(Box<Endpoint>),
    /// For [`ResourceName::RouteTable`].
    RouteTable(Box<RouteTable>),
}

impl Objects {
    /// Compiles one resource as clients in `namespace` see it; none where it does not exist (for them).
    pub fn compile(&self, namespace: &str, name: &ResourceName) -> Option<Resource> {
        let view = View::new(self, namespace);
        Some(match name {
            ResourceName::MeshSettings => Resource::MeshSettings(self.compile_settings(namespace)),
            ResourceName::Inbound(uid) => Resource::Inbound(Box::new(self.compile_inbound(uid)?)),
            ResourceName::Address(ip) => Resource::Address(view.address(*ip)),
            ResourceName::Host(name, port) => Resource::Host(view.host(name, *port)),
            ResourceName::Service(service) => Resource::Service(Box::new(view.service(service)?)),
            ResourceName::Endpoints(service) => Resource::Endpoints(self.compile_endpoints(service)?),
            ResourceName::Endpoint(service, uid) => {
                let mut members = self.compile_endpoints(service)?.into_iter();
                Resource::Endpoint(Box::new(members.find(|endpoint| endpoint.uid == *uid)?))
            }
            ResourceName::RouteTable(service) => Resource::RouteTable(Box::new(view.route_table(service)?)),
        })
    }
}

/// A definition of a service: a Kubernetes Service, or one host of a ServiceEntry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Definition<'o> {
    Service(&'o Object<kubernetes::Service>),
    Entry(&'o Object<ServiceEntry>),
}

impl<'o> Definition<'o> {
    pub(crate) fn namespace(&self) -> &'o str {
        match self {
            Definition::Service(object) => &object.meta.namespace,
            Definition::Entry(object) => &object.meta.namespace,
        }
    }

    fn is_service(&self) -> bool {
        matches!(self, Definition::Service(_))
    }

    /// Whether it has a port.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        let port = u32::from(port);
        match self {
            Definition::Service(object) => object.spec.spec.ports.iter().any(|p| p.port == port),
            Definition::Entry(object) => object.spec.ports.iter().any(|p| p.number == port),
        }
    }

    /// The order among definitions of one host: the client's own namespace, then Kubernetes, then age.
    fn rank(&self, client: &str) -> impl Ord + 'o {
        let foreign = self.namespace() != client;
        match self {
            Definition::Service(object) => (foreign, false, seniority(object)),
            Definition::Entry(object) => (foreign, true, seniority(object)),
        }
    }
}

/// The world as clients in one namespace see it.
pub(crate) struct View<'o> {
    pub(crate) objects: &'o Objects,
    pub(crate) namespace: &'o str,
    /// The egress hosts of the namespace's Sidecar as (namespace, host pattern); none: everything is visible.
    egress: Option<Vec<(String, String)>>,
}

impl<'o> View<'o> {
    pub(crate) fn new(objects: &'o Objects, namespace: &'o str) -> View<'o> {
        let egress = objects.sidecar_of(namespace).and_then(|sidecar| egress_hosts(sidecar, namespace));
        View { objects, namespace, egress }
    }

    /// Whether a service is visible, and if not, why.
    pub(crate) fn sees(&self, definition: Definition<'_>, host: &str) -> Result<(), HiddenReason> {
        if !self.exported(definition) {
            return Err(HiddenReason::ExportTo);
        }
        if !self.imports(definition.namespace(), host) {
            return Err(HiddenReason::Sidecar);
        }
        Ok(())
    }

    /// Whether a service's `exportTo` includes the namespace. What a route names is bound by this only.
    pub(crate) fn exported(&self, definition: Definition<'_>) -> bool {
        let default = &self.objects.mesh.default_service_export_to;
        match definition {
            Definition::Service(object) => {
                let list = object.meta.annotation(labels::EXPORT_TO).unwrap_or_default();
                let list: Vec<String> =
                    list.split(',').map(|entry| entry.trim().to_owned()).filter(|entry| !entry.is_empty()).collect();
                exports(&list, default, &object.meta.namespace, self.namespace)
            }
            Definition::Entry(object) => {
                exports(export_list(&object.spec.export_to, object), default, &object.meta.namespace, self.namespace)
            }
        }
    }

    /// Whether the namespace's Sidecar lets a host of another object's namespace in.
    fn imports(&self, namespace: &str, host: &str) -> bool {
        let Some(egress) = &self.egress else { return true };
        egress.iter().any(|(from, pattern)| (from == "*" || from == namespace) && hosts::covers(pattern, host))
    }

    /// Whether a VirtualService is for the namespace's clients.
    pub(crate) fn sees_routes(&self, object: &Object<VirtualService>, host: &str) -> bool {
        let default = &self.objects.mesh.default_virtual_service_export_to;
        exports(export_list(&object.spec.export_to, object), default, &object.meta.namespace, self.namespace)
            && self.imports(&object.meta.namespace, host)
    }

    /// All definitions of exactly this host (which may be a wildcard), the one that wins first. A Service's host is the
    /// Service's, also where that is hidden or lacks a port: no ServiceEntry of another namespace takes it over.
    fn definitions(&self, host: &str) -> Vec<Definition<'o>> {
        let mut found: Vec<_> = self.objects.definers_of(host).collect();
        if found.iter().any(Definition::is_service) {
            found.retain(|definition| definition.is_service() || definition.namespace() == self.namespace);
        }
        found.sort_by(|a, b| a.rank(self.namespace).cmp(&b.rank(self.namespace)));
        found
    }

    /// The definitions of `host` and of the wildcards that cover it, the most specific first; none behind a Service.
    pub(crate) fn definitions_for(&self, host: &str) -> Vec<(String, Vec<Definition<'o>>)> {
        let mut all = Vec::new();
        for pattern in hosts::patterns(host) {
            let definitions = self.definitions(&pattern);
            let taken = definitions.iter().any(Definition::is_service);
            all.push((pattern, definitions));
            if taken {
                break;
            }
        }
        all
    }

    /// The definition that `host` (exact) means among those exported to the namespace, with the name it is found by:
    /// itself, or a wildcard of a ServiceEntry.
    pub(crate) fn resolve(&self, host: &str) -> Option<(String, Definition<'o>)> {
        self.definitions_for(host).into_iter().find_map(|(pattern, definitions)| {
            let definition = definitions.into_iter().find(|definition| self.exported(*definition))?;
            Some((pattern, definition))
        })
    }

    /// The name of the service that a route's destination means; a host that does not exist keeps its name, in the
    /// namespace that it names or in that of the rule.
    pub(crate) fn destination(&self, host: &str, rule_namespace: &str) -> ServiceName {
        let host = self.objects.expand(host, rule_namespace);
        if let Some((name, definition)) = self.resolve(&host) {
            return ServiceName::new(definition.namespace(), &name);
        }
        let domain = &self.objects.options.cluster_domain;
        ServiceName::new(hosts::namespace_of(&host, domain).unwrap_or(rule_namespace), &host)
    }
}

impl Objects {
    /// Everything that defines exactly this host.
    pub(crate) fn definers_of(&self, host: &str) -> impl Iterator<Item = Definition<'_>> {
        self.index.definers.get(host).into_iter().flatten().filter_map(|definer| self.definition(definer))
    }

    pub(crate) fn definition(&self, definer: &Definer) -> Option<Definition<'_>> {
        match definer {
            Definer::Service(key) => self.services.get(key).map(|object| Definition::Service(object)),
            Definer::Entry(key) => self.service_entries.get(key).map(|object| Definition::Entry(object)),
        }
    }

    /// The definition of a service by its name: a Kubernetes Service before ServiceEntries, of those the oldest.
    pub(crate) fn definition_of(&self, name: &ServiceName) -> Option<Definition<'_>> {
        let same = self.definers_of(&name.host).filter(|found| found.namespace() == name.namespace.as_ref());
        same.min_by(|a, b| a.rank(&name.namespace).cmp(&b.rank(&name.namespace)))
    }

    /// The Sidecar that bounds a namespace: its own without selector, else the root namespace's; the oldest wins.
    pub(crate) fn sidecar_of(&self, namespace: &str) -> Option<&Object<Sidecar>> {
        let of = |namespace: &str| {
            let whole = self.sidecars_of(namespace).filter(|sidecar| sidecar.spec.workload_selector.is_none());
            whole.min_by(|a, b| seniority(a).cmp(&seniority(b))).map(|sidecar| &**sidecar)
        };
        of(namespace).or_else(|| of(&self.options.root_namespace))
    }
}

/// An object's `exportTo`; one that could not be read keeps the object in its own namespace.
pub(crate) fn export_list<'l, T: Kind>(list: &'l [String], object: &Object<T>) -> &'l [String] {
    static OWN: LazyLock<[String; 1]> = LazyLock::new(|| [".".to_owned()]);
    if object.issues.touching("spec.exportTo").is_some() { &*OWN } else { list }
}

/// Whether `list` (or `default`, where it is empty) includes the client's namespace.
pub(crate) fn exports(list: &[String], default: &[String], own: &str, client: &str) -> bool {
    let list = if list.is_empty() { default } else { list };
    list.is_empty() || list.iter().any(|entry| entry == "*" || entry == client || entry == "." && own == client)
}

/// The egress hosts of a Sidecar, for clients in `namespace`; none where it has no egress listener.
fn egress_hosts(sidecar: &Object<Sidecar>, namespace: &str) -> Option<Vec<(String, String)>> {
    if sidecar.spec.egress.is_empty() {
        // A list that could not be read must not make everything visible.
        let unreadable = sidecar.issues.touching("spec.egress").is_some();
        return unreadable.then(Vec::new);
    }
    let parse = |text: &String| {
        let (from, host) = text.split_once('/')?;
        let from = if from == "." { namespace } else { from };
        Some((from.to_owned(), host.to_ascii_lowercase()))
    };
    Some(sidecar.spec.egress.iter().flat_map(|listener| &listener.hosts).filter_map(parse).collect())
}
