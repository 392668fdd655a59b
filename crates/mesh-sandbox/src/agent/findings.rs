//! What the control plane says about mesh resources, with the places of the user's own files.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Agent;
use super::api::control_get;
use crate::objects::manifest::Key;
use crate::protocol::Finding;

/// How long an applied object may take until the control plane speaks about it; without an answer nothing is said.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(40);

/// The control plane's entries by kind, namespace and name.
pub(crate) type Entries = BTreeMap<(String, String, String), Value>;

/// All entries of the control plane's status.
pub(crate) async fn entries(agent: &Agent) -> anyhow::Result<Entries> {
    anyhow::ensure!(agent.world().mesh, "this sandbox has no mesh");
    let status = control_get(agent, "/v1/status").await?;
    // It knows the files of its folder; people know theirs. The lines are the same.
    let files: BTreeMap<String, String> =
        agent.world().objects.values().map(|o| (o.key.file_name(), o.file.clone())).collect();
    let Value::Array(list) = status else { return Ok(Entries::new()) };
    let word = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let mut out = Entries::new();
    for mut entry in list {
        rename(&mut entry, &files);
        for problem in entry["problems"].as_array_mut().into_iter().flatten() {
            rename(problem, &files);
        }
        out.insert((word(&entry, "kind"), word(&entry, "namespace"), word(&entry, "name")), entry);
    }
    Ok(out)
}

fn rename(entry: &mut Value, files: &BTreeMap<String, String>) {
    let Some((path, line)) = entry["source"].as_str().and_then(|s| s.rsplit_once(':')) else { return };
    let name = path.rsplit('/').next().unwrap_or(path);
    if let Some(file) = files.get(name) {
        entry["source"] = format!("{file}:{line}").into();
    }
}

/// The findings of one entry.
pub(crate) fn of_entry(entry: &Value) -> Vec<Finding> {
    let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let key = Key::of("", &word(&entry["kind"]), &word(&entry["namespace"]), &word(&entry["name"]));
    let problems = entry["problems"].as_array().into_iter().flatten();
    problems
        .map(|problem| Finding {
            object: key.to_string(),
            severity: word(&problem["severity"]),
            field: word(&problem["field"]),
            message: word(&problem["message"]),
            fix: word(&problem["fix"]),
            source: word(&problem["source"]),
        })
        .collect()
}

/// Waits until the control plane has taken in what was changed, and returns what it says about it.
pub(crate) async fn after_change(agent: &Agent, before: &Entries, changed: &[Key]) -> Vec<Finding> {
    let begin = Instant::now();
    loop {
        let now = entries(agent).await.unwrap_or_default();
        let entry = |key: &Key| now.get(&(key.kind.clone(), key.namespace.clone(), key.name.clone()));
        let fresh = |key: &Key| {
            let old = before.get(&(key.kind.clone(), key.namespace.clone(), key.name.clone()));
            entry(key).is_some_and(|new| old.is_none_or(|old| old["generation"] != new["generation"]))
        };
        if changed.iter().all(fresh) || begin.elapsed() > ANSWER_TIMEOUT {
            return changed.iter().filter_map(entry).flat_map(of_entry).collect();
        }
        tokio::time::sleep(LOOK).await;
    }
}
