//! Entering a network namespace for one piece of work, on a thread of its own that then ends.
//!
//! A thread that has entered a namespace must never be one of the runtime's: the next task on it would be in the wrong
//! network. A socket stays in the namespace in which it was made, whoever uses it later; so connections are made here
//! and served elsewhere.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};

/// A network namespace, kept alive by this handle.
#[derive(Clone, Debug)]
pub struct Netns(Arc<OwnedFd>);

impl Netns {
    /// The namespace of the process `pid`.
    pub fn of_process(pid: u32) -> anyhow::Result<Self> {
        Self::open(&format!("/proc/{pid}/ns/net"))
    }

    /// The namespace of the calling thread.
    pub fn of_this_thread() -> anyhow::Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    fn open(path: &str) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open the namespace {path}"))?;
        Ok(Self(Arc::new(file.into())))
    }

    /// Runs `work` on a new thread inside the namespace and waits for it without blocking the runtime.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let fd = self.0.clone();
        let (send, receive) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("in-netns".into())
            .spawn(move || {
                let done = setns(fd.as_fd(), CloneFlags::CLONE_NEWNET)
                    .context("cannot enter the namespace")
                    .and_then(|()| work());
                drop(send.send(done)); // nobody waits any more: nothing to tell
            })
            .context("cannot start a thread")?;
        receive.await.context("the thread in the namespace ended early")?
    }

    /// Runs a program inside the namespace with `input` on its standard input; an exit code other than 0 is an error that
    /// quotes what the program said.
    pub async fn command(&self, program: &'static str, args: &[&str], input: String) -> anyhow::Result<()> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        self.run(move || run(program, &args, &input)).await
    }
}

/// Runs a program in the calling thread's namespaces; see [`Netns::command`].
pub fn run(program: &str, args: &[String], input: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}: is it installed? (apt-get install iptables iproute2)"))?;
    let mut stdin = child.stdin.take().context("the program has no standard input")?;
    // A program that ends early closes the pipe; its own words say more than this error would.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("{program} {}: {}: {}", args.join(" "), output.status, said.trim());
    }
    written.with_context(|| format!("cannot write to {program}"))
}
