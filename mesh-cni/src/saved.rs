//! What `iptables-save` printed, as far as it concerns us: our chains, and the rules that lead into them.
//!
//! Programs of different age and backend spell the same rule differently (order of options, implied `-m tcp`), so rules
//! are compared by meaning.

use std::collections::BTreeMap;

use crate::rules::CHAIN_PREFIX;

/// The tables that exist, by name.
pub(crate) type Saved = BTreeMap<String, SavedTable>;

/// One table as printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedTable {
    /// Our chains and their rules, as printed (without `-A CHAIN`).
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    /// Rules of other chains that lead into ours.
    pub(crate) jumps: Vec<Jump>,
    /// Chains and rules that are not ours.
    pub(crate) foreign: usize,
}

/// A rule of another chain that leads into one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Jump {
    pub(crate) chain: String,
    /// Position in its chain, from 1.
    pub(crate) position: usize,
    pub(crate) words: String,
}

/// Reads the output of `iptables-save`; lines that are not understood are nobody's.
pub(crate) fn parse(text: &str) -> Saved {
    let mut saved = Saved::new();
    let mut current = String::new();
    let mut positions: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('*') {
            current = table.trim().to_owned();
            positions.clear();
            saved.entry(current.clone()).or_default();
            continue;
        }
        let Some(table) = saved.get_mut(&current) else { continue };
        if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split(' ');
            let (chain, policy) = (words.next().unwrap_or_default(), words.next());
            if chain.starts_with(CHAIN_PREFIX) {
                table.chains.entry(chain.to_owned()).or_default();
            } else if policy == Some("-") {
                table.foreign += 1;
            }
        } else if let Some((chain, words)) = line.strip_prefix("-A ").and_then(|rule| rule.split_once(' ')) {
            let position = positions.entry(chain.to_owned()).or_default();
            *position += 1;
            if chain.starts_with(CHAIN_PREFIX) {
                table.chains.entry(chain.to_owned()).or_default().push(words.to_owned());
            } else if target(words).is_some_and(|target| target.starts_with(CHAIN_PREFIX)) {
                let jump = Jump { chain: chain.to_owned(), position: *position, words: words.to_owned() };
                table.jumps.push(jump);
            } else {
                table.foreign += 1;
            }
        }
    }
    saved
}

impl SavedTable {
    /// Whether nothing in it is ours.
    pub(crate) fn is_clean(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
    }
}

/// Where a rule leads.
fn target(words: &str) -> Option<&str> {
    let mut words = words.split(' ');
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next()
}

/// Whether two rules mean the same.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one == other || meaning(one) == meaning(other)
}

/// The options of a rule, each with its values and a `!` in front of it, in alphabetical order.
fn meaning(words: &str) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    let mut negated = false;
    for word in words.split_whitespace() {
        if word == "!" {
            negated = true;
        } else if word.starts_with('-') || options.is_empty() {
            // `--to-port` and `--to-ports` are one option with two spellings.
            let word = if word == "--to-port" { "--to-ports" } else { word };
            options.push(if std::mem::take(&mut negated) { format!("! {word}") } else { word.to_owned() });
        } else if let Some(option) = options.last_mut() {
            option.push(' ');
            option.push_str(word);
        }
    }
    // `-m` only loads what an option of that match needs anyway.
    options.retain(|option| !option.starts_with("-m "));
    options.sort_unstable();
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_compared_by_meaning() {
        assert!(same("-p tcp -m tcp --dport 80 -j RETURN", "-p tcp --dport 80 -j RETURN"));
        assert!(same("-m owner ! --uid-owner 1 -o lo -j RETURN", "-o lo -m owner ! --uid-owner 1 -j RETURN"));
        assert!(!same("-m owner ! --uid-owner 1 -j RETURN", "-m owner --uid-owner 1 -j RETURN"));
        assert!(!same("! -o lo -d ::1/128 -j RETURN", "-o lo ! -d ::1/128 -j RETURN"));
        assert!(!same("-p tcp -j A", "-p tcp -j B"));
        assert!(!same("-p tcp -j A", "-p tcp"));
    }

    #[test]
    fn output_that_is_no_ruleset_is_nobodys() {
        assert_eq!(parse(""), Saved::new());
        assert_eq!(parse("# Warning: tables present\n-A MESH_OUTPUT -j X\n:MESH_OUTPUT - [0:0]\n"), Saved::new());
        let odd = parse("*nat\n-A\n-A MESH_OUTPUT\n:\n-A OUTPUT -j\n-A OUTPUT\nCOMMIT\n");
        assert!(odd["nat"].is_clean());
    }
}
