//! Ending a sandbox and leaving nothing of it, also when its supervisor has crashed or was killed.
//!
//! Namespaces, mounts, interfaces and rules exist only as long as the sandbox's processes. Every such process has the
//! path of the state folder on its command line, from its first moment; so what a dead supervisor left is found without
//! any list, ended, and then the folder is removed.

use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::start::pause;
use super::{ask, is_up};
use crate::paths::{ROOT, StateDir};
use crate::protocol::Request;

/// How long processes may take to disappear after they were killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Processes that had to be killed.
    pub killed: usize,
    /// Processes that are still there.
    pub processes: usize,
}

/// Ends the sandbox: its pods in order, within `grace` seconds each, its supervisor, and all that is left.
///
/// Returns the number of pods that were ended, or `None` when there was no supervisor to ask.
pub fn down(dir: &StateDir, grace: u64) -> anyhow::Result<Option<usize>> {
    ensure!(nix::unistd::Uid::effective().is_root(), "ending a sandbox needs root: use sudo");
    let ended = if is_up(dir) { ask::<usize>(dir, &Request::Down { grace }).ok() } else { None };
    let begin = Instant::now();
    while ended.is_some() && !processes(dir).is_empty() && begin.elapsed() < KILL_TIMEOUT {
        pause(LOOK);
    }
    let left = sweep(dir)?;
    ensure!(left.processes == 0, "{} processes of the sandbox could not be ended", left.processes);
    Ok(ended)
}

/// Kills what is left of a sandbox and removes its folder.
pub fn sweep(dir: &StateDir) -> anyhow::Result<Leftovers> {
    let mut killed = 0;
    let begin = Instant::now();
    // Several rounds: a process may have been between two of its lives when it was looked for.
    loop {
        let found = processes(dir);
        if found.is_empty() {
            break;
        }
        if begin.elapsed() > KILL_TIMEOUT {
            return Ok(Leftovers { killed, processes: found.len() });
        }
        for pid in found {
            if let Some(pid) = Pid::from_raw(pid)
                && kill_process(pid, Signal::KILL).is_ok()
            {
                killed += 1;
            }
        }
        pause(LOOK);
    }
    match std::fs::remove_dir_all(dir.root()) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("cannot remove {}", dir.root().display()))
        }
        _ => {
            // Fails while other sandboxes have folders in it, which is the point.
            let _ = std::fs::remove_dir(ROOT);
            Ok(Leftovers { killed, processes: 0 })
        }
    }
}

/// Whether the sandbox has a supervisor, answering or not.
pub(super) fn supervisor_runs(dir: &StateDir) -> bool {
    found(dir).iter().any(|(_, supervisor)| *supervisor)
}

fn processes(dir: &StateDir) -> Vec<i32> {
    found(dir).into_iter().map(|(pid, _)| pid).collect()
}

/// The sandbox's own processes: the supervisor, the pods' holders and first processes, the helpers beside containers.
///
/// Containers' processes are not among them: they end with their pod's first process. The flag is true for the supervisor.
fn found(dir: &StateDir) -> Vec<(i32, bool)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut root = dir.root().as_os_str().as_bytes().to_vec();
    root.push(b'/');
    let mut out = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        // A process that ends meanwhile has no command line, nor has a kernel thread or a zombie.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        let helper =
            words.get(1).is_some_and(|w| w.starts_with(b"sandbox-")) && words.iter().any(|w| contains(w, &root));
        let agent = words
            .windows(4)
            .any(|w| w[0] == b"sandbox" && w[1] == b"agent" && w[2] == b"--name" && w[3] == dir.name().as_bytes());
        if pid != own && (helper || agent) {
            out.push((pid, agent));
        }
    }
    out
}

fn contains(word: &[u8], part: &[u8]) -> bool {
    word.windows(part.len()).any(|w| w == part)
}
