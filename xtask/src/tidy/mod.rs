//! What no compiler checks: the rules that keep the house in order, each with its reason beside it.
//!
//! A rule is a function from what is there to a list of complaints; a complaint names the place and the rule.

mod dependencies;
mod documents;
mod levels;
mod licences;
mod sources;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::workspace::{Workspace, root};

/// Runs all rules and prints every complaint.
///
/// # Errors
/// When there is a complaint.
pub(crate) fn run() -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    let files = Files::tracked()?;
    let mut complaints = Vec::new();
    complaints.extend(dependencies::check(&workspace));
    complaints.extend(licences::check(&workspace));
    complaints.extend(levels::check(&workspace)?);
    complaints.extend(sources::check(&files));
    complaints.extend(documents::check(&files));
    sources::report(&files);
    eprintln!("   {} packages, {} of them ours", workspace.packages().count(), workspace.members().count());
    for complaint in &complaints {
        eprintln!("   {complaint}");
    }
    if !complaints.is_empty() {
        bail!("{} complaints", complaints.len());
    }
    Ok(())
}

/// The repository's text files: tracked ones, and new ones that are not ignored.
#[derive(Debug, Default)]
struct Files {
    /// Paths below the root, with the text.
    texts: Vec<(String, String)>,
    /// All paths, also of files that are no text.
    paths: Vec<String>,
}

impl Files {
    fn tracked() -> anyhow::Result<Files> {
        let mut list = Command::new("git");
        list.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(root());
        let output = list.output().context("git ls-files")?;
        ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
        let names = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
        let mut files = Files::default();
        for path in names.split('\0').filter(|path| !path.is_empty()) {
            let Ok(bytes) = std::fs::read(path_of(path)) else { continue }; // tracked, and removed just now
            files.paths.push(path.to_owned());
            if let Ok(text) = String::from_utf8(bytes) {
                files.texts.push((path.to_owned(), text));
            }
        }
        Ok(files)
    }

    /// Our own Rust, without what is generated.
    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        all.filter(|(path, text)| path.ends_with(".rs") && !is_generated(text))
    }
}

fn path_of(path: &str) -> PathBuf {
    root().join(path)
}

fn is_generated(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains("@generated"))
}
