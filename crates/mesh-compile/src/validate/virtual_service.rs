//! VirtualServices: hosts, conflicts, destinations, rules that cannot be reached.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::config::{HttpAction, HttpMatch, HttpRule, Protocol, RouteTable, ServiceName, StringMatch};
use mesh_core::route::CompiledRoutes;
use mesh_crd::Object;
use mesh_crd::networking::{Destination, VirtualService};

use super::conflict;
use crate::problem::{Code, Problems};
use crate::route::Rules;
use crate::service::Shape;
use crate::view::{View, export_list, exports};
use crate::{Objects, hosts};

impl Objects {
    pub(super) fn check_virtual_service(&self, object: &Object<VirtualService>, problems: &mut Problems) {
        self.check_hosts(object, problems);
        self.check_route_conflicts(object, problems);
        // As the clients of every namespace that it names see it.
        let spec = &object.spec;
        let http = spec.http.iter().flat_map(|rule| &rule.match_).map(|m| m.source_namespace.as_str());
        let tls = spec.tls.iter().flat_map(|rule| &rule.match_).map(|m| m.source_namespace.as_str());
        let tcp = spec.tcp.iter().flat_map(|rule| &rule.match_).map(|m| m.source_namespace.as_str());
        let named = http.chain(tls).chain(tcp).filter(|namespace| !namespace.is_empty());
        let namespaces: BTreeSet<&str> = named.chain([object.meta.namespace.as_str()]).collect();
        for namespace in namespaces {
            let view = View::new(self, namespace);
            let rules = Rules::new(&view, object);
            let table = RouteTable {
                name: ServiceName::new(&object.meta.namespace, ""),
                hosts: Vec::new(),
                origin: None,
                implicit: false,
                http: rules.http(problems),
                tls: rules.tls(problems),
                tcp: rules.tcp(problems),
            };
            unreachable(object, &table.http, problems);
            // What the proxy itself would say; it takes nothing in that this has not seen.
            for why in CompiledRoutes::compile(&table, &BTreeMap::new()).1 {
                let message = format!("the proxy cannot use it: {why}");
                problems.error(Code::InvalidValue, "spec", message, "correct the rule");
            }
        }
        self.check_destinations(object, problems);
        if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
            problems.warning(Code::NotActing, "spec", "there are no rules", "write http, tls or tcp rules");
        }
    }

    fn check_hosts(&self, object: &Object<VirtualService>, problems: &mut Problems) {
        let spec = &object.spec;
        let for_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|g| g == mesh_crd::names::MESH_GATEWAY);
        if spec.gateways.iter().any(|gateway| gateway != mesh_crd::names::MESH_GATEWAY) {
            let acting = if for_mesh { "the rules act at sidecars only" } else { "the rules do not act" };
            let message = format!("gateways are not built yet: {acting}");
            problems.warning(Code::NotActing, "spec.gateways", message, "add mesh to gateways to use them at sidecars");
        }
        if spec.hosts.is_empty() {
            let message = "there is no host, so the rules act for nothing (delegates are not built)";
            problems.error(Code::InvalidValue, "spec.hosts", message, "name the hosts");
        }
        for (index, written) in spec.hosts.iter().enumerate().filter(|_| for_mesh) {
            let field = format!("spec.hosts[{index}]");
            let host = self.expand(written, &object.meta.namespace);
            if host == "*" {
                let message = "`*` is for gateways only; sidecars do not use it";
                problems.error(Code::InvalidValue, &field, message, "name the hosts");
                continue;
            }
            let wild = host.starts_with('*');
            let known = if wild { self.any_host_under(&host) } else { self.definers_of(&host).next().is_some() };
            let covered = hosts::patterns(&host).any(|pattern| self.definers_of(&pattern).next().is_some());
            if known || covered {
                self.check_protocols(object, &host, &field, problems);
                continue;
            }
            let fix = self.full_name(written).map_or_else(
                || "create the Service, or a ServiceEntry for it".to_owned(),
                |full| format!("write {full}: names with a dot are not completed"),
            );
            let message = format!(
                "no Service or ServiceEntry has the host {host}; the rules act only for clients that send this name"
            );
            problems.warning(Code::MissingHost, &field, message, fix);
        }
    }

    /// The full name that somebody meant who wrote `name.namespace`, if such a Service exists.
    pub(super) fn full_name(&self, written: &str) -> Option<String> {
        let domain = &self.options.cluster_domain;
        let all = hosts::candidates(written, "", domain);
        all.into_iter().skip(1).find(|full| self.definers_of(full).next().is_some())
    }

    fn any_host_under(&self, wildcard: &str) -> bool {
        self.index.definers.keys().any(|host| hosts::covers(wildcard, host))
    }

    /// HTTP rules for a service that declares no port that is, or may be, HTTP.
    fn check_protocols(&self, object: &Object<VirtualService>, host: &str, field: &str, problems: &mut Problems) {
        let ports: Vec<_> = self.definers_of(host).flat_map(|definition| Shape::of(definition).ports).collect();
        let may_be_http = ports.iter().any(|(.., protocol)| protocol.is_http() || *protocol == Protocol::Unspecified);
        if !object.spec.http.is_empty() && !ports.is_empty() && !may_be_http {
            let message = format!("{host} declares no HTTP port, so the http rules do not act for it");
            problems.warning(Code::NotActing, field, message, "name its port http-…, or write tcp or tls rules");
        }
    }

    fn check_route_conflicts(&self, object: &Object<VirtualService>, problems: &mut Problems) {
        for host in self.route_hosts(object) {
            let keys = self.index.routes.get(&host).into_iter().flatten().filter(|key| **key != object.key());
            let others = keys.filter_map(|key| self.virtual_services.get(key).map(|other| &**other));
            let others: Vec<_> = others.filter(|other| self.meet(object, other)).collect();
            let written = object.spec.hosts.iter().position(|h| self.expand(h, &object.meta.namespace) == host);
            let field = written.map_or("spec.hosts".to_owned(), |index| format!("spec.hosts[{index}]"));
            conflict(object, &others, &field, &format!("the host {host} is routed"), problems);
        }
    }

    /// Whether any namespace sees both.
    fn meet(&self, a: &Object<VirtualService>, b: &Object<VirtualService>) -> bool {
        let default = &self.mesh.default_virtual_service_export_to;
        let sees = |object: &Object<VirtualService>, client: &str| {
            exports(export_list(&object.spec.export_to, object), default, &object.meta.namespace, client)
        };
        let named = a.spec.export_to.iter().chain(&b.spec.export_to).map(String::as_str);
        let own = [a.meta.namespace.as_str(), b.meta.namespace.as_str(), "a namespace that nobody names"];
        named.chain(own).filter(|client| !matches!(*client, "*" | "." | "~")).any(|c| sees(a, c) && sees(b, c))
    }

    fn check_destinations(&self, object: &Object<VirtualService>, problems: &mut Problems) {
        let spec = &object.spec;
        let mut check = |destination: &Option<Destination>, field: String| {
            if let Some(destination) = destination.as_ref().filter(|to| !to.host.is_empty()) {
                self.check_destination(object, destination, &format!("{field}.destination"), problems);
            }
        };
        for (rule, http) in spec.http.iter().enumerate() {
            for (index, to) in http.route.iter().enumerate() {
                check(&to.destination, format!("spec.http[{rule}].route[{index}]"));
            }
        }
        for (rule, tls) in spec.tls.iter().enumerate() {
            for (index, to) in tls.route.iter().enumerate() {
                check(&to.destination, format!("spec.tls[{rule}].route[{index}]"));
            }
        }
        for (rule, tcp) in spec.tcp.iter().enumerate() {
            for (index, to) in tcp.route.iter().enumerate() {
                check(&to.destination, format!("spec.tcp[{rule}].route[{index}]"));
            }
        }
    }

    fn check_destination(
        &self,
        object: &Object<VirtualService>,
        to: &Destination,
        field: &str,
        problems: &mut Problems,
    ) {
        let namespace = &object.meta.namespace;
        let view = View::new(self, namespace);
        let host = self.expand(&to.host, namespace);
        let Some((_, definition)) = view.resolve(&host) else {
            let exists = self.definers_of(&host).next().is_some();
            let (message, fix) = match (exists, self.full_name(&to.host)) {
                (true, _) => (
                    format!("{host} is not exported to namespace {namespace}"),
                    "add the namespace to the service's exportTo".to_owned(),
                ),
                (false, Some(full)) => {
                    (format!("there is no service {host}"), format!("write {full}: names with a dot are not completed"))
                }
                (false, None) => (format!("there is no service {host}"), "create it, or correct the name".to_owned()),
            };
            let message = format!("{message}; requests to it are answered with 503 (destination_missing)");
            return problems.error(Code::MissingDestination, &format!("{field}.host"), message, fix);
        };
        let ports: Vec<u16> = Shape::of(definition).ports.iter().map(|(number, ..)| *number).collect();
        match to.port.as_ref().map(|port| port.number).filter(|number| *number != 0) {
            Some(number) if !ports.iter().any(|port| u32::from(*port) == number) => {
                let message =
                    format!("{host} has no port {number}, only {ports:?}; requests to it are answered with 503");
                problems.error(Code::MissingPort, &format!("{field}.port.number"), message, "name one of its ports");
            }
            None if ports.len() > 1 && !self.route_hosts(object).contains(&host) => {
                let message = format!("{host} has several ports {ports:?}; the port that the client dialled is used");
                problems.warning(Code::MissingPort, field, message, "write port: {number: …}");
            }
            _ => {}
        }
        if to.subset.is_empty() {
            return;
        }
        let service = view.destination(&to.host, namespace);
        let rules = view.rules_for(&service);
        if rules.subsets().iter().any(|subset| subset.name == to.subset) {
            return;
        }
        let known: Vec<_> = rules.subsets().iter().map(|subset| subset.name.clone()).collect();
        let from: Vec<_> = rules.objects.iter().map(|rule| rule.key().to_string()).collect();
        let message = match from.is_empty() {
            true => format!("no DestinationRule for {host} is visible, so it has no subset {:?}", to.subset),
            false => format!("DestinationRule {} defines {known:?}, not {:?}", from.join(", "), to.subset),
        };
        let message = format!("{message}; requests to it are answered with 503 (destination_missing)");
        let fix = "define the subset in a DestinationRule, or correct the name";
        problems.error(Code::MissingSubset, &format!("{field}.subset"), message, fix);
    }
}

