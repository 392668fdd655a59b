//! Route tables: rules in the order in which they are asked.

use std::collections::BTreeMap;

use mesh_core::config::{self, HostPattern, StringMatch};
use serde::Serialize;

use super::common::{Origin, ms};
use crate::config::View;

/// The routes of one host.
#[derive(Serialize)]
pub(in crate::admin) struct Table {
    /// `<namespace>/<host>`.
    name: String,
    /// Of the VirtualService: `*`, `*.example.com` or a host.
    hosts: Vec<String>,
    /// The VirtualService; `null`: there is none.
    origin: Option<Origin>,
    /// Where there are no rules for a protocol, go to the service itself.
    implicit: bool,
    /// The first that matches decides.
    http: Vec<HttpRule>,
    tls: Vec<L4Rule>,
    tcp: Vec<L4Rule>,
}

/// One entry of `spec.http`.
#[derive(Serialize)]
struct HttpRule {
    /// Its name, or its index.
    name: String,
    /// One must hold; none: everything matches.
    matches: Vec<HttpMatch>,
    action: Action,
    rewrite: Option<Rewrite>,
    headers: Headers,
    /// `null` is without limit.
    timeout_ms: Option<u64>,
    retry: Retry,
    fault: Option<Fault>,
}

/// All conditions must hold; `null` and empty ones do.
#[derive(Serialize)]
struct HttpMatch {
    name: String,
    path: Option<Text>,
    ignore_case: bool,
    method: Option<Text>,
    authority: Option<Text>,
    scheme: Option<Text>,
    headers: Vec<NamedText>,
    query: Vec<NamedText>,
    port: Option<u16>,
    source_labels: BTreeMap<String, String>,
    /// What is not built, for which it never matches.
    unsupported: Option<String>,
}

/// `{"exact": …}`, `{"prefix": …}`, `{"regex": …}` or `"present"`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    Exact(String),
    Prefix(String),
    Regex(String),
    Present,
}

/// A condition on a header or query parameter.
#[derive(Serialize)]
struct NamedText {
    name: String,
    value: Text,
    /// `withoutHeaders`: it must not hold.
    invert: bool,
}

/// What a rule does.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Action {
    Route {
        destinations: Vec<Destination>,
    },
    Redirect {
        status: u16,
        scheme: Option<String>,
        authority: Option<String>,
        port: Option<String>,
        uri: Option<String>,
        prefix: Option<String>,
    },
    Direct {
        status: u16,
        body_bytes: usize,
    },
    Invalid {
        reason: String,
    },
}

/// Where to, and how much of it.
#[derive(Serialize)]
struct Destination {
    /// `<namespace>/<host>`.
    service: String,
    subset: Option<String>,
    /// `null`: the service's only one, else the one dialled.
    port: Option<u16>,
    weight: u32,
    headers: Headers,
}

/// Header changes.
#[derive(Serialize)]
struct Headers {
    request: Edits,
    response: Edits,
}

/// In the order in which they are applied.
#[derive(Serialize)]
struct Edits {
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
    remove: Vec<String>,
}

/// Changes of path and authority.
#[derive(Serialize)]
struct Rewrite {
    uri: Option<String>,
    /// Pattern and replacement.
    uri_regex: Option<(String, String)>,
    authority: Option<String>,
}

/// Retries.
#[derive(Serialize)]
struct Retry {
    /// Beside the first try.
    attempts: u32,
    per_try_timeout_ms: Option<u64>,
    backoff_ms: u64,
    /// What is tried again beside what is provably unsent: Istio's names, and HTTP statuses.
    on: Vec<String>,
}

/// Injected faults.
#[derive(Serialize)]
struct Fault {
    delay_ms: Option<u64>,
    delay_percent: Option<f64>,
    abort_status: Option<u16>,
    abort_grpc: Option<u8>,
    abort_percent: Option<f64>,
}

/// One entry of `spec.tls` or `spec.tcp`.
#[derive(Serialize)]
struct L4Rule {
    matches: Vec<L4Match>,
    destinations: Vec<Destination>,
}

/// All conditions must hold; `null` and empty ones do.
#[derive(Serialize)]
struct L4Match {
    sni: Vec<String>,
    destination_subnets: Vec<String>,
    port: Option<u16>,
    source_labels: BTreeMap<String, String>,
    unsupported: Option<String>,
}

/// All tables.
pub(in crate::admin) fn all(view: &View) -> Vec<Table> {
    let mut tables: Vec<_> = view.route_tables().map(|(_, routes)| &routes.table).collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables.into_iter().map(|held| table(held)).collect()
}

fn table(table: &config::RouteTable) -> Table {
    Table {
        name: table.name.to_string(),
        hosts: table.hosts.iter().map(host).collect(),
        origin: table.origin.as_ref().map(Origin::from),
        implicit: table.implicit,
        http: table.http.iter().map(http_rule).collect(),
        tls: table.tls.iter().map(|rule| l4_rule(&rule.matches, &rule.destinations)).collect(),
        tcp: table.tcp.iter().map(|rule| l4_rule(&rule.matches, &rule.destinations)).collect(),
    }
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Any => "*".to_owned(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
        HostPattern::Exact(host) => host.clone(),
    }
}

