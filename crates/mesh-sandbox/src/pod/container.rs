//! Keeping one container as its specification wants it: started, watched by its probes, restarted with a back-off.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::lifecycle::PodContext;
use super::process::{Process, Running};
use super::status::{ContainerStatus, State};
use super::{probe, process};
use crate::objects::spec::{Action, Container, Probe};

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
/// The longest that a hook may take where no grace period bounds it.
const HOOK_LIMIT: Duration = Duration::from_secs(60);

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

struct Keeper {
    cx: Arc<PodContext>,
    container: Container,
    started: watch::Sender<bool>,
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

    /// The hook and the probes of a running process; never returns, it is dropped when the process ends.
    async fn watch(&self, process: &Process, stop: &watch::Receiver<bool>) -> Infallible {
        if let Some(hook) = &self.container.lifecycle.post_start
            && let Err(why) = self.hook(process, hook).await
        {
            self.cx.event(format!("FailedPostStartHook: container {}: {why:#}", self.container.name));
            return self.kill(process, None).await;
        }
        if let Some(probe) = &self.container.startup_probe
            && !self.until(probe, "Startup", process, stop).await
        {
            return self.kill(process, probe.termination_grace_period_seconds).await;
        }
        let ready = self.container.readiness_probe.is_none();
        self.status(|s| (s.started, s.ready) = (true, ready));
        self.started.send_replace(true);
        let (never, _) = tokio::join!(self.liveness(process, stop), self.readiness(process));
        never
    }

    async fn hook(&self, process: &Process, hook: &Action) -> anyhow::Result<()> {
        tokio::time::timeout(HOOK_LIMIT, probe::act(&self.cx, &self.container, process.pid, hook, HOOK_LIMIT)).await?
    }

    /// Probes until success (true) or too many failures (false).
    ///
    /// Between the probes that the period asks for, the container is asked more often: a sandbox should not wait ten
    /// seconds for a program that needs a tenth of one. Those extra failures do not count.
    async fn until(&self, probe: &Probe, what: &str, process: &Process, stop: &watch::Receiver<bool>) -> bool {
        tokio::time::sleep(Duration::from_secs(probe.initial_delay_seconds)).await;
        let mut next_counted = Instant::now();
        let (mut attempts, mut bad) = (0, 0);
        loop {
            let Err(why) = self.ask(probe, process).await else { return true };
            attempts += 1;
            if Instant::now() >= next_counted {
                next_counted = Instant::now() + period(probe);
                bad += 1;
                self.cx.event(format!("Unhealthy: container {}: {what} probe: {why:#}", self.container.name));
            }
            if bad >= probe.failure_threshold.unwrap_or(3) && !*stop.borrow() {
                return false;
            }
            tokio::time::sleep(eager(probe, attempts)).await;
        }
    }

    async fn liveness(&self, process: &Process, stop: &watch::Receiver<bool>) -> Infallible {
        let Some(probe) = &self.container.liveness_probe else { return std::future::pending().await };
        tokio::time::sleep(Duration::from_secs(probe.initial_delay_seconds)).await;
        let mut bad = 0;
        loop {
            tokio::time::sleep(period(probe)).await;
            match self.ask(probe, process).await {
                Ok(()) => bad = 0,
                Err(why) => {
                    bad += 1;
                    self.cx.event(format!("Unhealthy: container {}: Liveness probe: {why:#}", self.container.name));
                }
            }
            if bad >= probe.failure_threshold.unwrap_or(3) && !*stop.borrow() {
                self.cx.event(format!("Killing: container {} failed its liveness probe", self.container.name));
                return self.kill(process, probe.termination_grace_period_seconds).await;
            }
        }
    }

    async fn readiness(&self, process: &Process) -> Infallible {
        let Some(probe) = &self.container.readiness_probe else { return std::future::pending().await };
        tokio::time::sleep(Duration::from_secs(probe.initial_delay_seconds)).await;
        let (mut good, mut bad) = (0, 0);
        let mut ready = false;
        loop {
            match self.ask(probe, process).await {
                Ok(()) => (good, bad) = (good + 1, 0),
                Err(why) => {
                    (good, bad) = (0, bad + 1);
                    self.cx.event(format!("Unhealthy: container {}: Readiness probe: {why:#}", self.container.name));
                }
            }
            let now = match ready {
                true => bad < probe.failure_threshold.unwrap_or(3),
                false => good >= probe.success_threshold.unwrap_or(1),
            };
            if now != ready {
                ready = now;
                self.status(|s| s.ready = ready);
            }
            tokio::time::sleep(if ready { period(probe) } else { eager(probe, bad) }).await;
        }
    }

    async fn ask(&self, probe: &Probe, process: &Process) -> anyhow::Result<()> {
        let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1));
        probe::act(&self.cx, &self.container, process.pid, &probe.action, limit).await
    }

    /// TERM, the grace period, KILL; the caller's `select!` sees the end.
    async fn kill(&self, process: &process::Process, grace: Option<u64>) -> Infallible {
        process.signal(Signal::TERM);
        tokio::time::sleep(Duration::from_secs(grace.unwrap_or(self.cx.grace))).await;
        process.signal(Signal::KILL);
        std::future::pending().await
    }

    fn set_current(&self, process: Option<Process>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }

    fn status(&self, change: impl FnOnce(&mut ContainerStatus)) {
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

fn period(probe: &Probe) -> Duration {
    Duration::from_secs(probe.period_seconds.unwrap_or(10).max(1))
}

/// The pause before the next question to a container that is not ready yet: short at first, never over the period.
fn eager(probe: &Probe, failures: u32) -> Duration {
    period(probe).min(Duration::from_millis(50 * u64::from(failures.max(1))))
}
