//! What `meshctl` and the supervisor say to each other: one JSON line each way over a Unix socket that only root opens.

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::agent::world::Published;
use crate::objects::manifest::Mistake;

/// The longest line that either side reads, in bytes.
pub(crate) const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A manifest file, as read by `meshctl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileText {
    /// Its path, for messages.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// What `meshctl` asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub enum Request {
    /// How everything is: answered by [`Status`].
    Status {
        /// Also ask the control plane what it says about objects.
        full: bool,
    },
    /// Create or change objects: answered by [`Applied`].
    Apply {
        /// The manifests.
        files: Vec<FileText>,
        /// The namespace of objects that name none.
        namespace: String,
        /// The text of `images.yaml`, when it is to be replaced.
        images: Option<String>,
    },
    /// Delete the objects of manifests, or objects by name: answered by [`Applied`].
    Delete {
        /// The manifests.
        files: Vec<FileText>,
        /// The namespace of objects that name none.
        namespace: String,
        /// `KIND/NAME` of further objects.
        names: Vec<String>,
        /// The grace period of pods, in seconds, instead of their own.
        grace: Option<u64>,
    },
    /// Wait (a few seconds at most) until what is known now has arrived at every proxy.
    Settle,
    /// Objects of a kind: answered by a list of [`Shown`].
    Get {
        /// The kind, as typed.
        kind: String,
        /// The namespace, or all.
        namespace: Option<String>,
        /// The name, or all.
        name: Option<String>,
    },
    /// Where to find a pod's processes and logs: answered by [`PodInfo`].
    Pod {
        /// The namespace, or any.
        namespace: Option<String>,
        /// The pod, or its Deployment, or the beginning of its name.
        name: String,
    },
    /// Publish a Service on 127.0.0.1: answered by [`Published`].
    Publish(Published),
    /// An HTTP GET inside a pod, on its loopback address: answered by [`HttpAnswer`].
    HttpGet {
        /// The namespace, or any.
        namespace: Option<String>,
        /// The pod.
        pod: String,
        /// The port on the pod's 127.0.0.1.
        port: u16,
        /// Path and query.
        path: String,
    },
    /// End all pods, then the supervisor: answered by the number of pods that were ended.
    Down {
        /// The longest grace period, in seconds.
        grace: u64,
    },
}

/// How a sandbox is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The sandbox's name.
    pub name: String,
    /// The sandbox's own network.
    pub network: Network,
    /// All pods, the mesh's own first.
    pub pods: Vec<PodRow>,
    /// Published Services.
    pub published: Vec<Published>,
    /// What is wrong with an object: `kind/name: why`.
    pub problems: Vec<String>,
    /// What is not obeyed, by object.
    pub ignored: Vec<String>,
    /// What the control plane says about mesh resources; asked for by `full` only.
    pub findings: Vec<Finding>,
    /// Everything that was asked for runs and is ready.
    pub settled: bool,
    /// Nothing will become better by waiting: only pods that cannot start are left.
    pub hopeless: bool,
    /// Whether a control plane runs in it.
    pub mesh: bool,
}

/// The switch to which all pods are connected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    /// A thread in its network namespace: `/proc/PID/ns/net`.
    pub pid: u32,
}

/// Something that the control plane says about an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `kind/name (namespace …)`.
    pub object: String,
    /// `error`, `warning` or `info`.
    pub severity: String,
    /// The field, as a path.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
    /// File and line.
    pub source: String,
}

/// A pod, as `status` and `up` show it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The process id of its PID 1, as the machine sees it; `nsenter -t PID -a` looks inside.
    pub pid: Option<u32>,
    /// Containers that are ready, and all that should be.
    pub ready: (usize, usize),
    /// The word that `kubectl get pods` would show.
    pub status: String,
    /// Restarts of all its containers.
    pub restarts: u32,
    /// Its first address.
    pub address: String,
    /// Seconds since it was made.
    pub age_seconds: i64,
    /// It is in the mesh.
    pub meshed: bool,
    /// It is what it should be: ready, or ended well.
    pub well: bool,
    /// Containers that are not as they should be, and why.
    pub complaints: Vec<(String, String)>,
    /// What happened, oldest first.
    pub events: Vec<String>,
}

/// What became of applied or deleted objects.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Object and what happened: `created`, `configured`, `unchanged`, `deleted`.
    pub done: Vec<(String, String)>,
    /// Documents that were not understood; nothing of them was used.
    pub mistakes: Vec<Mistake>,
    /// What the sandbox does not act on.
    pub warnings: Vec<String>,
    /// What the control plane says about the applied objects.
    pub findings: Vec<Finding>,
}

/// An object, and what mesh-control says about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// The object.
    pub object: Value,
    /// The row of a table: column and cell.
    pub cells: Vec<(String, String)>,
    /// mesh-control's status of it, for mesh resources.
    pub mesh: Option<Value>,
}

/// A pod's processes and logs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodInfo {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its first address.
    pub address: String,
    /// The process id of its PID 1.
    pub pid: Option<u32>,
    /// Its containers, applications first.
    pub containers: Vec<ContainerInfo>,
}

/// A container's process and log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerInfo {
    /// Its name.
    pub name: String,
    /// Its main process, when it runs.
    pub pid: Option<u32>,
    /// The helper's description of it.
    pub spec: String,
    /// The path of its log.
    pub log: String,
}

/// The answer to an HTTP GET inside a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAnswer {
    /// The status code.
    pub code: u16,
    /// The body, as text.
    pub body: String,
}

/// What the supervisor answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// The answer.
    Ok(Value),
    /// Why there is none, in words for people.
    Error(String),
}
