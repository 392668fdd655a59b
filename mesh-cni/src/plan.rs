//! What is to be written, given what is wanted and what is there: pure, and one commit per table.

use std::fmt::Write as _;

use crate::rules::{Ruleset, Table};
use crate::saved::{Saved, SavedTable, same};

/// Compares and plans: `None` if everything is in place, else the text for `iptables-restore --noflush`.
///
/// Only our chains and the rules that lead into them are touched. An empty ruleset plans their removal.
pub(crate) fn plan(wanted: &Ruleset, saved: &Saved) -> Option<String> {
    let mut text = String::new();
    for table in &wanted.tables {
        let present = saved.get(table.name).cloned().unwrap_or_default();
        if !differences(table, &present).is_empty() {
            commit(&mut text, table.name, Some(table), &present);
        }
    }
    for (name, present) in saved {
        if !present.is_clean() && wanted.tables.iter().all(|table| table.name != name) {
            commit(&mut text, name, None, present);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// What is not as it should be, in words; empty if the table is right.
pub(crate) fn differences(wanted: &Table, present: &SavedTable) -> Vec<String> {
    let mut found = Vec::new();
    for chain in &wanted.chains {
        let rules: Vec<&str> =
            wanted.rules.iter().filter(|rule| rule.chain == *chain).map(|rule| rule.words.as_str()).collect();
        match present.chains.get(*chain) {
            None => found.push(format!("chain {chain} is missing")),
            Some(there) if there.len() != rules.len() => {
                found.push(format!("chain {chain} has {} rules instead of {}", there.len(), rules.len()));
            }
            Some(there) => {
                let pairs = there.iter().zip(&rules).enumerate();
                found.extend(pairs.filter(|(_, (there, wanted))| !same(there, wanted)).map(|(at, (there, wanted))| {
                    format!("chain {chain}, rule {}: `{there}` instead of `{wanted}`", at + 1)
                }));
            }
        }
    }
    for chain in present.chains.keys().filter(|chain| !wanted.chains.contains(&chain.as_str())) {
        found.push(format!("chain {chain} is not wanted any more"));
    }
    for jump in &wanted.jumps {
        let mut there = present.jumps.iter().filter(|there| there.chain == jump.chain);
        match (there.next(), there.next()) {
            (Some(only), None) if same(&only.words, &jump.words) && only.position == 1 => {}
            (None, _) => found.push(format!("{} does not lead into {CHAINS}", jump.chain)),
            _ => found.push(format!("{} does not lead into {CHAINS} with exactly its first rule", jump.chain)),
        }
    }
    for there in &present.jumps {
        if wanted.jumps.iter().all(|jump| jump.chain != there.chain) {
            found.push(format!("{} leads into {CHAINS} and should not", there.chain));
        }
    }
    found
}

const CHAINS: &str = "the mesh's chains";

/// One table's commit: old ways in are cut, all our chains emptied, unwanted ones removed, then the wanted written.
fn commit(text: &mut String, name: &str, wanted: Option<&Table>, present: &SavedTable) {
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes every line");
    line(format_args!("*{name}"));
    let unwanted: Vec<&String> = present
        .chains
        .keys()
        .filter(|chain| wanted.is_none_or(|table| !table.chains.contains(&chain.as_str())))
        .collect();
    for chain in &unwanted {
        line(format_args!(":{chain} - [0:0]"));
    }
    for jump in &present.jumps {
        line(format_args!("-D {} {}", jump.chain, jump.words));
    }
    if let Some(table) = wanted {
        table.render(text);
    }
    for chain in &unwanted {
        writeln!(text, "-X {chain}").expect("a String takes every line");
    }
    text.push_str("COMMIT\n");
}

#[cfg(test)]
mod tests;