fn http_rule(rule: &config::HttpRule) -> HttpRule {
    HttpRule {
        name: rule.name.clone(),
        matches: rule.matches.iter().map(http_match).collect(),
        action: action(&rule.action),
        rewrite: rule.rewrite.clone().map(|config::Rewrite { uri, uri_regex, authority }| Rewrite {
            uri,
            uri_regex,
            authority,
        }),
        headers: headers(&rule.headers),
        timeout_ms: rule.timeout.map(ms),
        retry: Retry {
            attempts: rule.retry.attempts,
            per_try_timeout_ms: rule.retry.per_try_timeout.map(ms),
            backoff_ms: ms(rule.retry.backoff),
            on: retry_on(&rule.retry.on),
        },
        fault: rule.fault.map(fault),
    }
}

fn http_match(written: &config::HttpMatch) -> HttpMatch {
    let header = |header: &config::HeaderMatch| NamedText {
        name: header.name.clone(),
        value: (&header.value).into(),
        invert: header.invert,
    };
    let query = |query: &config::QueryMatch| NamedText {
        name: query.name.clone(),
        value: (&query.value).into(),
        invert: false,
    };
    HttpMatch {
        name: written.name.clone(),
        path: written.path.as_ref().map(Text::from),
        ignore_case: written.ignore_case,
        method: written.method.as_ref().map(Text::from),
        authority: written.authority.as_ref().map(Text::from),
        scheme: written.scheme.as_ref().map(Text::from),
        headers: written.headers.iter().map(header).collect(),
        query: written.query.iter().map(query).collect(),
        port: written.port,
        source_labels: written.source_labels.clone(),
        unsupported: written.unsupported.clone(),
    }
}

impl From<&StringMatch> for Text {
    fn from(written: &StringMatch) -> Self {
        match written.clone() {
            StringMatch::Exact(text) => Self::Exact(text),
            StringMatch::Prefix(text) => Self::Prefix(text),
            StringMatch::Regex(text) => Self::Regex(text),
            StringMatch::Present => Self::Present,
        }
    }
}

fn action(written: &config::HttpAction) -> Action {
    match written {
        config::HttpAction::Route(to) => Action::Route { destinations: to.iter().map(destination).collect() },
        config::HttpAction::Redirect(redirect) => {
            let config::Redirect { uri, prefix, authority, scheme, port, status } = redirect.clone();
            let port = port.map(|port| match port {
                config::RedirectPort::Number(port) => port.to_string(),
                config::RedirectPort::ProtocolDefault => "protocol_default".to_owned(),
                config::RedirectPort::Request => "request".to_owned(),
            });
            Action::Redirect { status, scheme, authority, port, uri, prefix }
        }
        config::HttpAction::Direct(direct) => Action::Direct { status: direct.status, body_bytes: direct.body.len() },
        config::HttpAction::Invalid(reason) => Action::Invalid { reason: reason.clone() },
    }
}

fn destination(to: &config::WeightedDestination) -> Destination {
    Destination {
        service: to.destination.service.to_string(),
        subset: to.destination.subset.clone(),
        port: to.destination.port,
        weight: to.weight,
        headers: headers(&to.headers),
    }
}

fn headers(edits: &config::HeaderEdits) -> Headers {
    let config::HeaderEdits { request_set, request_add, request_remove, response_set, response_add, response_remove } =
        edits.clone();
    Headers {
        request: Edits { set: request_set, add: request_add, remove: request_remove },
        response: Edits { set: response_set, add: response_add, remove: response_remove },
    }
}

fn retry_on(on: &config::RetryOn) -> Vec<String> {
    let named = [
        (on.server_error, "5xx"),
        (on.gateway_error, "gateway-error"),
        (on.reset, "reset"),
        (on.connect_failure, "connect-failure"),
        (on.retriable_4xx, "retriable-4xx"),
    ];
    let named = named.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned());
    let grpc = on.grpc.iter().map(|status| match status {
        1 => "cancelled".to_owned(),
        4 => "deadline-exceeded".to_owned(),
        8 => "resource-exhausted".to_owned(),
        13 => "internal".to_owned(),
        14 => "unavailable".to_owned(),
        other => format!("grpc-{other}"),
    });
    named.chain(on.statuses.iter().map(ToString::to_string)).chain(grpc).collect()
}

fn fault(fault: config::Fault) -> Fault {
    let percent = |percent: config::Percent| f64::from(percent.0) / 10_000.0;
    Fault {
        delay_ms: fault.delay.map(|delay| ms(delay.duration)),
        delay_percent: fault.delay.map(|delay| percent(delay.percent)),
        abort_status: fault.abort.map(|abort| abort.status),
        abort_grpc: fault.abort.and_then(|abort| abort.grpc),
        abort_percent: fault.abort.map(|abort| percent(abort.percent)),
    }
}

fn l4_rule(matches: &[config::L4Match], destinations: &[config::WeightedDestination]) -> L4Rule {
    let l4_match = |written: &config::L4Match| L4Match {
        sni: written.sni.iter().map(host).collect(),
        destination_subnets: written.destination_subnets.iter().map(ToString::to_string).collect(),
        port: written.port,
        source_labels: written.source_labels.clone(),
        unsupported: written.unsupported.clone(),
    };
    L4Rule {
        matches: matches.iter().map(l4_match).collect(),
        destinations: destinations.iter().map(destination).collect(),
    }
}
