//! `sandbox up` and `sandbox down`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mesh_sandbox::client::{self, Start};
use mesh_sandbox::paths::{DEFAULT_NAME, StateDir};
use mesh_sandbox::protocol::{Applied, PodRow, Published, Request, Status};
use serde_json::json;

use super::show;
use crate::cli::{self, Format};
use crate::output::{self, BAD, BOLD, COMMAND, GOOD, WAITING, styled};

/// How often the supervisor is asked how far it is.
const LOOK: Duration = Duration::from_millis(50);
/// Log lines of a failing container that are shown.
const LOG_LINES: usize = 8;
/// Pods that are explained in full; the others are named.
const EXPLAINED_MAX: usize = 3;
/// Pods that cannot start are given this long: something that they wait for may be just being made.
const HOPE: Duration = Duration::from_secs(3);

/// Starts a sandbox and waits until its pods are ready.
pub(crate) fn up(args: &cli::Up) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(&args.target.name)?;
    let (files, images) = client::read_directory(&args.dir)?;
    let programs = programs(args.programs.as_deref())?;
    let begin = Instant::now();
    let words = ["sandbox", "agent", "--name", dir.name(), "--programs"].map(str::to_owned);
    let words: Vec<String> = words.into_iter().chain([programs.display().to_string()]).collect();
    match client::start(&dir, &words)? {
        Start::WasUp => {
            let (name, flag, given) = (dir.name(), name_flag(&dir), args.dir.display());
            bail!(
                "the sandbox {name:?} is up already: `meshctl sandbox apply -f {given}{flag}` changes it, \
                 `meshctl sandbox down{flag}` ends it, and `--name` starts another one beside it"
            )
        }
        Start::Started { after_crash: true } => {
            output::note("What a crashed sandbox of this name had left was removed.")
        }
        Start::Started { after_crash: false } => {}
    }
    match fill(args, &dir, files, images) {
        Ok(()) => {}
        Err(err) => {
            // Nothing was asked of this sandbox yet that could be worth keeping.
            drop(client::down(&dir, 0));
            return Err(err);
        }
    }
    let text = args.target.output == Format::Text;
    let (status, well) = wait(&dir, Duration::from_secs(args.timeout), text)?;
    if !text {
        output::structured(args.target.output, &status)?;
    } else if well {
        output::line(show::pods_table(&status, None));
        success(args, &dir, &status, begin.elapsed());
    } else {
        output::line(show::pods_table(&status, None));
    }
    if well {
        return Ok(ExitCode::SUCCESS);
    }
    explain(&dir, &status, args.timeout);
    Ok(ExitCode::from(output::EXIT_FAILED))
}

fn fill(
    args: &cli::Up,
    dir: &StateDir,
    files: Vec<mesh_sandbox::protocol::FileText>,
    images: Option<String>,
) -> anyhow::Result<()> {
    let request = Request::Apply { files, namespace: args.namespace.clone(), images };
    let applied: Applied = client::ask(dir, &request)?;
    for mistake in &applied.mistakes {
        output::note(format_args!("{BAD}error:{BAD:#} {mistake}"));
    }
    ensure!(applied.mistakes.is_empty(), "the manifests could not all be read; nothing was started");
    ensure!(!applied.done.is_empty(), "{} holds no objects", args.dir.display());
    let mut published = Vec::new();
    for text in &args.publish {
        published.push(parse_publish(text, dir, &args.namespace)?);
    }
    for one in published {
        let _: Published = client::ask(dir, &Request::Publish(one))?;
    }
    Ok(())
}

/// `SERVICE[.NAMESPACE]:PORT[=LOCALPORT]`; without a namespace, the one that has such a Service.
fn parse_publish(text: &str, dir: &StateDir, default: &str) -> anyhow::Result<Published> {
    let form = || format!("--publish {text:?} is not SERVICE[.NAMESPACE]:PORT[=LOCALPORT]");
    let (service, ports) = text.split_once(':').with_context(form)?;
    let (port, local) = ports.split_once('=').unwrap_or((ports, ports));
    let (port, local_port) = (port.parse().with_context(form)?, local.parse().with_context(form)?);
    if let Some((service, namespace)) = service.split_once('.') {
        return Ok(Published { namespace: namespace.into(), service: service.into(), port, local_port });
    }
    let request = Request::Get { kind: "Service".into(), namespace: None, name: Some(service.into()) };
    let found: Vec<mesh_sandbox::protocol::Shown> = client::ask(dir, &request)?;
    let namespaces: BTreeSet<&str> = found.iter().filter_map(|s| s.object["metadata"]["namespace"].as_str()).collect();
    let namespace = match namespaces.len() {
        0 => bail!("--publish {text}: there is no Service {service:?}"),
        1 => namespaces.first().copied().unwrap_or(default),
        _ if namespaces.contains(default) => default,
        _ => bail!("--publish {text}: several namespaces have a Service {service:?}; write {service}.NAMESPACE"),
    };
    Ok(Published { namespace: namespace.into(), service: service.into(), port, local_port })
}

