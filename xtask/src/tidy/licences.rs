//! Under which licences the packages come: all must be ones that an Apache-2.0 project can ship.

use crate::workspace::Workspace;

/// Licences that ask for nothing but a notice.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Our own.
const OURS: &str = "Apache-2.0";

pub(super) fn check(workspace: &Workspace) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in workspace.packages() {
        let name = &package.name;
        match &package.license {
            None => complaints.push(format!("{name} says nothing about its licence")),
            Some(licence) if !allowed(licence) => {
                complaints.push(format!("{name} comes under {licence}, which {} does not allow", file!()));
            }
            Some(_) => {}
        }
    }
    for package in workspace.members().filter(|package| package.license.as_deref() != Some(OURS)) {
        complaints.push(format!("{} is ours: its Cargo.toml says `license.workspace = true`", package.name));
    }
    complaints
}

/// Whether a licence expression can be met with [`ALLOWED`] ones: `OR` (older: `/`) needs one side, `AND` both.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    any_of(&mut words) == Some(true) && words.is_empty()
}

fn any_of(words: &mut &[&str]) -> Option<bool> {
    let mut met = all_of(words)?;
    while take(words, "OR") {
        met |= all_of(words)?;
    }
    Some(met)
}

fn all_of(words: &mut &[&str]) -> Option<bool> {
    let mut met = one(words)?;
    while take(words, "AND") {
        met &= one(words)?;
    }
    Some(met)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    if take(words, "(") {
        let met = any_of(words)?;
        return take(words, ")").then_some(met);
    }
    let (name, rest) = words.split_first()?;
    *words = rest;
    if !take(words, "WITH") {
        return Some(ALLOWED.contains(name));
    }
    let (exception, rest) = words.split_first()?;
    *words = rest;
    Some(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()))
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_are_met_by_allowed_licences_only() {
        assert!(allowed("MIT OR GPL-3.0"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("(MIT OR LGPL-2.1) AND Unicode-3.0"));
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
        assert!(!allowed("MIT AND GPL-3.0"));
        assert!(!allowed("Apache-2.0 WITH Strange-exception"));
        assert!(!allowed("(MIT"));
        assert!(!allowed(""));
    }
}
