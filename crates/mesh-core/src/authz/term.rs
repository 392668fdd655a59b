//! One term of a rule: a field, its values, perhaps negated, and what it says of a request or connection.

use ipnet::IpNet;

use super::Connection;
use crate::config::{Term, ValueMatch};
use crate::destination::parse_authority;
use crate::matching::Value;
use crate::request::RequestHead;

/// What a term says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    Unknown,
}

/// What is known of the traffic.
pub(super) struct Facts<'a> {
    pub(super) connection: &'a Connection<'a>,
    pub(super) request: Option<&'a RequestHead<'a>>,
}

#[derive(Debug)]
pub(super) struct CompiledTerm {
    /// As its author wrote it.
    pub(super) field: Box<str>,
    not: bool,
    about: About,
}

#[derive(Debug)]
enum About {
    Principal(Vec<Value>),
    Namespace(Vec<Value>),
    /// Namespace and name.
    ServiceAccount(Vec<(Box<str>, Box<str>)>),
    TrustDomain(Vec<Value>),
    SourceIp(Vec<IpNet>),
    DestinationIp(Vec<IpNet>),
    DestinationPort(Vec<u16>),
    Sni(Vec<Value>),
    Host(Vec<HostValue>),
    Method(Vec<Value>),
    Path(Vec<Value>),
    Header(Box<str>, Vec<Value>),
    Unknown {
        http_only: bool,
    },
}

/// A host pattern, and whether it says a port.
#[derive(Debug)]
struct HostValue {
    value: Value,
    with_port: bool,
}

impl CompiledTerm {
    /// Compiles a term; one whose values do not compile is unknown, and the problem says why.
    pub(super) fn compile(term: &Term, section: &str, trust_domains: &[String]) -> (Self, Option<String>) {
        let mut problem = None;
        let mut values = |written: &[ValueMatch]| -> Option<Vec<Value>> {
            match written.iter().map(Value::compile).collect() {
                Ok(values) => Some(values),
                Err(error) => {
                    problem = Some(error.to_string());
                    None
                }
            }
        };
        let when = section == "when";
        let (not, about, name): (bool, Option<About>, &str) = match term {
            Term::Principal { not, values: v } => {
                (*not, values(&in_all_trust_domains(v, trust_domains)).map(About::Principal), "principal")
            }
            Term::Namespace { not, values: v } => (*not, values(v).map(About::Namespace), "namespace"),
            Term::ServiceAccount { not, values: v } => {
                let split = |text: &String| text.split_once('/').map(|(ns, name)| (ns.into(), name.into()));
                let accounts = v.iter().map(split).collect::<Option<Vec<_>>>();
                if accounts.is_none() {
                    problem = Some("a service account is not <namespace>/<name>".to_owned());
                }
                (*not, accounts.map(About::ServiceAccount), "serviceAccount")
            }
            Term::TrustDomain { not, values: v } => (*not, values(v).map(About::TrustDomain), "trustDomain"),
            Term::SourceIp { not, values: v } => {
                (*not, Some(About::SourceIp(v.clone())), if when { "ip" } else { "ipBlock" })
            }
            Term::DestinationIp { not, values: v } => (*not, Some(About::DestinationIp(v.clone())), "destination.ip"),
            Term::DestinationPort { not, values: v } => {
                (*not, Some(About::DestinationPort(v.clone())), if when { "destination.port" } else { "port" })
            }
            Term::Sni { not, values: v } => (*not, values(v).map(About::Sni), "connection.sni"),
            Term::Host { not, values: v } => {
                let hosts = |values: Vec<Value>| values.into_iter().map(HostValue::new).collect();
                (*not, values(v).map(hosts).map(About::Host), "host")
            }
            Term::Method { not, values: v } => (*not, values(v).map(About::Method), "method"),
            Term::Path { not, values: v } => (*not, values(v).map(About::Path), "path"),
            Term::Header { name, not, values: v } => {
                (*not, values(v).map(|values| About::Header(name.to_ascii_lowercase().into(), values)), name)
            }
            Term::Unknown { field, http_only } => (false, Some(About::Unknown { http_only: *http_only }), field),
        };
        let http_only =
            matches!(term, Term::Host { .. } | Term::Method { .. } | Term::Path { .. } | Term::Header { .. });
        let about = about.unwrap_or(About::Unknown { http_only });
        let field = match term {
            Term::Unknown { .. } => name.to_owned(),
            Term::Header { .. } => format!("when[request.headers[{name}]]"),
            _ if when && name.contains('.') => format!("when[{name}]"),
            _ if when => format!("when[source.{name}]"),
            _ => plural_field(section, not, name),
        };
        (Self { field: field.into(), not, about }, problem)
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.about, About::Unknown { .. })
    }

    /// Whether the term is about requests.
    pub(super) fn is_http(&self) -> bool {
        match &self.about {
            About::Host(_) | About::Method(_) | About::Path(_) | About::Header(..) => true,
            About::Unknown { http_only } => *http_only,
            _ => false,
        }
    }

    /// Whether the term cannot hold on this port.
    pub(super) fn excludes_port(&self, port: u16) -> bool {
        matches!(&self.about, About::DestinationPort(ports) if ports.contains(&port) == self.not)
    }

    /// What the term says of the traffic.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> Truth {
        let plain = match self.about.matches(facts) {
            Answer::Known(plain) => plain,
            // "Not that principal" of somebody without one is unknown: it must not allow, and must deny.
            Answer::NothingThere if self.not => return Truth::Unknown,
            Answer::NothingThere => return Truth::No,
            Answer::Unknown => return Truth::Unknown,
        };
        if plain != self.not { Truth::Yes } else { Truth::No }
    }
}