/// Reports rules behind one that matches everything.
fn unreachable(object: &Object<VirtualService>, compiled: &[HttpRule], problems: &mut Problems) {
    let Some(last) = compiled.iter().position(catches_all) else { return };
    // Rules that are not for these clients are missing from the compiled list, so indexes are found by name.
    let index_of = |rule: &HttpRule| {
        let names = object.spec.http.iter().enumerate();
        names
            .filter(|(i, r)| rule.name == r.name || r.name.is_empty() && rule.name == i.to_string())
            .map(|(i, _)| i)
            .next()
    };
    let Some(catcher) = index_of(&compiled[last]) else { return };
    for index in compiled[last + 1..].iter().filter_map(index_of).filter(|index| *index > catcher) {
        let message = format!("spec.http[{catcher}] matches everything before it");
        let fix = "put the rule that matches everything last";
        problems.warning(Code::Unreachable, &format!("spec.http[{index}]"), message, fix);
    }
}

fn catches_all(rule: &HttpRule) -> bool {
    let unbounded = |m: &HttpMatch| {
        let any_path = match &m.path {
            None | Some(StringMatch::Present) => true,
            Some(StringMatch::Prefix(prefix)) => prefix == "/" || prefix.is_empty(),
            Some(StringMatch::Regex(regex)) => regex == ".*",
            Some(StringMatch::Exact(_)) => false,
        };
        let others = [&m.method, &m.authority, &m.scheme];
        any_path
            && others.iter().all(|other| other.is_none())
            && m.headers.is_empty()
            && m.query.is_empty()
            && m.port.is_none()
            && m.source_labels.is_empty()
            && m.unsupported.is_none()
    };
    let built = !matches!(rule.action, HttpAction::Invalid(_));
    built && (rule.matches.is_empty() || rule.matches.iter().any(unbounded))
}
