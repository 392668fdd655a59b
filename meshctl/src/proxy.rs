//! `meshctl proxy-status`, `proxy-config` and `version`: questions to the programs of the mesh inside a sandbox.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use mesh_sandbox::client;
use mesh_sandbox::paths::StateDir;
use mesh_sandbox::protocol::{HttpAnswer, Request};
use serde_json::{Value, json};

use crate::cli::{self, Format, Part};
use crate::output::{self, BAD, WAITING};
use crate::proxy_tables;

/// mesh-control's API and the proxy's admin interface, on their pods' loopback addresses.
const CONTROL_API: u16 = 15016;
/// See [`CONTROL_API`].
const PROXY_ADMIN: u16 = 15000;

fn ask(dir: &StateDir, namespace: Option<&str>, pod: &str, port: u16, path: &str) -> anyhow::Result<Value> {
    let request =
        Request::HttpGet { namespace: namespace.map(str::to_owned), pod: pod.into(), port, path: path.into() };
    let answer: HttpAnswer = client::ask(dir, &request)?;
    ensure!(answer.code == 200, "{pod} answered {} to {path}: {}", answer.code, answer.body.trim());
    serde_json::from_str(&answer.body).with_context(|| format!("the answer of {pod} to {path} is not JSON"))
}

/// Shows the proxies that are connected to the control plane.
pub(crate) fn status(args: &cli::ProxyStatus) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(&args.target.name)?;
    let mut proxies = ask(&dir, Some("mesh-system"), "mesh-control", CONTROL_API, "/v1/proxies")?;
    if let (Some(pod), Some(list)) = (&args.pod, proxies.as_array_mut()) {
        list.retain(|p| p["pod"].as_str().is_some_and(|name| name.starts_with(pod.as_str())));
    }
    if output::structured(args.target.output, &proxies)? {
        return Ok(ExitCode::SUCCESS);
    }
    let list = proxies.as_array().context("the control plane's list of proxies is no list")?;
    if list.is_empty() {
        match &args.pod {
            Some(pod) => output::note(format_args!("No proxy of a pod {pod}* is connected.")),
            None => output::note("No proxy is connected."),
        }
        return Ok(ExitCode::SUCCESS);
    }
    output::line(output::table(
        &["NAMESPACE", "POD", "SYNC", "VERSION", "IDENTITY", "CERTIFICATE", "CONNECTED"],
        list.iter().map(proxy_row).collect(),
    ));
    for proxy in list {
        for rejected in proxy["rejected"].as_array().into_iter().flatten() {
            let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            output::line(format_args!(
                "\n{BAD}rejected{BAD:#} by {}: {}: {}",
                word(&proxy["pod"]),
                word(&rejected["name"]),
                word(&rejected["reason"])
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn proxy_row(proxy: &Value) -> Vec<String> {
    let word = |field: &str| proxy[field].as_str().unwrap_or("-").to_owned();
    let mut states: Vec<(&str, usize)> = Vec::new();
    for state in proxy["types"].as_object().into_iter().flatten().filter_map(|(_, s)| s.as_str()) {
        match states.iter_mut().find(|(s, _)| *s == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    let sync = match states.as_slice() {
        [] => "-".to_owned(),
        [(state, _)] => (*state).to_owned(),
        several => several.iter().map(|(s, n)| format!("{n} {s}")).collect::<Vec<_>>().join(", "),
    };
    let now = Timestamp::now();
    let time = |field: &str| proxy[field].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let expiry =
        time("certificate_expiry").map_or("-".into(), |t| format!("{} left", age(t.as_second() - now.as_second())));
    let connected =
        time("connected_at").map_or("-".into(), |t| format!("{} ago", age(now.as_second() - t.as_second())));
    vec![word("namespace"), word("pod"), sync, word("version"), word("identity"), expiry, connected]
}

fn age(seconds: i64) -> String {
    match seconds {
        s if s < 0 => "expired, nothing".into(),
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7199 => format!("{}m", s / 60),
        s => format!("{}h", s / 3600),
    }
}

/// Shows the configuration of one proxy.
pub(crate) fn config(args: &cli::ProxyConfig) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(&args.target.name)?;
    let part = match args.part {
        Part::Services => "services",
        Part::Routes => "routes",
        Part::Endpoints => "endpoints",
        Part::Inbound => "inbound",
        Part::Secrets => "secrets",
        Part::Settings => "settings",
        Part::All => "all",
    };
    let mut value = ask(&dir, args.within.namespace.as_deref(), &args.pod, PROXY_ADMIN, &format!("/config/{part}"))
        .with_context(|| {
            format!("the proxy of {} cannot be asked (`meshctl sandbox status` says who has one)", args.pod)
        })?;
    match (args.target.output, args.part) {
        // Settings are no table; what is not set is left out.
        (Format::Text, Part::Settings) => {
            value.as_object_mut().into_iter().flat_map(|parts| parts.values_mut()).for_each(drop_empty);
            output::structured(Format::Yaml, &value)?;
        }
        (Format::Text, _) => proxy_tables::print(&value),
        (format, _) => {
            output::structured(format, &value)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Leaves out of maps what says nothing: null, empty texts, lists and maps.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|_, value| match value {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !map.is_empty(),
                Value::Bool(_) | Value::Number(_) => true,
            });
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Shows versions.
pub(crate) fn version(args: &cli::Version) -> anyhow::Result<ExitCode> {
    let own = env!("CARGO_PKG_VERSION");
    let dir = StateDir::new(&args.target.name)?;
    let control = if client::is_up(&dir) {
        ask(&dir, Some("mesh-system"), "mesh-control", CONTROL_API, "/v1/version").ok()
    } else {
        None
    };
    if output::structured(args.target.output, &json!({"meshctl": own, "meshControl": control}))? {
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!("meshctl {own}"));
    match control {
        Some(control) => output::line(format_args!(
            "mesh-control {}",
            control["version"].as_str().unwrap_or("of an unknown version")
        )),
        None => {
            output::line(format_args!("{WAITING}no control plane answers in the sandbox {:?}{WAITING:#}", dir.name()))
        }
    }
    Ok(ExitCode::SUCCESS)
}
