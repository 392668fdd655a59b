//! The data plane: sidecar and gateway.
//!
//! `mesh-proxy sidecar` runs in every pod of the mesh. The other commands talk to the running proxy through its Unix
//! socket: `drain` is the container's preStop hook, `ready` its startup probe, `log-level` is for people. The code map is in `app`.

mod admin;
mod app;
mod backoff;
mod bootstrap;
mod certs;
mod config;
mod control_plane;
mod control_socket;
mod detect;
mod drain;
#[cfg(test)]
mod fake_control;
mod http;
mod inbound;
mod listen;
mod outbound;
mod ready;
mod telemetry;
mod upstream;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Proxy of the mesh: captures a pod's connections and speaks mutual TLS for it.
#[derive(Parser)]
#[command(name = "mesh-proxy", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run as a pod's sidecar. Its settings come from the environment, as the injector writes it.
    Sidecar,
    /// Tell the running proxy that the pod is ending: clients are told to go elsewhere, everything is still served.
    Drain {
        /// Return only after this time (gateways, whose TERM follows at once).
        #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
        wait: Duration,
    },
    /// Change what the running proxy logs, for example `debug` or `mesh_proxy::outbound=debug,warn`.
    LogLevel {
        /// The filter.
        filter: String,
    },
    /// Exit 0 if the running proxy is ready, else 1.
    Ready {
        /// Say what is there and what is missing.
        #[arg(long)]
        explain: bool,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Sidecar => app::sidecar(),
        Command::Drain { wait } => app::command(drain_command(wait)),
        Command::LogLevel { filter } => app::command(log_level_command(filter)),
        Command::Ready { explain } => app::command(ready_command(explain)),
    }
}

async fn drain_command(wait: Duration) -> ExitCode {
    let path = bootstrap::Paths::default().socket();
    match control_socket::ask(&path, "drain").await {
        Ok(answer) => print!("{answer}"),
        Err(error) => {
            eprintln!("no proxy listens on {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    tokio::time::sleep(wait).await;
    ExitCode::SUCCESS
}

async fn log_level_command(filter: String) -> ExitCode {
    let path = bootstrap::Paths::default().socket();
    match control_socket::ask(&path, &format!("log-level {filter}")).await {
        Ok(answer) => {
            print!("{answer}");
            if answer.starts_with("log level ") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("no proxy listens on {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

async fn ready_command(explain: bool) -> ExitCode {
    let path = bootstrap::Paths::default().socket();
    let answer = match control_socket::ask(&path, "ready").await {
        Ok(answer) => answer,
        Err(error) => format!("not ready\n  no proxy listens on {}: {error}\n", path.display()),
    };
    if explain {
        print!("{answer}");
    }
    if answer.lines().next() == Some("ready") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `10s`, `500ms`, `2m` or a bare number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "expected a duration such as 10s".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        unit => Err(format!("unknown unit {unit:?}; use ms, s or m")),
    }
}
