//! Routes: the VirtualService that wins for a host, and its rules in the mesh's words.
//!
//! Nothing here may make a rule wider than it was written: a match that cannot be read or is not built never matches;
//! a rule whose action cannot be read answers with an error, so that requests do not fall through to the next rule.

mod headers;
mod http;
mod l4;
mod matching;
mod retry;

use std::cell::Cell;

use mesh_core::config::{HostPattern, HttpRule, RouteTable, ServiceName, TcpRule, TlsRule, WeightedDestination};
use mesh_crd::Object;
use mesh_crd::networking::{self, VirtualService};

use crate::hosts;
use crate::objects::{origin, seniority};
use crate::problem::Problems;
use crate::view::View;

use matching::check_part_regex;

/// The most regular expressions in one VirtualService. Each may take [`mesh_core::matching::REGEX_COMPILED_BYTES_MAX`] in
/// every proxy that holds the routes, and time while the control plane compiles them.
pub(crate) const REGEXES_MAX: usize = 256;
/// A host that never exists (RFC 2606): the destination of a connection rule that cannot be read.
const BROKEN_RULE_HOST: &str = "broken-rule.invalid";

impl<'o> View<'o> {
    /// The VirtualService that routes `host` for clients of the namespace, and by which pattern: the most specific
    /// host, then the oldest.
    pub(crate) fn routes_by(&self, host: &str) -> Option<(String, &'o Object<VirtualService>)> {
        hosts::patterns(host).find_map(|pattern| {
            let keys = self.objects.index.routes.get(&pattern)?;
            let found = keys.iter().filter_map(|key| self.objects.virtual_services.get(key));
            let seen = found.filter(|object| self.sees_routes(object, host));
            let winner = seen.min_by(|a, b| seniority(a).cmp(&seniority(b)))?;
            Some((pattern, &**winner))
        })
    }

    /// The VirtualService that routes `host` for clients of the namespace.
    pub(crate) fn routes_for(&self, host: &str) -> Option<&'o Object<VirtualService>> {
        self.routes_by(host).map(|(_, object)| object)
    }

    /// The table of a host; none where neither a service nor a VirtualService of that name is there for the namespace.
    pub(crate) fn route_table(&self, name: &ServiceName) -> Option<RouteTable> {
        let implicit = self.objects.definition_of(name).is_some_and(|definition| self.exported(definition));
        let Some(object) = self.routes_for(&name.host) else {
            return implicit.then(|| RouteTable {
                name: name.clone(),
                hosts: Vec::new(),
                origin: None,
                implicit,
                http: Vec::new(),
                tls: Vec::new(),
                tcp: Vec::new(),
            });
        };
        if !implicit && object.meta.namespace != name.namespace.as_ref() {
            return None;
        }
        let rules = Rules::new(self, object);
        let mut problems = Problems::of(object);
        Some(RouteTable {
            name: name.clone(),
            hosts: self.objects.route_hosts(object).iter().map(|host| host_pattern(host)).collect(),
            origin: Some(origin(object)),
            implicit,
            http: rules.http(&mut problems),
            tls: rules.tls(&mut problems),
            tcp: rules.tcp(&mut problems),
        })
    }
}

/// The rules of a VirtualService, for clients of a view.
pub(crate) struct Rules<'v, 'o> {
    pub(crate) view: &'v View<'o>,
    pub(crate) object: &'o Object<VirtualService>,
    /// How many regular expressions were compiled so far.
    regexes: Cell<usize>,
}

impl<'v, 'o> Rules<'v, 'o> {
    pub(crate) fn new(view: &'v View<'o>, object: &'o Object<VirtualService>) -> Self {
        Self { view, object, regexes: Cell::new(0) }
    }
}

impl Rules<'_, '_> {
    /// Compiles one more regular expression, to see whether it can be used.
    fn check_regex(&self, check: fn(&str) -> Result<(), String>, regex: &str) -> Result<(), String> {
        if self.regexes.get() == REGEXES_MAX {
            return Err(format!("the VirtualService has more than {REGEXES_MAX} regular expressions"));
        }
        self.regexes.set(self.regexes.get() + 1);
        check(regex)
    }

