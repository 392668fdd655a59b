//! The annotations with which a pod's author steers capture, resources and probes, parsed into types.
//!
//! Each value is parsed completely before anything is built from it, so that a hostile one (line breaks, quotes, `{{`)
//! is refused and can never become part of anything else. Names and defaults are Istio's.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::error::{Error, quote};
use crate::names::PROXY_CONFIG;
use crate::parts::Parts;
use crate::proxy_config;
use crate::quantity;
use crate::settings::{Resources, Settings};

/// Entries that one list annotation may have.
const LIST_ENTRIES_MAX: usize = 256;
/// Bytes that the name of an interface may have (`IFNAMSIZ` less the final zero).
const INTERFACE_BYTES_MAX: usize = 15;

const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
const REWRITE_PROBES: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
const PROXY_CPU: &str = "sidecar.istio.io/proxyCPU";
const PROXY_MEMORY: &str = "sidecar.istio.io/proxyMemory";
const PROXY_CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
const PROXY_MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
const INCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
const EXCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
const READINESS_DELAY: &str = "readiness.status.sidecar.istio.io/initialDelaySeconds";
const READINESS_PERIOD: &str = "readiness.status.sidecar.istio.io/periodSeconds";
const READINESS_FAILURES: &str = "readiness.status.sidecar.istio.io/failureThreshold";

/// Annotations under Istio's prefixes that are either acted on elsewhere or only informative.
const KNOWN_ELSEWHERE: [&str; 4] =
    [crate::names::SIDECAR_INJECT, crate::names::SIDECAR_STATUS, crate::prometheus::MERGE_METRICS, "istio.io/rev"];
pub(crate) const OURS: [&str; 18] = [
    PROXY_CONFIG,
    INTERCEPTION_MODE,
    LOG_LEVEL,
    REWRITE_PROBES,
    PROXY_CPU,
    PROXY_MEMORY,
    PROXY_CPU_LIMIT,
    PROXY_MEMORY_LIMIT,
    INCLUDE_OUTBOUND_RANGES,
    EXCLUDE_OUTBOUND_RANGES,
    INCLUDE_INBOUND_PORTS,
    EXCLUDE_INBOUND_PORTS,
    INCLUDE_OUTBOUND_PORTS,
    EXCLUDE_OUTBOUND_PORTS,
    EXCLUDE_INTERFACES,
    READINESS_DELAY,
    READINESS_PERIOD,
    READINESS_FAILURES,
];
/// Prefixes of annotations that address a sidecar: one that is not acted on is reported.
const PREFIXES: [&str; 6] = [
    "sidecar.istio.io/",
    "traffic.sidecar.istio.io/",
    "readiness.status.sidecar.istio.io/",
    "status.sidecar.istio.io/",
    "proxy.istio.io/",
    "inject.istio.io/",
];

/// Ports or ranges: all of them, or those listed (none, if the list is empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which<T> {
    All,
    Listed(Vec<T>),
}

/// What the annotations ask for, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) include_outbound_ranges: Which<IpNet>,
    pub(crate) exclude_outbound_ranges: Vec<IpNet>,
    pub(crate) include_inbound_ports: Which<u16>,
    pub(crate) exclude_inbound_ports: Vec<u16>,
    pub(crate) include_outbound_ports: Vec<u16>,
    pub(crate) exclude_outbound_ports: Vec<u16>,
    pub(crate) exclude_interfaces: Vec<String>,
    pub(crate) log_level: String,
    pub(crate) concurrency: Option<u64>,
    pub(crate) rewrite_probes: bool,
    pub(crate) resources: Resources,
    pub(crate) readiness: Readiness,
}

/// How often readiness of the proxy is asked for, in seconds and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) initial_delay: u32,
    pub(crate) period: u32,
    pub(crate) failures: u32,
}

