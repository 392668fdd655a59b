//! What is known about a pod: per container and as a whole, in the words of Kubernetes' `Pod.status`.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::net::addresses::NODE;

/// The newest events of a pod that are kept.
const EVENTS_MAX: usize = 20;

/// What a container does at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting { reason: &'static str, message: String },
    Running { since: Timestamp },
    Terminated { code: i32, at: Timestamp },
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) init: bool,
    pub(crate) sidecar: bool,
    pub(crate) state: State,
    pub(crate) last_code: Option<i32>,
    pub(crate) ready: bool,
    pub(crate) started: bool,
    pub(crate) restarts: u32,
    /// The main process's id, as the machine sees it.
    pub(crate) pid: Option<u32>,
}

/// A pod's phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// A pod as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodStatus {
    pub(crate) phase: Phase,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) containers: Vec<ContainerStatus>,
    /// The process id of the pod's PID 1.
    pub(crate) pid: Option<u32>,
    /// All init containers that end have ended.
    pub(crate) initialized: bool,
    pub(crate) since: Option<Timestamp>,
    pub(super) events: Vec<String>,
}

impl PodStatus {
    /// Notes what happened, for people; the oldest events are forgotten. Says whether it is news.
    pub(crate) fn event(&mut self, what: String) -> bool {
        if self.events.contains(&what) {
            return false;
        }
        if self.events.len() == EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push(what);
        true
    }

    /// The newest events, oldest first.
    pub(crate) fn events(&self) -> &[String] {
        &self.events
    }

    /// Whether the pod takes connections: it is initialized and every container that runs for its life is ready.
    pub(crate) fn ready(&self) -> bool {
        let living = || self.containers.iter().filter(|c| !c.init || c.sidecar);
        self.phase == Phase::Running && self.initialized && living().count() > 0 && living().all(|c| c.ready)
    }

    /// The word that `kubectl get pods` would show in its column STATUS.
    pub(crate) fn summary(&self, terminating: bool) -> String {
        if terminating {
            return "Terminating".into();
        }
        match self.phase {
            Phase::Succeeded => return "Completed".into(),
            Phase::Failed => return "Error".into(),
            Phase::Pending | Phase::Running => {}
        }
        let inits = self.containers.iter().filter(|c| c.init).count();
        for (index, container) in self.containers.iter().filter(|c| c.init).enumerate() {
            let done = match &container.state {
                State::Terminated { code, .. } => *code == 0 && !container.sidecar,
                State::Running { .. } => container.sidecar && container.started,
                State::Waiting { .. } => false,
            };
            if !done && !self.initialized {
                return match &container.state {
                    State::Waiting { reason, .. } if *reason != "PodInitializing" => format!("Init:{reason}"),
                    _ => format!("Init:{index}/{inits}"),
                };
            }
        }
        for container in self.containers.iter().filter(|c| !c.init || c.sidecar) {
            match &container.state {
                State::Waiting { reason, .. } => return (*reason).into(),
                State::Terminated { code, .. } if *code != 0 => return "Error".into(),
                State::Terminated { .. } => return "Completed".into(),
                State::Running { .. } => {}
            }
        }
        format!("{:?}", self.phase)
    }

    /// Why the pod is not ready, by container; for the end of a failed `up`.
    pub(crate) fn complaints(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for container in &self.containers {
            let why = match &container.state {
                State::Waiting { reason, .. } if *reason == "PodInitializing" => continue,
                State::Waiting { reason, message } if message.is_empty() => (*reason).to_owned(),
                State::Waiting { reason, message } => format!("{reason}: {message}"),
                State::Terminated { code: 0, .. } => continue,
                State::Terminated { code, .. } => format!("ended with code {code}"),
                State::Running { .. } if container.init && !container.sidecar => "is still running".into(),
                State::Running { .. } if container.ready => continue,
                State::Running { .. } => "is running, but not ready".into(),
            };
            out.push((container.name.clone(), why));
        }
        out
    }

    /// `Pod.status`.
    pub(crate) fn to_json(&self) -> Value {
        let since = self.since.map(|t| t.to_string());
        let ready = self.ready();
        let yes = |b: bool| if b { "True" } else { "False" };
        let condition =
            |kind: &str, status: bool| json!({"type": kind, "status": yes(status), "lastTransitionTime": since});
        let list = |init: bool| -> Vec<Value> {
            self.containers.iter().filter(|c| c.init == init).map(ContainerStatus::to_json).collect()
        };
        let ips: Vec<Value> = self.addresses.iter().map(|a| json!({"ip": a.to_string()})).collect();
        json!({
            "phase": format!("{:?}", self.phase),
            "podIP": self.addresses.first().map(IpAddr::to_string),
            "podIPs": ips,
            "hostIP": NODE.to_string(),
            "startTime": since,
            "conditions": [
                condition("PodScheduled", true),
                condition("Initialized", self.initialized),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "initContainerStatuses": list(true),
            "containerStatuses": list(false),
        })
    }
}

impl ContainerStatus {
    fn to_json(&self) -> Value {
        let state = match &self.state {
            State::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            State::Running { since } => json!({"running": {"startedAt": since.to_string()}}),
            State::Terminated { code, at } => json!({"terminated": {
                "exitCode": code,
                "reason": if *code == 0 { "Completed" } else { "Error" },
                "finishedAt": at.to_string(),
            }}),
        };
        let last = self.last_code.map(|code| json!({"terminated": {"exitCode": code}}));
        json!({
            "name": self.name, "image": self.image, "state": state, "lastState": last.unwrap_or(json!({})),
            "ready": self.ready, "started": self.started, "restartCount": self.restarts,
        })
    }
}
