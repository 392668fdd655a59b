//! `meshctl`: people's tool for the mesh.
//!
//! Thin on purpose: the sandbox is `mesh-sandbox`, injection is `mesh-inject`. Here are arguments, words and tables.

mod cli;
mod inject;
mod output;
mod proxy;
mod proxy_tables;
mod sandbox;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    // Helpers of the sandbox run as this same program; they must come first, before any thread.
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(code) = mesh_sandbox::dispatch(&args) {
        return code;
    }
    let cli = cli::Cli::parse();
    let done = match cli.command {
        cli::Command::Sandbox(command) => sandbox::run(*command),
        cli::Command::Inject(args) => inject::run(&args),
        cli::Command::ProxyStatus(args) => proxy::status(&args),
        cli::Command::ProxyConfig(args) => proxy::config(&args),
        cli::Command::Version(args) => proxy::version(&args),
        cli::Command::Completion { shell } => {
            let mut command = cli::Cli::command();
            clap_complete::generate(shell, &mut command, "meshctl", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|err| {
        output::error(&err);
        ExitCode::from(output::EXIT_FAILED)
    })
}