/// Reads the annotations of a pod; what is not acted on goes into `warnings`.
pub(crate) fn read(pod: &Parts, settings: &Settings, warnings: &mut Vec<String>) -> Result<Wishes, Error> {
    report_others(pod, settings, warnings);
    // With Istio's names switched off (its own webhook is in charge of them) a pod has the mesh's defaults.
    let get = |name| if settings.istio_labels { pod.annotation(name) } else { None };
    interception_mode(get(INTERCEPTION_MODE))?;
    Ok(Wishes {
        include_outbound_ranges: which(INCLUDE_OUTBOUND_RANGES, get(INCLUDE_OUTBOUND_RANGES), range)?,
        exclude_outbound_ranges: match get(EXCLUDE_OUTBOUND_RANGES) {
            Some(text) => list(EXCLUDE_OUTBOUND_RANGES, text, range)?,
            None => settings.exclude_outbound_ranges.clone(),
        },
        include_inbound_ports: which(INCLUDE_INBOUND_PORTS, get(INCLUDE_INBOUND_PORTS), port)?,
        exclude_inbound_ports: list_or_none(EXCLUDE_INBOUND_PORTS, get(EXCLUDE_INBOUND_PORTS), port)?,
        include_outbound_ports: list_or_none(INCLUDE_OUTBOUND_PORTS, get(INCLUDE_OUTBOUND_PORTS), port)?,
        exclude_outbound_ports: list_or_none(EXCLUDE_OUTBOUND_PORTS, get(EXCLUDE_OUTBOUND_PORTS), port)?,
        exclude_interfaces: list_or_none(EXCLUDE_INTERFACES, get(EXCLUDE_INTERFACES), interface)?,
        log_level: log_level(get(LOG_LEVEL), settings)?,
        concurrency: match get(PROXY_CONFIG) {
            Some(text) => proxy_config::read(text, warnings)?.concurrency,
            None => None,
        },
        rewrite_probes: boolean(REWRITE_PROBES, get(REWRITE_PROBES), settings.rewrite_probes)?,
        resources: resources(&get, settings)?,
        readiness: Readiness {
            initial_delay: number(READINESS_DELAY, get(READINESS_DELAY), 0, 0)?,
            period: number(READINESS_PERIOD, get(READINESS_PERIOD), 15, 1)?,
            failures: number(READINESS_FAILURES, get(READINESS_FAILURES), 4, 1)?,
        },
    })
}

/// An annotation that looks like a wish and has no effect must not stay silent.
fn report_others(pod: &Parts, settings: &Settings, warnings: &mut Vec<String>) {
    for name in pod.annotations.keys().filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix))) {
        if KNOWN_ELSEWHERE.contains(&name.as_str()) {
            continue;
        }
        if !OURS.contains(&name.as_str()) {
            warnings.push(format!("annotation {} is not acted on by this mesh", quote(name)));
        } else if !settings.istio_labels {
            warnings.push(format!("annotation {} is ignored: compatibility.istioLabels is off", quote(name)));
        }
    }
}

fn interception_mode(value: Option<&str>) -> Result<(), Error> {
    match value {
        None | Some("REDIRECT") => Ok(()),
        Some(text @ ("TPROXY" | "NONE")) => Err(invalid(
            INTERCEPTION_MODE,
            text,
            "this mode is not supported by this mesh: only REDIRECT is. Remove the annotation, or opt the pod out with the label sidecar.istio.io/inject: \"false\"",
        )),
        Some(text) => Err(invalid(INTERCEPTION_MODE, text, "must be REDIRECT")),
    }
}

/// Envoy's level names, translated to ours.
fn log_level(value: Option<&str>, settings: &Settings) -> Result<String, Error> {
    let level = match value {
        None => return Ok(settings.log_level.clone()),
        Some("warning") => "warn",
        Some("critical") => "error",
        Some(text @ ("trace" | "debug" | "info" | "warn" | "error" | "off")) => text,
        Some(text) => {
            return Err(invalid(LOG_LEVEL, text, "must be one of trace, debug, info, warning, error, critical, off"));
        }
    };
    Ok(level.to_owned())
}

