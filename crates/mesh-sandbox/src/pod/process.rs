//! Processes of a pod as the supervisor sees them: starting, signalling, waiting, running a command beside them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::helper::{ENTER, HOSTNAME, POD, PROGRAM};

/// How long making namespaces or entering them may take; it is milliseconds on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The most output of a hook or probe command that is kept, in bytes.
const OUTPUT_BYTES_MAX: u64 = 4096;

/// A pod's namespaces, held by its PID 1. Dropping it kills every process of the pod.
#[derive(Debug)]
pub(crate) struct PodProcess {
    holder: Child,
    /// The process id of the pod's PID 1, as the machine sees it.
    pub(crate) pid: u32,
}

impl PodProcess {
    /// Makes the namespaces of a pod.
    ///
    /// To be called on a thread that lives as long as the supervisor: the pod dies with the thread that made it.
    pub(crate) async fn start(dir: &Path, hostname: &str) -> anyhow::Result<Self> {
        let mut holder = Command::new("/proc/self/exe")
            .arg0(PROGRAM)
            .arg(POD)
            .arg(dir)
            .env(HOSTNAME, hostname)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the pod's helper")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("the helper has no standard output")?;
        let mut stdout = BufReader::new(stdout);
        tokio::time::timeout(START_TIMEOUT, stdout.read_line(&mut line))
            .await
            .context("making namespaces took too long")??;
        match line.trim().parse() {
            Ok(pid) => Ok(Self { holder, pid }),
            Err(_) => bail!("cannot make the pod's namespaces: {}", said(&mut holder).await),
        }
    }

    /// Kills every process of the pod and waits until the namespaces are given up.
    pub(crate) async fn end(mut self) {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.pid).unwrap_or(0)) {
            // ESRCH: it has ended by itself, which is as well.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        if tokio::time::timeout(START_TIMEOUT, self.holder.wait()).await.is_err() {
            drop(self.holder.kill().await);
        }
    }
}

async fn said(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = child.stderr.take() {
        // What cannot be read is not said; the caller's own words remain.
        let _ = stderr.take(OUTPUT_BYTES_MAX).read_to_string(&mut text).await;
    }
    text.trim().to_owned()
}

/// A container's main process.
#[derive(Debug)]
pub(crate) struct Running {
    enter: Child,
    /// The process, for signals; shared with those who end the pod.
    pub(crate) process: Process,
}

/// A process that can be signalled without ever hitting another one that got the same number.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    handle: Arc<OwnedFd>,
    /// Its process id, as the machine sees it.
    pub(crate) pid: u32,
}

impl Process {
    /// Sends a signal; a process that has ended does not mind.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&*self.handle, signal);
    }

    /// Kills what is left of the process's session after it ended.
    fn kill_group(&self) {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.pid).unwrap_or(0)) {
            // ESRCH: nothing is left, the usual case.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Running {
    /// Starts a container's process from the description at `spec` in the pod whose PID 1 is `pod`; output goes to `log`.
    pub(crate) async fn start(pod: u32, spec: &Path, log: File) -> anyhow::Result<Self> {
        let (mut enter, socket) = spawn_enter(&["--report"], pod, spec, &[], log.try_clone()?.into(), log.into())?;
        let mut lines = BufReader::new(socket).lines();
        let (mut pid, mut prepared) = (None, false);
        let report = async {
            // The two lines come from two processes, in either order.
            while pid.is_none() || !prepared {
                let Some(line) = lines.next_line().await? else { break };
                match line.strip_prefix("pid ") {
                    Some(number) => pid = number.parse::<u32>().ok(),
                    None => prepared = true,
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(START_TIMEOUT, report).await.context("starting took too long")??;
        let (Some(pid), true) = (pid, prepared) else {
            enter.wait().await?;
            bail!("the container could not be started");
        };
        let process = open(pid).context("the process ended at once")?;
        Ok(Self { enter, process })
    }

    /// Waits for the end; returns the exit code, 128 and the signal's number for one that was killed.
    pub(crate) async fn wait(&mut self) -> i32 {
        let status = self.enter.wait().await;
        self.process.kill_group();
        status.ok().and_then(|s| s.code()).unwrap_or(1)
    }
}

fn open(pid: u32) -> anyhow::Result<Process> {
    let number = Pid::from_raw(i32::try_from(pid)?).context("not a process id")?;
    let handle = Arc::new(pidfd_open(number, PidfdFlags::empty())?);
    Ok(Process { handle, pid })
}

fn spawn_enter(
    flags: &[&str],
    pid: u32,
    spec: &Path,
    command: &[String],
    stdout: Stdio,
    stderr: Stdio,
) -> anyhow::Result<(Child, tokio::net::UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut enter = Command::new("/proc/self/exe");
    enter.arg0(PROGRAM).arg(ENTER).args(flags).arg(pid.to_string()).arg(spec);
    if !command.is_empty() {
        enter.arg("--").args(command);
    }
    let child = enter
        .stdin(OwnedFd::from(theirs))
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the container's helper")?;
    Ok((child, tokio::net::UnixStream::from_std(ours)?))
}

/// Runs a command inside a running container, as its user and with its environment; for probes and hooks.
///
/// Returns the exit code and the first of what it said. When `limit` passes, it is killed and that is an error.
pub(crate) async fn exec(
    container: u32,
    spec: &Path,
    command: &[String],
    limit: Duration,
) -> anyhow::Result<(i32, String)> {
    let flags = ["--report", "--join"];
    let (mut child, _socket) = spawn_enter(&flags, container, spec, command, Stdio::piped(), Stdio::piped())?;
    let work = async {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            let (a, b) = tokio::join!(drain(stdout, &mut out), drain(stderr, &mut err));
            a.and(b)?;
        }
        let code = child.wait().await?.code().unwrap_or(1);
        out.extend_from_slice(&err);
        anyhow::Ok((code, String::from_utf8_lossy(&out).trim().to_owned()))
    };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| bail!("no answer in {} s", limit.as_secs()))
}

/// Keeps the first bytes and reads the rest away, so that a talkative command does not block.
async fn drain(from: impl tokio::io::AsyncRead + Unpin, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut from = from;
    (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(into).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(())
}
