//! What the re-executed program does: make a pod's namespaces, be its PID 1, start a container in them.
//!
//! Making and entering namespaces needs a process with one thread that nobody else depends on, so the supervisor runs
//! its own program again under one of these names. Each helper asks the kernel to be killed when its parent ends; a pod's
//! PID 1 takes every process of the pod with it. So nothing outlives the supervisor, however it ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, setgid, setgroups, sethostname, setsid, setuid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::root;
use crate::images::PAUSE_COMMAND;

/// Makes a pod's namespaces and stays as the parent of its PID 1.
pub(crate) const POD: &str = "sandbox-pod";
/// The pod's PID 1.
const INIT: &str = "sandbox-init";
/// Enters a pod's namespaces and starts one process there.
pub(crate) const ENTER: &str = "sandbox-enter";
/// The last step before a container's own program.
const RUN: &str = "sandbox-run";

/// What the helpers call themselves in the list of processes.
pub(crate) const PROGRAM: &str = "meshctl";

/// The environment variable with the host name of a new pod. On the command line it would be found by whoever looks for
/// a process by its name.
pub(crate) const HOSTNAME: &str = "MESH_SANDBOX_HOSTNAME";

/// The environment variable through which [`ENTER`] hands the [`RunSpec`] to [`RUN`].
const RUN_SPEC: &str = "MESH_SANDBOX_RUN";

/// Exit codes of a program that cannot be run and one that does not exist, as shells have them.
const EXIT_CANNOT_RUN: u8 = 126;
/// See [`EXIT_CANNOT_RUN`].
const EXIT_NOT_FOUND: u8 = 127;

/// Everything that [`RUN`] has to know about a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RunSpec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) dir: Option<String>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Capabilities that are kept, in the kernel's numbering.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    /// The file system to build; `None` when the process joins one that exists (`exec`).
    pub(crate) root: Option<root::RootSpec>,
    /// Whether the process keeps the caller's terminal and session. Otherwise its standard input is the supervisor's
    /// socket until it becomes its program.
    pub(crate) interactive: bool,
}

/// Runs the helper that the arguments name; `None` when they name none.
///
/// To be called first in `main`, before any thread is started.
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let name = args.get(1)?.to_str()?;
    let rest: Vec<&str> = args[2..].iter().filter_map(|a| a.to_str()).collect();
    let done = match name {
        POD => pod(&rest),
        INIT => init(),
        ENTER => enter(&rest),
        RUN => run(),
        PAUSE_COMMAND => pause(),
        _ => return None,
    };
    Some(done.unwrap_or_else(|err| {
        eprintln!("sandbox: {err:#}");
        ExitCode::from(EXIT_CANNOT_RUN)
    }))
}

fn die_with_parent() -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("cannot ask to die with the supervisor")
}

/// `sandbox-pod DIR`: prints the process id of the pod's PID 1, then waits for it. The host name is in [`HOSTNAME`].
fn pod(args: &[&str]) -> anyhow::Result<ExitCode> {
    let &[dir] = args else { bail!("usage: {POD} DIR") };
    let hostname = std::env::var(HOSTNAME).context("this helper is started by the sandbox only")?;
    die_with_parent()?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .context("cannot make namespaces: this needs root, and in a container --privileged")?;
    root::make_private()?;
    let memory = crate::paths::PodDir::at(PathBuf::from(dir)).memory();
    mount(Some("tmpfs"), &memory, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))
        .with_context(|| format!("cannot mount a memory file system at {}", memory.display()))?;
    for sub in ["volumes", "containers"] {
        std::fs::create_dir(memory.join(sub))?;
    }
    sethostname(hostname).context("cannot set the host name")?;
    // As in Kubernetes' runtimes: applications without privileges may listen on port 80.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        .context("cannot write settings of the pod's network: in a container, the sandbox needs --privileged")?;
    let mut init = Command::new("/proc/self/exe").arg0(PROGRAM).arg(INIT).arg(dir).stdin(Stdio::null()).spawn()?;
    println!("{}", init.id());
    Ok(code(init.wait()?))
}

/// The pod's PID 1: reaps what is orphaned, until it is killed.
fn init() -> anyhow::Result<ExitCode> {
    die_with_parent()?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => break,
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(err) => return Err(err).context("cannot wait for orphans"),
            }
        }
        signals.wait()?;
    }
}