/// Whether the values match, before negation.
enum Answer {
    Known(bool),
    /// The traffic has no such thing (no identity, no path).
    NothingThere,
    Unknown,
}

impl About {
    fn matches(&self, facts: &Facts<'_>) -> Answer {
        let connection = facts.connection;
        let identity = connection.identity;
        let of_identity = |values: &[Value], text: Option<&str>| match text {
            Some(text) => Answer::Known(any(values, text.as_bytes())),
            None => Answer::NothingThere,
        };
        let of_request = |answer: &dyn Fn(&RequestHead<'_>) -> Answer| match facts.request {
            Some(request) => answer(request),
            None => Answer::Unknown,
        };
        match self {
            Self::Principal(values) => of_identity(values, identity.map(|id| id.principal())),
            Self::Namespace(values) => of_identity(values, identity.map(|id| id.namespace())),
            Self::TrustDomain(values) => of_identity(values, identity.map(|id| id.trust_domain())),
            Self::ServiceAccount(accounts) => match identity {
                Some(id) => Answer::Known(
                    accounts.iter().any(|(ns, name)| **ns == *id.namespace() && **name == *id.service_account()),
                ),
                None => Answer::NothingThere,
            },
            Self::SourceIp(nets) => Answer::Known(within(nets, connection.source)),
            Self::DestinationIp(nets) => Answer::Known(within(nets, connection.destination)),
            Self::DestinationPort(ports) => Answer::Known(ports.contains(&connection.port)),
            Self::Sni(values) => Answer::Known(connection.sni.is_some_and(|sni| any(values, sni.as_bytes()))),
            Self::Host(values) => of_request(&|request| host_matches(values, request.authority)),
            Self::Method(values) => of_request(&|request| Answer::Known(any(values, request.method.as_bytes()))),
            Self::Path(values) => of_request(&|request| path_matches(values, request.path)),
            Self::Header(name, values) => of_request(&|request| {
                let joined = request.field(name);
                Answer::Known(joined.as_bytes().is_some_and(|value| any(values, value)))
            }),
            Self::Unknown { .. } => Answer::Unknown,
        }
    }
}

impl HostValue {
    fn new(value: Value) -> Self {
        let with_port = match &value {
            Value::Exact(text) | Value::Prefix(text) | Value::Suffix(text) => text.contains(':'),
            Value::Present | Value::Template(_) => false,
        };
        Self { value, with_port }
    }
}

fn any(values: &[Value], text: &[u8]) -> bool {
    values.iter().any(|value| value.matches(text))
}

fn within(nets: &[IpNet], address: std::net::IpAddr) -> bool {
    let address = address.to_canonical();
    nets.iter().any(|net| net.contains(&address))
}

/// Hosts are compared without case and trailing dot; with their port only where the pattern says one.
fn host_matches(values: &[HostValue], authority: &str) -> Answer {
    let Ok(parsed) = parse_authority(authority) else { return Answer::NothingThere };
    // As the host is read, not as it is written: `a.:080` is `a:80`.
    let with_port = |port: u16| match parsed.host.contains(':') {
        true => format!("[{}]:{port}", parsed.host),
        false => format!("{}:{port}", parsed.host),
    };
    let matches = |host: &HostValue| match (host.with_port, parsed.port) {
        (true, Some(port)) => host.value.matches_ignoring_case(with_port(port).as_bytes()),
        _ => host.value.matches_ignoring_case(parsed.host.as_bytes()),
    };
    Answer::Known(values.iter().any(matches))
}

/// `OPTIONS *` and CONNECT have no path: no path rule matches them, and no `notPaths` rule lets them in.
fn path_matches(values: &[Value], path: &str) -> Answer {
    match path.starts_with('/') {
        true => Answer::Known(any(values, path.as_bytes())),
        false => Answer::NothingThere,
    }
}

/// `operation.notPaths` and the like.
fn plural_field(section: &str, not: bool, name: &str) -> String {
    let mut chars = name.chars();
    match (not, chars.next()) {
        (true, Some(first)) => format!("{section}.not{}{}s", first.to_ascii_uppercase(), chars.as_str()),
        _ => format!("{section}.{name}s"),
    }
}

/// A principal that is written with one of the mesh's trust domains means the same account in all of them.
fn in_all_trust_domains(written: &[ValueMatch], trust_domains: &[String]) -> Vec<ValueMatch> {
    let mut values = Vec::with_capacity(written.len());
    for value in written {
        let (text, rebuild): (&str, fn(String) -> ValueMatch) = match value {
            ValueMatch::Exact(text) => (text, ValueMatch::Exact),
            ValueMatch::Prefix(text) => (text, ValueMatch::Prefix),
            ValueMatch::Suffix(_) | ValueMatch::Present | ValueMatch::Template(_) => {
                values.push(value.clone());
                continue;
            }
        };
        match text.split_once('/') {
            Some((own, rest)) if trust_domains.iter().any(|domain| domain == own) => {
                values.extend(trust_domains.iter().map(|domain| rebuild(format!("{domain}/{rest}"))));
            }
            _ => values.push(value.clone()),
        }
    }
    values
}