/// Waits until all is ready (true), or the time is over or nothing can become better (false); shows progress.
pub(super) fn wait(dir: &StateDir, limit: Duration, show: bool) -> anyhow::Result<(Status, bool)> {
    let begin = Instant::now();
    let bar = ProgressBar::no_length();
    bar.set_draw_target(if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
    bar.set_style(ProgressStyle::with_template("{spinner} [{pos}/{len}] {wide_msg}")?);
    bar.enable_steady_tick(Duration::from_millis(100));
    let mut told = BTreeSet::new();
    loop {
        let status: Status = client::ask(dir, &Request::Status { full: false })?;
        let well = status.pods.iter().filter(|p| p.well).count();
        bar.set_length(status.pods.len() as u64);
        bar.set_position(well as u64);
        let waiting: Vec<String> =
            status.pods.iter().filter(|p| !p.well).map(|p| format!("{} ({})", p.name, p.status)).collect();
        bar.set_message(match waiting.as_slice() {
            [] => "pods ready".to_owned(),
            some => format!("pods ready; waiting for {}", some.join(", ")),
        });
        for pod in status.pods.iter().filter(|p| p.well) {
            // On a terminal the spinner shows it; elsewhere each pod gets one line.
            if show && told.insert(pod.name.clone()) && bar.is_hidden() {
                output::note(format_args!("ready: {}/{}", pod.namespace, pod.name));
            }
        }
        let hopeless = status.hopeless && begin.elapsed() > HOPE;
        if status.settled || hopeless || begin.elapsed() >= limit {
            bar.finish_and_clear();
            let well = status.settled;
            if well {
                // What was just found ready is told to the proxies before anybody relies on it.
                client::ask::<()>(dir, &Request::Settle)?;
            }
            return Ok((status, well));
        }
        std::thread::park_timeout(LOOK);
    }
}

fn success(args: &cli::Up, dir: &StateDir, status: &Status, took: Duration) {
    let flag = name_flag(dir);
    output::line("");
    output::line(format_args!("{} in {:.1} s.", styled(GOOD, "All pods are ready"), took.as_secs_f32()));
    if !status.mesh {
        output::line(styled(
            WAITING,
            "This sandbox has no mesh: mesh-control, mesh-proxy and mesh-cni are not in the programs folder.",
        ));
    }
    if !status.ignored.is_empty() {
        let count = status.ignored.len();
        output::line(format_args!(
            "{count} setting(s) of the manifests are not acted on; `meshctl sandbox status{flag}` lists them."
        ));
    }
    for published in &status.published {
        let Published { service, port, local_port, .. } = published;
        let path = if service == "productpage" { "/productpage" } else { "/" };
        output::line(format_args!(
            "Service {service}:{port} is at {}",
            styled(COMMAND, format!("http://127.0.0.1:{local_port}{path}"))
        ));
    }
    output::line("");
    output::line(styled(BOLD, "Try:"));
    // The pod behind a published Service has probably been busy; of the others, any will do.
    let front =
        |p: &&PodRow| status.published.iter().any(|of| of.namespace == p.namespace && p.name.starts_with(&of.service));
    let mut meshed = status.pods.iter().filter(|p| p.meshed && p.namespace != "mesh-system");
    let app = meshed.clone().find(front).or_else(|| meshed.next());
    if let Some(pod) = app {
        output::line(format_args!(
            "  {}",
            styled(COMMAND, format!("meshctl proxy-config routes {} -n {}{flag}", pod.name, pod.namespace))
        ));
        output::line(format_args!("  {}", styled(COMMAND, format!("meshctl proxy-status{flag}"))));
    } else if let Some(pod) = status.pods.iter().find(|p| p.namespace != "mesh-system") {
        output::line(format_args!(
            "  {}",
            styled(COMMAND, format!("meshctl sandbox logs {} -n {} -f{flag}", pod.name, pod.namespace))
        ));
    }
    let routing = args.dir.join("routing");
    if routing.is_dir() {
        output::line(format_args!(
            "  {}",
            styled(COMMAND, format!("meshctl sandbox apply -f {}/FILE{flag}", routing.display()))
        ));
    }
    output::line(format_args!("  {}", styled(COMMAND, format!("meshctl sandbox down{flag}"))));
}

/// Says of each pod that is not well: which container, why, its last words, and what to do.
pub(super) fn explain(dir: &StateDir, status: &Status, seconds: u64) {
    let flag = name_flag(dir);
    for problem in &status.problems {
        output::note(format_args!("{BAD}error:{BAD:#} {problem}"));
    }
    let unwell: Vec<_> = status.pods.iter().filter(|p| !p.well).collect();
    for pod in unwell.iter().take(EXPLAINED_MAX) {
        output::note(format_args!("\n{BAD}pod {}/{}{BAD:#} is not ready: {}", pod.namespace, pod.name, pod.status));
        for (container, why) in &pod.complaints {
            output::note(format_args!("  container {container}: {why}"));
            for line in log_end(dir, pod, container) {
                output::note(format_args!("    | {line}"));
            }
        }
        for event in pod.events.iter().rev().take(3).rev() {
            output::note(format_args!("  event: {event}"));
        }
        let ns = &pod.namespace;
        output::note(format_args!(
            "  look: {}",
            styled(COMMAND, format!("meshctl sandbox logs {} -n {ns}{flag}", pod.name))
        ));
    }
    if unwell.len() > EXPLAINED_MAX {
        let more: Vec<_> = unwell[EXPLAINED_MAX..].iter().map(|p| format!("{} ({})", p.name, p.status)).collect();
        output::note(format_args!("\nnot ready either: {}", more.join(", ")));
    }
    output::note(format_args!(
        "\nThe sandbox is up, but not everything in it was ready within {seconds} s. Correct the manifests and apply them \
         (`meshctl sandbox apply -f …{flag}`), wait longer (--timeout), or end it (`meshctl sandbox down{flag}`)."
    ));
}

fn log_end(dir: &StateDir, pod: &PodRow, container: &str) -> Vec<String> {
    let request = Request::Pod { namespace: Some(pod.namespace.clone()), name: pod.name.clone() };
    let Ok(info) = client::ask::<mesh_sandbox::protocol::PodInfo>(dir, &request) else { return Vec::new() };
    let Some(found) = info.containers.iter().find(|c| c.name == container) else { return Vec::new() };
    let text = std::fs::read(&found.log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].to_vec()
}

/// Ends a sandbox.
pub(crate) fn down(args: &cli::Down) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(&args.target.name)?;
    let existed = dir.root().exists();
    let bar = ProgressBar::new_spinner();
    bar.set_message("ending pods");
    if args.target.output == Format::Text {
        bar.enable_steady_tick(Duration::from_millis(100));
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let ended = client::down(&dir, args.grace);
    bar.finish_and_clear();
    let ended = ended?;
    if output::structured(args.target.output, &json!({"name": dir.name(), "existed": existed, "podsEnded": ended}))? {
        return Ok(ExitCode::SUCCESS);
    }
    match (ended, existed) {
        (Some(count), _) => {
            output::line(format_args!("The sandbox {:?} is down; {count} pods were ended.", dir.name()))
        }
        (None, true) => output::line(format_args!(
            "The sandbox {:?} had no supervisor any more; what was left is removed.",
            dir.name()
        )),
        (None, false) => output::line(format_args!("The sandbox {:?} was not up.", dir.name())),
    }
    Ok(ExitCode::SUCCESS)
}

fn programs(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = match given {
        Some(folder) => folder.to_owned(),
        None => std::env::current_exe()?.parent().context("meshctl lies in no folder")?.to_owned(),
    };
    let found = std::fs::canonicalize(&folder).with_context(|| format!("--programs {}", folder.display()))?;
    ensure!(found.is_dir(), "--programs {} is not a folder", folder.display());
    Ok(found)
}

/// ` --name X`, where it is needed.
pub(super) fn name_flag(dir: &StateDir) -> String {
    if dir.name() == DEFAULT_NAME { String::new() } else { format!(" --name {}", dir.name()) }
}
