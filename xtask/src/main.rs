//! All automation, as `cargo xtask`: what a person types, what CI runs and what the README promises are one thing.
//!
//! It only starts other programs and reads files; a step that fails says what to do next.

mod ci;
mod demo;
mod machine;
mod pipeline;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "All automation of this repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run the whole pipeline: tidy, format, lint, build, test, docs, end-to-end scenarios
    Ci {
        /// The developer's five minutes: tidy, format, lint, pure tests, one scenario
        #[arg(long, conflicts_with = "full")]
        quick: bool,
        /// The whole pipeline, then the scenarios again with the programs as they are shipped (a long build)
        #[arg(long)]
        full: bool,
    },
    /// Install what the tests need from Debian (as root), then run the whole pipeline
    Test,
    /// Build the programs, start bookinfo in a sandbox and wait until its page answers
    #[command(alias = "sandbox-demo")]
    Demo {
        /// Port on 127.0.0.1 for the page
        #[arg(long, default_value_t = demo::PORT)]
        port: u16,
    },
    /// Check what no compiler checks: dependencies, licences, levels, headers, paths in documents
    Tidy,
    /// Write the protobuf code anew from its .proto files
    Codegen,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Ci { quick: true, .. } => ci::quick(),
        Task::Ci { full, .. } => ci::run(full),
        Task::Test => ci::test(),
        Task::Demo { port } => demo::run(port),
        Task::Tidy => tidy::run(),
        Task::Codegen => ci::codegen(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
