//! Keeping one container as its specification wants it: started, watched by its probes, restarted with a back-off.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::context::PodContext;
use super::probe;
use super::process::{Process, Running};
use super::status::{ContainerStatus, State};
use crate::objects::spec::Container;

/// The first pause before a crashed container is started again, doubled up to the last; shorter than Kubernetes', since
/// a person is waiting.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// See [`BACKOFF_FIRST`].
const BACKOFF_LAST: Duration = Duration::from_secs(10);
/// A container that ran for so long is restarted as if it had never crashed (Kubernetes: the same).
const BACKOFF_RESET: Duration = Duration::from_secs(600);
/// What counts as the exit code of a container that could not be started.
const EXIT_NOT_STARTED: i32 = 128;
/// How often it is looked whether a missing ConfigMap or Secret has come.
const MISSING_RETRY: Duration = Duration::from_millis(200);
/// Whether a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    fn wanted(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// A container that is being kept running, in a task of its own.
pub(crate) struct Kept {
    pub(crate) container: Container,
    stop: watch::Sender<bool>,
    started: watch::Receiver<bool>,
    current: Current,
    task: JoinHandle<i32>,
}

/// The main process, while there is one.
type Current = Arc<Mutex<Option<Process>>>;

impl Kept {
    /// Starts to keep `container` running.
    pub(crate) fn start(cx: &Arc<PodContext>, container: &Container, restart: Restart) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (started, is_started) = watch::channel(false);
        let current = Current::default();
        let keeper = Keeper { cx: cx.clone(), container: container.clone(), started, current: current.clone() };
        let task = tokio::spawn(keeper.keep(restart, stopped));
        Self { container: container.clone(), stop, started: is_started, current, task }
    }

    /// Waits until the container has started: its post-start hook has run and its startup probe has succeeded.
    pub(crate) async fn until_started(&mut self) {
        // An error means that the container has ended for good; whoever waits sees that elsewhere.
        let _ = self.started.wait_for(|s| *s).await;
    }

    /// Waits until the container has ended and will not be started again; returns the last exit code.
    pub(crate) async fn ended(&mut self) -> i32 {
        (&mut self.task).await.unwrap_or(1)
    }

    /// No restart from now on, and no liveness probe.
    pub(crate) fn stop_keeping(&self) {
        self.stop.send_replace(true);
    }

    /// Runs the pre-stop hook, if there is one and the container runs.
    pub(crate) async fn pre_stop(&self, cx: &PodContext, limit: Duration) {
        let (Some(hook), Some(process)) = (&self.container.lifecycle.pre_stop, self.process()) else { return };
        let done = tokio::time::timeout(limit, probe::act(cx, &self.container, process.pid, hook, limit)).await;
        if let Err(why) = done.unwrap_or_else(|_| Err(anyhow::anyhow!("it took longer than the grace period"))) {
            cx.event(format!("FailedPreStopHook: container {}: {why:#}", self.container.name));
        }
    }

    /// Sends a signal to the main process.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = self.process() {
            process.signal(signal);
        }
    }

    /// Whether the container will not come back by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    fn process(&self) -> Option<Process> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) struct Keeper {
    pub(super) cx: Arc<PodContext>,
    pub(super) container: Container,
    pub(super) started: watch::Sender<bool>,
    current: Current,
}