/// The built-in application that does nothing until it is told to end.
fn pause() -> anyhow::Result<ExitCode> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    signals.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// `sandbox-enter [--report] [--join] PID SPEC [-- COMMAND…]`: starts a process in the namespaces of `PID`, and ends as
/// it ended.
///
/// `SPEC` is the path of a [`RunSpec`]. With `--report`, standard input is a socket on which the new process's id is
/// reported, and then by the process itself that everything is prepared; its program gets an empty standard input. With `--join` the process sees the file system of `PID` instead of building one,
/// and runs `COMMAND`.
fn enter(args: &[&str]) -> anyhow::Result<ExitCode> {
    let (args, command) = match args.iter().position(|a| *a == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    let (flags, args): (Vec<&str>, Vec<&str>) = args.iter().partition(|a| a.starts_with("--"));
    let (report, join) = (flags.contains(&"--report"), flags.contains(&"--join"));
    let &[pid, spec] = args.as_slice() else { bail!("usage: {ENTER} [--report] [--join] PID SPEC [-- COMMAND]") };
    die_with_parent()?;
    let text = std::fs::read_to_string(spec).with_context(|| format!("cannot read {spec}"))?;
    let mut spec: RunSpec = serde_json::from_str(&text).context("the process's description does not parse")?;
    if join {
        spec.root = None;
        spec.interactive = !report;
        spec.argv = command.iter().map(|a| (*a).to_owned()).collect();
        if let Ok(terminal) = std::env::var("TERM") {
            spec.env.entry("TERM".into()).or_insert(terminal);
        }
    }
    enter_namespaces(pid)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(PROGRAM).arg(RUN).env(RUN_SPEC, serde_json::to_string(&spec)?);
    let mut child = command.spawn().context("cannot start a process in the pod")?;
    if report {
        tell(&format!("pid {}\n", child.id()))?;
    }
    Ok(code(child.wait()?))
}

/// Tells the supervisor something, on the socket that is standard input.
fn tell(what: &str) -> anyhow::Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    std::io::Write::write_all(&mut std::fs::File::from(socket), what.as_bytes())
        .context("the supervisor does not listen")
}

fn enter_namespaces(pid: &str) -> anyhow::Result<()> {
    let number: i32 = pid.parse().context("PID is not a number")?;
    let process = rustix::process::Pid::from_raw(number).context("PID is not a process id")?;
    let handle = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())
        .with_context(|| format!("process {pid} has ended"))?;
    setns(
        handle.as_fd(),
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .context("cannot enter the pod's namespaces")
}

/// Builds the root, gives up what the container may not have, and becomes its program.
fn run() -> anyhow::Result<ExitCode> {
    let spec = std::env::var(RUN_SPEC).context("this helper is started by the sandbox only")?;
    let spec: RunSpec = serde_json::from_str(&spec).context("the process's description does not parse")?;
    if let Some(root) = &spec.root {
        root::build(root)?;
    }
    if !spec.interactive {
        setsid().context("cannot start a session")?;
    }
    own_standard_streams(&spec);
    drop_privileges(&spec)?;
    // Changing the user clears this wish, so it is made last.
    die_with_parent()?;
    let dir = spec.dir.as_deref().unwrap_or("/");
    std::env::set_current_dir(dir).with_context(|| format!("workingDir {dir:?}"))?;
    let Some((program, args)) = spec.argv.split_first() else { bail!("the command is empty") };
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&spec.env);
    if !spec.interactive {
        tell("ready\n")?;
        command.stdin(Stdio::null());
    }
    let err = command.exec();
    eprintln!("sandbox: cannot run {program:?}: {err}");
    let found = err.kind() != std::io::ErrorKind::NotFound;
    Ok(ExitCode::from(if found { EXIT_CANNOT_RUN } else { EXIT_NOT_FOUND }))
}

/// Programs open `/dev/stdout` anew, which the kernel allows to the owner of what stands behind it only.
fn own_standard_streams(spec: &RunSpec) {
    if spec.interactive {
        return;
    }
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    // Best effort, as in container runtimes: a stream that cannot be given away still works as it is.
    let _ = nix::unistd::fchown(std::io::stdout(), Some(uid), Some(gid));
    let _ = nix::unistd::fchown(std::io::stderr(), Some(uid), Some(gid));
}

fn drop_privileges(spec: &RunSpec) -> anyhow::Result<()> {
    let keep = CapabilitySet::from_bits_truncate(spec.capabilities);
    for capability in CapabilitySet::all().iter().filter(|c| !keep.contains(*c)) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {} // a capability that this kernel does not have
            Err(err) => return Err(err).context("cannot drop a capability"),
        }
    }
    let groups: Vec<Gid> = spec.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).context("cannot set groups")?;
    setgid(Gid::from_raw(spec.gid)).context("cannot set the group")?;
    setuid(Uid::from_raw(spec.uid)).context("cannot set the user")?;
    if spec.uid == 0 {
        let present = rustix::thread::capabilities(None).context("cannot read capabilities")?.permitted;
        let kept = present & keep;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets).context("cannot set capabilities")?;
    }
    if spec.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().context("cannot give up new privileges")?;
    }
    Ok(())
}

/// An exit status as an exit code: a signal is 128 and its number.
fn code(status: ExitStatus) -> ExitCode {
    let number = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    ExitCode::from(u8::try_from(number).unwrap_or(1))
}
