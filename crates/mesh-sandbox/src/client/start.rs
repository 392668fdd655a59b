//! Starting a supervisor as a daemon.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::down::supervisor_runs;
use super::{Leftovers, is_up, sweep};
use crate::paths::{ROOT, StateDir};
use crate::pod::helper::PROGRAM;

/// How long the supervisor may take until it answers; it makes one namespace and a bridge meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);
/// The last lines of the log that are shown when the start fails.
const LOG_LINES: usize = 10;

/// How a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It runs now.
    Started {
        /// What a crashed predecessor had left was removed first.
        after_crash: bool,
    },
    /// It ran already.
    WasUp,
}

/// Starts the supervisor of `dir`, with `agent` as the arguments of `meshctl` that make it one.
pub fn start(dir: &StateDir, agent: &[String]) -> anyhow::Result<Start> {
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "the sandbox makes network namespaces, which needs root: use sudo"
    );
    for tool in ["ip", "iptables-restore"] {
        let found = std::env::split_paths(&path()).any(|p| p.join(tool).exists());
        ensure!(found, "{tool} is not installed: apt-get install iproute2 iptables");
    }
    if is_up(dir) {
        return Ok(Start::WasUp);
    }
    // Somebody else may be starting it at this moment.
    let begin = Instant::now();
    while supervisor_runs(dir) && begin.elapsed() < ANSWER_TIMEOUT {
        if is_up(dir) {
            return Ok(Start::WasUp);
        }
        pause(LOOK);
    }
    let after_crash = dir.root().exists();
    if after_crash {
        let left: Leftovers = sweep(dir)?;
        ensure!(left.processes == 0, "processes of a crashed sandbox {:?} could not be ended", dir.name());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(ROOT)
        .with_context(|| format!("cannot make {ROOT}"))?;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(dir.root())
        .with_context(|| format!("cannot make {}", dir.root().display()))?;
    // For appending: the supervisor cuts it when it has grown too large.
    let log = File::options().create(true).append(true).open(dir.log())?;
    // The supervisor leaves the caller's session by itself; it must not hold the caller's streams or folder.
    let mut child = Command::new("/proc/self/exe")
        .arg0(PROGRAM)
        .args(agent)
        .current_dir("/")
        .env("PATH", path())
        // The lock of iptables' older form belongs to the sandbox too; the machine's is not touched.
        .env("XTABLES_LOCKFILE", dir.root().join("xtables.lock"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the supervisor")?;
    let begin = Instant::now();
    while !is_up(dir) {
        if let Some(status) = child.try_wait()? {
            bail!("the supervisor ended at once ({status}):\n{}", last_lines(&dir.log()));
        }
        ensure!(begin.elapsed() < ANSWER_TIMEOUT, "the supervisor does not answer:\n{}", last_lines(&dir.log()));
        pause(LOOK);
    }
    Ok(Start::Started { after_crash })
}

/// The caller's PATH, with the folders in which Debian keeps `ip` and `iptables-restore`.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Waits; the command line has one thread and nothing else to do.
pub(super) fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
