//! What cargo knows about this workspace, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, ensure};
use serde_json::Value;

/// The one target that everything is built for (`.cargo/config.toml`).
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The repository's root, as cargo says it now: a build folder that several clones share may hold another one's xtask.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let built_in = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut folder = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(built_in, PathBuf::from);
        folder.pop();
        folder
    });
    &ROOT
}

/// A `cargo` command in the repository's root.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(words).current_dir(root());
    command
}

/// A package of the dependency graph.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Where it came from; none for our own.
    pub(crate) source: Option<String>,
    /// Ids of the packages that it needs to be built, tests left out.
    needs: Vec<String>,
}

/// All packages that a build of the workspace for [`TARGET`] needs, tests included.
#[derive(Debug)]
pub(crate) struct Workspace {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
    target_folder: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> anyhow::Result<Workspace> {
        let output = cargo(&["metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]).output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo metadata failed; is Cargo.lock up to date?\n{words}");
        let mut workspace = Workspace::of(&serde_json::from_slice(&output.stdout)?)?;
        // The metadata name optional packages that no build compiles; the tree does not.
        let built = compiled(&["--workspace", "--edges", "normal,build,dev"])?;
        workspace.packages.retain(|_, package| built.contains(&(package.name.clone(), package.version.clone())));
        Ok(workspace)
    }

    fn of(metadata: &Value) -> anyhow::Result<Workspace> {
        let mut packages = BTreeMap::new();
        for package in list(&metadata["packages"]) {
            packages.insert(
                text(&package["id"])?,
                Package {
                    name: text(&package["name"])?,
                    version: text(&package["version"])?,
                    license: package["license"].as_str().map(str::to_owned),
                    source: package["source"].as_str().map(str::to_owned),
                    needs: Vec::new(),
                },
            );
        }
        for node in list(&metadata["resolve"]["nodes"]) {
            let Some(package) = packages.get_mut(&text(&node["id"])?) else { continue };
            for needed in list(&node["deps"]) {
                if list(&needed["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev") {
                    package.needs.push(text(&needed["pkg"])?);
                }
            }
        }
        let members: BTreeSet<_> = strings(&metadata["workspace_members"]).map(str::to_owned).collect();
        Ok(Workspace { packages, members, target_folder: text(&metadata["target_directory"])?.into() })
    }

    /// All packages.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// Our own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|(id, _)| self.members.contains(*id)).map(|(_, package)| package)
    }

    /// One of our own packages.
    pub(crate) fn member(&self, name: &str) -> Option<&Package> {
        self.members().find(|package| package.name == name)
    }

    /// Our own packages that `package` itself needs, its tests left out.
    pub(crate) fn own_needs<'a>(&'a self, package: &'a Package) -> impl Iterator<Item = &'a Package> {
        package.needs.iter().filter(|id| self.members.contains(*id)).filter_map(|id| self.packages.get(id))
    }

    /// The folder of the programs of a profile (`debug`, `release`).
    pub(crate) fn programs_folder(&self, profile: &str) -> PathBuf {
        self.target_folder.join(TARGET).join(profile)
    }
}

/// Names and versions of the packages that a build compiles, by what of the workspace is selected.
///
/// # Errors
/// When cargo fails or its tree is written in another way than expected.
pub(crate) fn compiled(selection: &[&str]) -> anyhow::Result<BTreeSet<(String, String)>> {
    let how = ["tree", "--locked", "--target", TARGET, "--prefix", "none", "--format", "{p}"];
    let output = cargo(&[&how, selection].concat()).output()?;
    ensure!(output.status.success(), "cargo tree failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let package = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    };
    let tree = String::from_utf8(output.stdout)?;
    let lines = tree.lines().filter(|line| !line.is_empty());
    lines.map(|line| package(line).with_context(|| format!("cargo tree says {line:?}"))).collect()
}

fn text(value: &Value) -> anyhow::Result<String> {
    value.as_str().map(str::to_owned).context("cargo metadata has another shape than expected")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    list(value).iter().filter_map(Value::as_str)
}
