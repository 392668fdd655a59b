//! `meshctl sandbox`: each command asks the sandbox's supervisor and shows its answer.

mod change;
mod look;
mod show;
mod up;

use std::process::ExitCode;

use mesh_sandbox::paths::StateDir;

use crate::cli::Sandbox;
use crate::output;

/// Runs one of the commands.
pub(crate) fn run(command: Sandbox) -> anyhow::Result<ExitCode> {
    match command {
        Sandbox::Up(args) => up::up(&args),
        Sandbox::Down(args) => up::down(&args),
        Sandbox::Status { target, within } => show::status(&target, within.namespace.as_deref()),
        Sandbox::Get(args) => show::get(&args),
        Sandbox::Exec(args) => look::exec(&args),
        Sandbox::Logs(args) => look::logs(&args),
        Sandbox::Apply(args) => change::apply(&args),
        Sandbox::Delete(args) => change::delete(&args),
        Sandbox::List { output } => show::list(output),
        Sandbox::Agent { name, programs } => agent(&name, programs),
    }
}

/// Becomes the supervisor. Its standard error is the log.
fn agent(name: &str, programs: std::path::PathBuf) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(name)?;
    // Its own session: it outlives the terminal on which `up` was typed.
    nix::unistd::setsid()?;
    let level = std::env::var("MESH_SANDBOX_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(level).with_ansi(false).with_writer(std::io::stderr).init();
    // Threads of the runtime live as long as it does, which the pods' helpers depend on.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Err(err) = runtime.block_on(mesh_sandbox::run(dir, programs)) {
        tracing::error!("{err:#}");
        return Ok(ExitCode::from(output::EXIT_FAILED));
    }
    Ok(ExitCode::SUCCESS)
}
