//! Runs the scenarios of a file: in order, each with its name, time and result, in the form of libtest's output.
//!
//! libtest would start them side by side and could not take the shared sandbox down at the end.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::Sandbox;

/// A sentence that is proven, and how.
pub struct Scenario {
    /// What holds, as a name.
    pub name: &'static str,
    /// Fails where it does not hold.
    pub prove: fn(&Sandbox) -> Result<()>,
}

/// Brings the sandbox up from `directory` (below the repository's root), runs the scenarios whose name contains the
/// first argument (all without one), and takes it down. Prints `SKIPPED: why` where namespaces cannot be made.
#[must_use]
pub fn run(directory: &str, scenarios: &[Scenario]) -> ExitCode {
    run_with(directory, &[], scenarios)
}

/// [`run`], with further arguments for `meshctl sandbox up`.
#[must_use]
pub fn run_with(directory: &str, more: &[&str], scenarios: &[Scenario]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| arguments.first().is_none_or(|part| name.contains(part.as_str()));
    if std::env::args().any(|argument| argument == "--list") {
        scenarios.iter().for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Scenario> = scenarios.iter().filter(|scenario| wanted(scenario.name)).collect();
    println!("\nrunning {} scenarios", chosen.len());
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: network namespaces need root");
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        return ExitCode::SUCCESS;
    }
    let begin = Instant::now();
    let sandbox = match Sandbox::up_named(directory, &format!("e2e-{}", std::process::id()), more) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            println!("scenarios of {directory}: the sandbox did not come up: {error:#}");
            println!("\ntest result: FAILED. 0 passed; {} failed; 0 ignored", chosen.len());
            return ExitCode::FAILURE;
        }
    };
    println!("sandbox `{}` of {directory} up after {:.1} s", sandbox.name(), begin.elapsed().as_secs_f32());

    let mut failed = Vec::new();
    for scenario in &chosen {
        let begin = Instant::now();
        let outcome = (scenario.prove)(&sandbox);
        let seconds = begin.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => println!("test {} ... ok ({seconds:.1} s)", scenario.name),
            Err(error) => {
                println!("test {} ... FAILED ({seconds:.1} s)\n    {error:#}", scenario.name);
                failed.push(scenario.name);
            }
        }
    }
    if !failed.is_empty() {
        sandbox.explain();
        if std::env::var_os("MESH_E2E_KEEP").is_some() {
            println!("the sandbox `{}` is kept; look with: meshctl sandbox status --name {0}", sandbox.name());
            sandbox.keep();
        }
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; finished in {:.1}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failed.len(),
        failed.len(),
        begin.elapsed().as_secs_f32()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