impl Keeper {
    async fn keep(self, restart: Restart, mut stop: watch::Receiver<bool>) -> i32 {
        let mut pause = BACKOFF_FIRST;
        let seen = stop.clone();
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                biased;
                ended = self.run_once(&seen) => ended,
                // Stopped before there was a process: nothing to wait for.
                () = stopped_idle(&mut stop, &self.current) => Ok(0),
            };
            // What never started is tried again whatever the restart policy says, as by the kubelet.
            let code = ended.unwrap_or(EXIT_NOT_STARTED);
            if *stop.borrow() || ended.is_ok() && !restart.wanted(code) {
                return code;
            }
            if begun.elapsed() >= BACKOFF_RESET {
                pause = BACKOFF_FIRST;
            }
            if ended.is_ok() {
                self.cx.event(format!("BackOff: container {}: it ended with code {code}", self.container.name));
                let message = format!("it ended with code {code}; next start in {:.1} s", pause.as_secs_f32());
                self.status(|s| {
                    s.state = State::Waiting { reason: "CrashLoopBackOff", message };
                    s.restarts += 1;
                });
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|s| *s) => return code,
            }
            pause = (pause * 2).min(BACKOFF_LAST);
        }
    }

    /// From start to end of one process; the exit code, or nothing if it could not be started.
    async fn run_once(&self, stop: &watch::Receiver<bool>) -> Result<i32, NotStarted> {
        let mut running = match self.start_process().await {
            Ok(running) => running,
            Err(why) => {
                let message = format!("{why:#}");
                self.cx.event(format!("Failed: container {}: {message}", self.container.name));
                self.status(|s| s.state = State::Waiting { reason: "CreateContainerError", message });
                return Err(NotStarted);
            }
        };
        let process = running.process.clone();
        self.set_current(Some(process.clone()));
        self.status(|s| {
            s.state = State::Running { since: Timestamp::now() };
            s.pid = Some(process.pid);
        });
        let code = tokio::select! {
            code = running.wait() => code,
            never = self.watch(&process, stop) => match never {},
        };
        self.set_current(None);
        self.started.send_replace(false);
        self.status(|s| {
            s.state = State::Terminated { code, at: Timestamp::now() };
            s.last_code = Some(code);
            (s.ready, s.started, s.pid) = (false, false, None);
        });
        Ok(code)
    }

    /// Writes the description and starts the process; waits while a ConfigMap or Secret of its environment is missing.
    async fn start_process(&self) -> anyhow::Result<Running> {
        loop {
            match self.cx.run_spec(&self.container) {
                Ok(spec) => {
                    let path = crate::paths::PodDir::through(self.cx.pid, &self.cx.dir.container(&self.container.name));
                    std::fs::write(&path, serde_json::to_string(&spec)?)?;
                    let log = self.cx.log(&self.container.name)?;
                    let started = Running::start(self.cx.pid, &path, log).await;
                    return started.map_err(|why| match self.last_words() {
                        Some(words) => why.context(words),
                        None => why,
                    });
                }
                Err(Unready::Missing(message)) => {
                    self.status(|s| s.state = State::Waiting { reason: "CreateContainerConfigError", message });
                    tokio::time::sleep(MISSING_RETRY).await;
                }
                Err(Unready::Never(why)) => return Err(why),
            }
        }
    }

    /// The last line of the container's log.
    fn last_words(&self) -> Option<String> {
        let text = std::fs::read(self.cx.dir.log(&self.container.name)).ok()?;
        let text = String::from_utf8_lossy(&text);
        text.lines().last().map(str::to_owned)
    }

    fn set_current(&self, process: Option<Process>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }

    pub(super) fn status(&self, change: impl FnOnce(&mut ContainerStatus)) {
        self.cx.status(|status| {
            if let Some(own) = status.containers.iter_mut().find(|c| c.name == self.container.name) {
                change(own);
            }
        });
    }
}

/// A container could not be started; why is in its status.
#[derive(Clone, Copy, Debug)]
struct NotStarted;

/// Why a container cannot be started: for now, or at all.
pub(crate) enum Unready {
    /// Something that may still come.
    Missing(String),
    /// A mistake.
    Never(anyhow::Error),
}

/// Ends when the container is to stop and has no process.
async fn stopped_idle(stop: &mut watch::Receiver<bool>, current: &Current) {
    // The sender lives in `Kept`; when it is gone, so is all interest.
    let _ = stop.wait_for(|s| *s).await;
    if current.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
        std::future::pending::<()>().await;
    }
}
