//! `sandbox status`, `get` and `list`.

use std::process::ExitCode;

use mesh_sandbox::client;
use mesh_sandbox::paths::StateDir;
use mesh_sandbox::protocol::{Finding, PodRow, Request, Shown, Status};
use serde_json::{Value, json};

use crate::cli::{self, Format, Target};
use crate::output::{self, BAD, BOLD, WAITING, styled};

/// Shows the state of a sandbox.
pub(crate) fn status(target: &Target, namespace: Option<&str>) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(&target.name)?;
    let mut status: Status = client::ask(&dir, &Request::Status { full: true })?;
    status.pods.retain(|p| namespace.is_none_or(|ns| p.namespace == ns));
    if output::structured(target.output, &status)? {
        return Ok(ExitCode::SUCCESS);
    }
    output::line(pods_table(&status, namespace));
    for published in &status.published {
        output::line(format_args!(
            "\npublished: {}.{}:{} at http://127.0.0.1:{}",
            published.service, published.namespace, published.port, published.local_port
        ));
    }
    if !status.findings.is_empty() {
        output::line(format_args!("\n{}", styled(BOLD, "the control plane says")));
        status.findings.iter().for_each(|f| output::line(finding(f)));
    }
    list_of("problems", BAD, &status.problems);
    list_of("not acted on", WAITING, &status.ignored);
    Ok(ExitCode::SUCCESS)
}

/// A finding in one line, with its remedy in a second one.
pub(super) fn finding(finding: &Finding) -> String {
    let style = match finding.severity.as_str() {
        "error" => BAD,
        "warning" => WAITING,
        _ => anstyle::Style::new(),
    };
    let mut out = format!("{style}{}:{style:#} {}", finding.severity, finding.object);
    if !finding.field.is_empty() {
        out.push_str(&format!(" {}", finding.field));
    }
    out.push_str(&format!(": {}", finding.message));
    if !finding.source.is_empty() {
        out.push_str(&format!(" ({})", finding.source));
    }
    if !finding.fix.is_empty() {
        out.push_str(&format!("\n  fix: {}", finding.fix));
    }
    out
}

fn list_of(title: &str, style: anstyle::Style, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    output::line(format_args!("\n{}", styled(style, title)));
    for line in lines {
        output::line(format_args!("  {line}"));
    }
}

/// The table of pods.
pub(super) fn pods_table(status: &Status, namespace: Option<&str>) -> String {
    let rows = status.pods.iter().filter(|p| namespace.is_none_or(|ns| p.namespace == ns)).map(pod_row).collect();
    let heading = ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "MESH", "ADDRESS", "AGE"];
    output::table(&heading, rows)
}

fn pod_row(pod: &PodRow) -> Vec<String> {
    vec![
        pod.namespace.clone(),
        pod.name.clone(),
        format!("{}/{}", pod.ready.0, pod.ready.1),
        pod.status.clone(),
        pod.restarts.to_string(),
        if pod.meshed { "yes" } else { "-" }.into(),
        pod.address.clone(),
        age(pod.age_seconds),
    ]
}

fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7199 => format!("{}m", s / 60),
        s => format!("{}h", s / 3600),
    }
}

/// Shows objects of a kind.
pub(crate) fn get(args: &cli::Get) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(&args.target.name)?;
    let (kind, name) = match args.kind.split_once('/') {
        Some((kind, name)) => (kind.to_owned(), Some(name.to_owned())),
        None => (args.kind.clone(), args.object.clone()),
    };
    let request = Request::Get { kind: kind.clone(), namespace: args.within.namespace.clone(), name: name.clone() };
    let shown: Vec<Shown> = client::ask(&dir, &request)?;
    if args.target.output != Format::Text {
        let items: Vec<Value> = shown.into_iter().map(with_status).collect();
        let single = name.is_some() && items.len() == 1;
        let value = if single { items.into_iter().next().unwrap_or_default() } else { list_object(items) };
        output::structured(args.target.output, &value)?;
        return Ok(ExitCode::SUCCESS);
    }
    if shown.is_empty() {
        anyhow::ensure!(name.is_none(), "there is no {kind} {:?}", name.unwrap_or_default());
        output::note(format_args!("No objects of kind {kind}."));
        return Ok(ExitCode::SUCCESS);
    }
    let mut heading = vec!["NAMESPACE".to_owned()];
    for (column, _) in shown.iter().flat_map(|s| &s.cells) {
        if !heading.contains(column) {
            heading.push(column.clone());
        }
    }
    let mesh = shown.iter().any(|s| s.mesh.is_some());
    if mesh {
        heading.extend(["ACCEPTED".into(), "PROBLEMS".into()]);
    }
    let rows = shown.iter().map(|s| row(s, &heading)).collect();
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    output::line(output::table(&heading, rows));
    for item in &shown {
        problems(item);
    }
    Ok(ExitCode::SUCCESS)
}