/// All or nothing: one resource annotation drops all defaults, as in Istio.
fn resources<'a>(get: &impl Fn(&'static str) -> Option<&'a str>, settings: &Settings) -> Result<Resources, Error> {
    let quantity = |name: &'static str| match get(name) {
        Some(text) if !quantity::is_valid(text) => {
            Err(invalid(name, text, "must be a quantity such as 100m, 0.5, 128Mi"))
        }
        value => Ok(value.map(str::to_owned)),
    };
    let wished = Resources {
        cpu_request: quantity(PROXY_CPU)?,
        memory_request: quantity(PROXY_MEMORY)?,
        cpu_limit: quantity(PROXY_CPU_LIMIT)?,
        memory_limit: quantity(PROXY_MEMORY_LIMIT)?,
    };
    Ok(if wished == Resources::default() { settings.resources.clone() } else { wished })
}

fn boolean(name: &'static str, value: Option<&str>, default: bool) -> Result<bool, Error> {
    let Some(text) = value else { return Ok(default) };
    parse_bool(text).ok_or_else(|| invalid(name, text, "must be true or false"))
}

/// A boolean in any of the spellings that Istio takes.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn number(name: &'static str, value: Option<&str>, default: u32, min: u32) -> Result<u32, Error> {
    let Some(text) = value else { return Ok(default) };
    match text.parse::<u32>() {
        Ok(number) if number >= min && number <= i32::MAX as u32 => Ok(number),
        _ => Err(invalid(name, text, &format!("must be a whole number, at least {min}"))),
    }
}

fn which<T>(
    name: &'static str,
    value: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Which<T>, Error> {
    match value {
        None | Some("*") => Ok(Which::All),
        Some(text) => Ok(Which::Listed(list(name, text, parse)?)),
    }
}

fn list_or_none<T>(
    name: &'static str,
    value: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Error> {
    value.map_or(Ok(Vec::new()), |text| list(name, text, parse))
}

fn list<T>(name: &'static str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Error> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.split(',').count() > LIST_ENTRIES_MAX {
        return Err(invalid(name, text, &format!("has more than {LIST_ENTRIES_MAX} entries")));
    }
    // Spaces after commas are common in hand-written lists; other white space is not part of any list.
    text.split(',')
        .map(|entry| parse(entry.trim_matches(' ')).map_err(|problem| invalid(name, text, &problem)))
        .collect()
}

fn port(entry: &str) -> Result<u16, String> {
    match entry.parse::<u16>() {
        Ok(port) if port != 0 && entry.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{} is not a port (1 to 65535)", quote(entry))),
    }
}

/// A CIDR, or an address, which is a range of one.
fn range(entry: &str) -> Result<IpNet, String> {
    let net = entry.parse::<IpNet>().or_else(|_| entry.parse::<std::net::IpAddr>().map(IpNet::from));
    net.map(|net| net.trunc()).map_err(|_| format!("{} is not a CIDR such as 10.0.0.0/8", quote(entry)))
}

/// A name that the kernel could have given, or a prefix with `+` as iptables writes it.
fn interface(entry: &str) -> Result<String, String> {
    let fits = !entry.is_empty() && entry.len() <= INTERFACE_BYTES_MAX;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    let name = entry.strip_suffix('+').unwrap_or(entry);
    if fits && !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) {
        return Ok(entry.to_owned());
    }
    Err(format!("{} is not the name of a network interface", quote(entry)))
}

fn invalid(annotation: &'static str, value: &str, problem: &str) -> Error {
    Error::Annotation { annotation, value: quote(value), problem: problem.to_owned() }
}

/// Joins entries with commas.
pub(crate) fn join<T: std::fmt::Display>(entries: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for entry in entries {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}{entry}").expect("writing to a String does not fail");
    }
    text
}

impl<T: std::fmt::Display> Which<T> {
    /// As an argument: `*`, or the entries with commas.
    pub(crate) fn argument(&self) -> String {
        match self {
            Which::All => "*".to_owned(),
            Which::Listed(entries) => join(entries),
        }
    }
}
