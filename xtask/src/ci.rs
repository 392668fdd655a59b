//! The pipeline, whole and quick.
//!
//! Everything is built once, as one selection (`--workspace --all-targets`), and the tests and the programs that the
//! scenarios start come out of that build: a much smaller selection would compile dependencies again.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::machine;
use crate::pipeline::Pipeline;
use crate::tidy;
use crate::workspace::{Workspace, cargo};

/// Packages whose tests touch neither network nor files of the machine.
const PURE: [&str; 6] = ["mesh-core", "mesh-crd", "mesh-compile", "mesh-inject", "mesh-api", "mesh-tls"];
/// The package of the scenarios.
const SCENARIOS: &str = "e2e";
/// The scenario of the quick pipeline: the whole path, from file to page. (test, part of the scenario's name)
const QUICK_SCENARIO: (&str, &str) = ("bookinfo", "the_page");
/// Where the scenarios find the programs.
const PROGRAMS: &str = "MESH_PROGRAMS";

/// `cargo xtask test`: installs what is missing, then the whole pipeline.
pub(crate) fn test() -> anyhow::Result<()> {
    in_pipeline(|pipeline| {
        pipeline.check("machine", "install what is named above", machine::provide)?;
        whole(pipeline, false)
    })
}

/// `cargo xtask ci`, with or without `--full`.
pub(crate) fn run(full: bool) -> anyhow::Result<()> {
    in_pipeline(|pipeline| whole(pipeline, full))
}

/// `cargo xtask ci --quick`.
pub(crate) fn quick() -> anyhow::Result<()> {
    in_pipeline(|pipeline| {
        let workspace = Workspace::load()?;
        looks(pipeline)?;
        let packages: Vec<_> = PURE.iter().flat_map(|name| ["-p", name]).collect();
        let mut tests = cargo(&[&["test", "--locked"], packages.as_slice(), &["--", "--show-output"]].concat());
        pipeline.tests("pure tests", NEXT_TEST, &mut tests)?;
        pipeline.step("programs", NEXT_BUILD, &mut cargo(&["build", "--workspace", "--locked", "--bins"]))?;
        let (test, scenario) = QUICK_SCENARIO;
        let mut one = cargo(&["test", "-p", SCENARIOS, "--locked", "--test", test, "--", "--show-output", scenario]);
        one.env(PROGRAMS, workspace.programs_folder("debug"));
        pipeline.tests("one scenario", NEXT_SCENARIO, &mut one)
    })
}

/// `cargo xtask codegen`: the test that guards the generated code writes it instead.
pub(crate) fn codegen() -> anyhow::Result<()> {
    let mut command = cargo(&["test", "-p", "mesh-api", "--test", "codegen"]);
    let status = command.env("MESH_UPDATE", "1").status().context("cargo test")?;
    anyhow::ensure!(status.success(), "the code was not written; read the test's output above");
    eprintln!("written; look at it with `git diff crates/mesh-api`");
    Ok(())
}

const NEXT_BUILD: &str = "mend what the compiler names";
const NEXT_TEST: &str = "run the failing test alone: cargo test -p PACKAGE NAME";
const NEXT_SCENARIO: &str = "run it alone and keep its sandbox: MESH_E2E_KEEP=1 cargo test -p e2e --test FILE -- NAME";

fn in_pipeline(steps: impl FnOnce(&mut Pipeline) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new();
    let result = steps(&mut pipeline);
    pipeline.summary();
    result
}

fn whole(pipeline: &mut Pipeline, full: bool) -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    looks(pipeline)?;
    pipeline.step("build", NEXT_BUILD, &mut cargo(&["build", "--workspace", "--all-targets", "--locked"]))?;

    let mut unit = cargo(&["test", "--workspace", "--exclude", SCENARIOS, "--locked", "--tests"]);
    unit.args(["--", "--show-output"]);
    pipeline.tests("tests", NEXT_TEST, &mut unit)?;
    let mut examples = cargo(&["test", "--workspace", "--locked", "--doc"]);
    pipeline.tests("examples in docs", NEXT_TEST, &mut examples)?;

    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    pipeline.step("docs", "mend the links and words that rustdoc names", &mut docs)?;

    let debug = workspace.programs_folder("debug");
    pipeline.tests("scenarios", NEXT_SCENARIO, &mut scenarios(&debug))?;
    if full {
        let mut release = cargo(&["build", "--workspace", "--bins", "--locked", "--release"]);
        pipeline.step("programs as shipped", NEXT_BUILD, &mut release)?;
        let release = workspace.programs_folder("release");
        pipeline.tests("scenarios as shipped", NEXT_SCENARIO, &mut scenarios(&release))?;
    }
    Ok(())
}

/// What can be said without running anything.
fn looks(pipeline: &mut Pipeline) -> anyhow::Result<()> {
    pipeline.check("tidy", "each line above names a file or package and the rule", tidy::run)?;
    machine::provide_component("fmt", "rustfmt")?;
    machine::provide_component("clippy", "clippy")?;
    pipeline.step("format", "run: cargo fmt --all", &mut cargo(&["fmt", "--all", "--check"]))?;
    let mut lint = cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    pipeline.step("lint", "mend what clippy names; an exception needs its reason beside it", &mut lint)
}

/// All scenarios, also after a failed one: they take long to reach, and each stands for itself.
fn scenarios(programs: &Path) -> Command {
    let mut command = cargo(&["test", "-p", SCENARIOS, "--locked", "--no-fail-fast", "--", "--show-output"]);
    command.env(PROGRAMS, programs);
    command
}
