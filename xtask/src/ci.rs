//! The pipeline, whole and quick.
//!
//! Everything is built once, as one selection (`--workspace --all-targets`), and the tests, the scenarios and the
//! programs that they start come out of that build: another selection would compile dependencies again.

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
        let mut one = cargo(&["test", "--workspace", "--locked", "--test", test, "--", "--show-output", scenario]);
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

    let mut unit = cargo(&["test", "--workspace", "--locked", "--lib", "--bins"]);
    for test in tests_of(&workspace, |package| package != SCENARIOS) {
        unit.args(["--test", &test]);
    }
    unit.args(["--", "--show-output"]);
    pipeline.tests("tests", NEXT_TEST, &mut unit)?;
    let mut examples = cargo(&["test", "--workspace", "--locked", "--doc"]);
    pipeline.tests("examples in docs", NEXT_TEST, &mut examples)?;

    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    pipeline.step("docs", "mend the links and words that rustdoc names", &mut docs)?;

    let debug = workspace.programs_folder("debug");
    pipeline.tests("scenarios", NEXT_SCENARIO, &mut scenarios(&workspace, &debug))?;
    if full {
        let mut release = cargo(&["build", "--workspace", "--bins", "--locked", "--release"]);
        pipeline.step("programs as shipped", NEXT_BUILD, &mut release)?;
        let release = workspace.programs_folder("release");
        pipeline.tests("scenarios as shipped", NEXT_SCENARIO, &mut scenarios(&workspace, &release))?;
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

fn scenarios(workspace: &Workspace, programs: &Path) -> Command {
    let mut command = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    for test in tests_of(workspace, |package| package == SCENARIOS) {
        command.args(["--test", &test]);
    }
    command.args(["--", "--show-output"]).env(PROGRAMS, programs);
    command
}

fn tests_of(workspace: &Workspace, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let packages = workspace.members().filter(|package| wanted(&package.name));
    packages.flat_map(|package| package.tests.iter().cloned()).collect()
}
