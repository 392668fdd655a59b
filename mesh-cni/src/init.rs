//! Setting, checking and removing the rules of this network namespace.

use serde::Serialize;

use crate::config::Config;
use crate::error::Error;
use crate::loopback::{self, Ipv6};
use crate::plan::{differences, plan};
use crate::programs::{Backend, Programs};
use crate::rules::{Family, Ruleset, rules};
use crate::saved::{Saved, SavedTable};

/// What was done, for people and programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Whether anything was written.
    pub(crate) changed: bool,
    pub(crate) families: Vec<FamilyReport>,
    /// What is worth knowing, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// What was done for one family.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FamilyReport {
    pub(crate) family: &'static str,
    pub(crate) backend: Backend,
    pub(crate) changed: bool,
    /// How many rules of ours are in place.
    pub(crate) rules: usize,
}

/// Sets the rules that `config` asks for, for every family that the namespace has. Doing it again changes nothing; rules
/// that were changed by others are put right.
pub(crate) fn apply(config: &Config, choice: Option<Backend>) -> Result<Report, Error> {
    let mut report = Report { changed: false, families: Vec::new(), notes: Vec::new() };
    let done = apply_family(&rules(config, Family::V4), Family::V4, choice, &mut report.notes)?;
    report.changed |= done.changed;
    report.families.push(done);
    apply_ipv6(config, choice, &mut report)?;
    Ok(report)
}

/// The rules for IPv6, and the address that the inbound proxy needs, where the namespace has IPv6.
fn apply_ipv6(config: &Config, choice: Option<Backend>, report: &mut Report) -> Result<(), Error> {
    let ipv6 = loopback::ipv6();
    if ipv6 == Ipv6::Off {
        report.notes.push("IPv6 is off in this network namespace: no rules for it".into());
        return Ok(());
    }
    match apply_family(&rules(config, Family::V6), Family::V6, choice, &mut report.notes) {
        Ok(done) => {
            report.changed |= done.changed;
            report.families.push(done);
        }
        // On a node without IPv6 rules, a pod whose IPv6 reaches nobody loses nothing.
        Err(error @ (Error::ProgramMissing { .. } | Error::Kernel { .. })) if ipv6 == Ipv6::Local => {
            report.notes.push(format!("no rules for IPv6, which has no address beyond the link here: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    if !loopback::is_present() {
        loopback::add()?;
        report.changed = true;
    }
    Ok(())
}

/// Removes our chains and the rules that lead into them, from both backends and all tables, and nothing else.
pub(crate) fn clean_up() -> Result<Report, Error> {
    let mut report = Report { changed: false, families: Vec::new(), notes: Vec::new() };
    let mut missing = None;
    for family in Family::ALL {
        for backend in Backend::ALL {
            match remove(family, backend) {
                Ok(changed) => {
                    report.changed |= changed;
                    report.families.push(FamilyReport { family: family.name(), backend, changed, rules: 0 });
                }
                // Rules cannot be where the program or the kernel's part is not.
                Err(error @ (Error::ProgramMissing { .. } | Error::Kernel { .. })) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
    }
    match (report.families.is_empty(), missing) {
        (true, Some(error)) => Err(error),
        _ => Ok(report),
    }
}

fn apply_family(
    wanted: &Ruleset,
    family: Family,
    choice: Option<Backend>,
    notes: &mut Vec<String>,
) -> Result<FamilyReport, Error> {
    let candidates = match choice {
        Some(backend) => vec![(backend, look(family, backend))],
        None => by_preference(Backend::ALL.map(|backend| (backend, look(family, backend))).into()),
    };
    let mut first_failure = None;
    for (backend, looked) in candidates {
        let written = looked.and_then(|(programs, saved)| write(wanted, family, &programs, &saved));
        match written {
            Ok(changed) => {
                remove_from_others(family, backend, notes)?;
                return Ok(FamilyReport { family: family.name(), backend, changed, rules: wanted.len() });
            }
            // Another backend may be possible; rights, or rules that do not hold, are not a question of backend.
            Err(error @ (Error::NotPermitted { .. } | Error::NotAsWritten { .. })) => return Err(error),
            Err(error) => {
                first_failure.get_or_insert(error);
            }
        }
    }
    Err(first_failure.expect("there is at least one candidate"))
}

type Looked = Result<(Programs, Saved), Error>;

/// The rules that are there, in the table that matters: reading it shows whether the backend works at all.
fn look(family: Family, backend: Backend) -> Looked {
    let programs = Programs::find(backend, family)?;
    // First without making any table, so that looking at a backend leaves no trace if it is not taken.
    let saved = programs.save(None)?;
    Ok((programs, saved))
}

/// The backend that others use in this namespace comes first, so that all rules see each other; else nf_tables.
fn by_preference(mut candidates: Vec<(Backend, Looked)>) -> Vec<(Backend, Looked)> {
    candidates.sort_by_key(|(_, looked)| match looked {
        Ok((_, saved)) if saved.get("nat").is_some_and(|nat| nat.foreign > 0) => 0,
        Ok((_, saved)) if saved.values().any(|table| table.foreign > 0) => 1,
        Ok((_, saved)) if saved.values().any(|table| !table.is_clean()) => 2,
        Ok(_) => 3,
        Err(_) => 4,
    });
    candidates
}

/// Writes what is missing and reads it back. Returns whether anything was written.
fn write(wanted: &Ruleset, family: Family, programs: &Programs, saved: &Saved) -> Result<bool, Error> {
    let Some(text) = plan(wanted, saved) else { return Ok(false) };
    programs.restore(&text)?;
    let now = programs.save(None)?;
    let nothing = SavedTable::default();
    let wrong: Vec<String> =
        wanted.tables.iter().flat_map(|table| differences(table, now.get(table.name).unwrap_or(&nothing))).collect();
    match wrong.is_empty() {
        true => Ok(true),
        false => Err(Error::NotAsWritten { family: family.name(), differences: wrong.join("; ") }),
    }
}

/// Rules of ours that an earlier run left in the other backend would redirect a second time.
fn remove_from_others(family: Family, taken: Backend, notes: &mut Vec<String>) -> Result<(), Error> {
    for backend in Backend::ALL.into_iter().filter(|backend| *backend != taken) {
        match remove(family, backend) {
            Ok(true) => notes.push(format!("removed earlier rules of {} from {}", family.name(), backend.name())),
            Ok(false) | Err(Error::ProgramMissing { .. } | Error::Kernel { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn remove(family: Family, backend: Backend) -> Result<bool, Error> {
    let (programs, saved) = look(family, backend)?;
    let Some(text) = plan(&Ruleset::default(), &saved) else { return Ok(false) };
    programs.restore(&text)?;
    match plan(&Ruleset::default(), &programs.save(None)?) {
        None => Ok(true),
        Some(rest) => Err(Error::NotAsWritten { family: family.name(), differences: rest.replace('\n', "; ") }),
    }
}
