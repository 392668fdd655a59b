//! Documents name paths; a path that is named exists.
//!
//! In `ARCHITECTURE.md` every code span that looks like a path is checked, in all Markdown files every relative link.

use std::collections::BTreeSet;

use super::{Files, path_of};

/// The document whose code spans are checked.
const MAP: &str = "ARCHITECTURE.md";
/// Endings by which a word without a known first folder is taken for a file.
const ENDINGS: [&str; 6] = [".rs", ".md", ".toml", ".proto", ".svg", ".yaml"];

pub(super) fn check(files: &Files) -> Vec<String> {
    let mut complaints = Vec::new();
    let top: BTreeSet<&str> = files.paths.iter().filter_map(|path| path.split('/').next()).collect();
    for (path, text) in files.texts.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (number, line) in (1..).zip(text.lines()) {
            for link in links(line).filter(|link| !exists_beside(path, link)) {
                complaints.push(format!("{path}:{number}: the link {link} leads nowhere"));
            }
            if path == MAP {
                let named = spans(line).filter(|span| looks_like_path(span, &top));
                for span in named.filter(|span| !exists(span, files)) {
                    complaints.push(format!("{path}:{number}: `{span}` does not exist"));
                }
            }
        }
    }
    if !files.paths.iter().any(|path| path == MAP) {
        complaints.push(format!("{MAP} is missing: a reader needs the map"));
    }
    complaints
}

/// The texts between single backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of links that stay in the repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let paths = targets.map(|target| target.split('#').next().unwrap_or_default());
    paths.filter(|path| !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:"))
}

fn looks_like_path(span: &str, top: &BTreeSet<&str>) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "-_./{},".contains(c));
    if !plain || span.starts_with('/') || span.starts_with("..") {
        return false;
    }
    let first = span.split('/').next().unwrap_or_default();
    let known = span.contains('/') && top.contains(first);
    known || ENDINGS.iter().any(|ending| span.ends_with(ending))
}

/// Whether a path, or each of `a/{b,c}`, is a file or folder; a bare file name must be the end of some path.
fn exists(span: &str, files: &Files) -> bool {
    if let Some((before, rest)) = span.split_once('{')
        && let Some((choices, after)) = rest.split_once('}')
    {
        return choices.split(',').all(|choice| exists(&format!("{before}{choice}{after}"), files));
    }
    let path = span.trim_end_matches('/');
    let folder = format!("{path}/");
    let tail = format!("/{path}");
    let bare = !path.contains('/');
    files.paths.iter().any(|file| file == path || file.starts_with(&folder) || (bare && file.ends_with(&tail)))
}

fn exists_beside(document: &str, link: &str) -> bool {
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    path_of(folder).join(link).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(line: &str) -> Vec<String> {
        let paths = ["ARCHITECTURE.md", "crates/a/src/lib.rs", "crates/a/src/app.rs"].map(str::to_owned).to_vec();
        check(&Files { texts: vec![(MAP.to_owned(), line.to_owned())], paths })
    }

    #[test]
    fn paths_in_the_map_exist() {
        assert!(map("`crates/a`, `crates/a/src/{lib,app}.rs` and `app.rs`, not `networking.istio.io/v1`").is_empty());
        assert_eq!(
            map("`crates/b` `other.rs`"),
            ["ARCHITECTURE.md:1: `crates/b` does not exist", "ARCHITECTURE.md:1: `other.rs` does not exist"]
        );
    }

    #[test]
    fn links_lead_somewhere() {
        assert!(map("[cargo](Cargo.toml#a) [web](https://example.com)").is_empty());
        assert_eq!(map("[x](nowhere.md)"), ["ARCHITECTURE.md:1: the link nowhere.md leads nowhere"]);
    }
}