    /// All HTTP rules that are for the view's clients.
    pub(crate) fn http(&self, problems: &mut Problems) -> Vec<HttpRule> {
        let rules = self.object.spec.http.iter().enumerate();
        rules.filter_map(|(index, rule)| self.http_rule(index, rule, problems)).collect()
    }

    /// All TLS rules that are for the view's clients.
    pub(crate) fn tls(&self, problems: &mut Problems) -> Vec<TlsRule> {
        let rules = self.object.spec.tls.iter().enumerate();
        rules.filter_map(|(index, rule)| self.tls_rule(index, rule, problems)).collect()
    }

    /// All TCP rules that are for the view's clients.
    pub(crate) fn tcp(&self, problems: &mut Problems) -> Vec<TcpRule> {
        let rules = self.object.spec.tcp.iter().enumerate();
        rules.filter_map(|(index, rule)| self.tcp_rule(index, rule, problems)).collect()
    }

    /// Whether a match is for sidecars in the view's namespace at all.
    fn applies(&self, gateways: &[String], source_namespace: &str) -> bool {
        let at_sidecars =
            gateways.is_empty() || gateways.iter().any(|gateway| gateway == mesh_crd::names::MESH_GATEWAY);
        at_sidecars && (source_namespace.is_empty() || source_namespace == self.view.namespace)
    }

    /// What could not be read at or around `at`, as a reason.
    fn unread(&self, at: &str) -> Option<String> {
        self.object.issues.touching(at).map(|issue| format!("{}: {}", issue.path, issue.message))
    }

    /// What could not be read in the rule at `at`, its matches aside.
    fn unread_beside_matches(&self, at: &str) -> Option<String> {
        let matches = format!("{at}.match");
        let inside = |path: &str| mesh_crd::path::is_within(path, at) && !mesh_crd::path::is_within(path, &matches);
        let issue = self.object.issues.iter().find(|issue| inside(&issue.path) || issue.path.is_empty())?;
        Some(format!("{}: {}", issue.path, issue.message))
    }

    /// A destination in the mesh's words, or why it is none.
    fn destination(
        &self,
        destination: Option<&networking::Destination>,
    ) -> Result<mesh_core::config::Destination, String> {
        let written = destination.filter(|to| !to.host.is_empty()).ok_or("a destination has no host")?;
        let port = match &written.port {
            None => None,
            Some(port) if port.number == 0 => None,
            Some(port) => Some(u16::try_from(port.number).map_err(|_| format!("{} is no port number", port.number))?),
        };
        let service = self.view.destination(&written.host, &self.object.meta.namespace);
        let subset = Some(written.subset.clone()).filter(|subset| !subset.is_empty());
        Ok(mesh_core::config::Destination { service, subset, port })
    }

    /// The destination of a connection rule that cannot be read: one that never exists, so that connections end with
    /// a reason instead of going elsewhere.
    fn nowhere(&self) -> WeightedDestination {
        let service = ServiceName::new(&self.object.meta.namespace, BROKEN_RULE_HOST);
        let destination = mesh_core::config::Destination { service, subset: None, port: None };
        WeightedDestination { destination, weight: 1, headers: Default::default() }
    }
}

/// Weights as shares: with several destinations those of weight 0 get nothing and are left out; a single one is
/// taken whatever its weight.
fn shares(weights: &[i32]) -> Result<Vec<(usize, u32)>, String> {
    if let [_] = weights {
        return Ok(vec![(0, 1)]);
    }
    if let Some(weight) = weights.iter().find(|weight| **weight < 0) {
        return Err(format!("the weight {weight} is negative"));
    }
    let kept: Vec<_> = weights.iter().enumerate().filter(|(_, weight)| **weight > 0).collect();
    if kept.is_empty() {
        return Err("the weights of all destinations are 0".to_owned());
    }
    Ok(kept.into_iter().map(|(index, weight)| (index, weight.unsigned_abs())).collect())
}

/// A host as the model writes patterns.
pub(crate) fn host_pattern(host: &str) -> HostPattern {
    match host.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
        None => HostPattern::Exact(host.to_owned()),
    }
}
