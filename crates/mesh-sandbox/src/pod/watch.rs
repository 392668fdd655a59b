//! A running container under the eyes of its probes: what a kubelet's prober does.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;

use super::container::Keeper;
use super::probe;
use super::process::Process;
use crate::objects::spec::{Action, Probe};

/// The longest that a hook may take where no grace period bounds it.
const HOOK_LIMIT: Duration = Duration::from_secs(60);

impl Keeper {
    /// The hook and the probes of a running process; never returns, it is dropped when the process ends.
    pub(super) async fn watch(&self, process: &Process, stop: &watch::Receiver<bool>) -> Infallible {
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
    async fn kill(&self, process: &Process, grace: Option<u64>) -> Infallible {
        process.signal(Signal::TERM);
        tokio::time::sleep(Duration::from_secs(grace.unwrap_or(self.cx.grace))).await;
        process.signal(Signal::KILL);
        std::future::pending().await
    }
}

fn period(probe: &Probe) -> Duration {
    Duration::from_secs(probe.period_seconds.unwrap_or(10).max(1))
}

/// The pause before the next question to a container that is not ready yet: short at first, never over the period.
fn eager(probe: &Probe, failures: u32) -> Duration {
    period(probe).min(Duration::from_millis(50 * u64::from(failures.max(1))))
}