fn list_object(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// The object with what mesh-control says about it as its status.
fn with_status(shown: Shown) -> Value {
    let mut object = shown.object;
    if let Some(mesh) = shown.mesh {
        object["status"] = mesh;
    }
    object
}

fn row(shown: &Shown, heading: &[String]) -> Vec<String> {
    let problems = || shown.mesh.as_ref().and_then(|m| m["problems"].as_array()).map_or(0, Vec::len);
    let cell = |column: &String| match column.as_str() {
        "NAMESPACE" => shown.object["metadata"]["namespace"].as_str().unwrap_or("-").to_owned(),
        "ACCEPTED" => match shown.mesh.as_ref().map(|m| &m["accepted"]) {
            Some(Value::Bool(true)) => "yes".into(),
            Some(Value::Bool(false)) => "no".into(),
            _ => "?".into(),
        },
        "PROBLEMS" => problems().to_string(),
        other => shown.cells.iter().find(|(c, _)| c == other).map_or("-".into(), |(_, v)| v.clone()),
    };
    heading.iter().map(cell).collect()
}

fn problems(shown: &Shown) {
    let name = shown.object["metadata"]["name"].as_str().unwrap_or_default();
    let list = shown.mesh.as_ref().and_then(|m| m["problems"].as_array());
    for problem in list.into_iter().flatten() {
        let word = |f: &str| problem[f].as_str().unwrap_or_default();
        let style = if word("severity") == "error" { BAD } else { WAITING };
        output::line(format_args!(
            "\n{style}{}{style:#} {name} {}: {}",
            word("severity"),
            word("field"),
            word("message")
        ));
        for extra in ["fix", "source"] {
            if !word(extra).is_empty() {
                output::line(format_args!("  {extra}: {}", word(extra)));
            }
        }
    }
}

/// Lists the sandboxes of this machine.
fn sandboxes() -> Vec<Value> {
    let one = |name: String| {
        let Ok(dir) = StateDir::new(&name) else { return json!({"name": name, "state": "unknown"}) };
        match client::ask::<Status>(&dir, &Request::Status { full: false }) {
            Ok(s) => json!({
                "name": name, "state": "up", "pods": s.pods.len(), "ready": s.pods.iter().filter(|p| p.well).count(),
                "mesh": s.mesh,
            }),
            // It answers, but this program does not understand it: it was started by another version.
            Err(_) if client::is_up(&dir) => json!({"name": name, "state": "up (other version)"}),
            Err(_) => json!({"name": name, "state": "crashed"}),
        }
    };
    StateDir::all_names().into_iter().map(one).collect()
}

/// `sandbox list`.
pub(crate) fn list(format: Format) -> anyhow::Result<ExitCode> {
    let all = sandboxes();
    if output::structured(format, &all)? {
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        output::note("No sandbox is up. Start one: meshctl sandbox up DIR");
        return Ok(ExitCode::SUCCESS);
    }
    let rows = all
        .iter()
        .map(|s| {
            let word = |f: &str| s[f].as_str().unwrap_or("-").to_owned();
            let pods = match (s["ready"].as_u64(), s["pods"].as_u64()) {
                (Some(ready), Some(all)) => format!("{ready}/{all}"),
                _ => "-".into(),
            };
            vec![word("name"), word("state"), pods]
        })
        .collect();
    output::line(output::table(&["NAME", "STATE", "PODS"], rows));
    if all.iter().any(|s| s["state"] == "crashed") {
        output::line(format_args!(
            "\n{}",
            styled(BOLD, "crashed: `meshctl sandbox down --name NAME` removes what is left")
        ));
    }
    Ok(ExitCode::SUCCESS)
}
