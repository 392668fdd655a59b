//! Traffic capture: `mesh-cni init` sets the redirect rules of the pod that it runs in.
//!
//! What the rules are is a pure function ([`rules`]) pinned by golden files; what is to be written, given what is there,
//! is another ([`plan`]). The rest runs the iptables programs ([`programs`]) and checks their work ([`init`]).
//! It runs before every meshed pod, so it starts fast: no runtime, no threads but one per program that it runs.

mod cli;
mod config;
mod error;
mod init;
mod loopback;
mod plan;
mod programs;
mod rules;
mod saved;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
