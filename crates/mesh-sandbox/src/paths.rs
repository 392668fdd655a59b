//! Where a sandbox keeps what it knows: one folder per sandbox under `/run`, readable by root only.
//!
//! The folder is made before any process, and every helper process carries its path on its command line. So whatever
//! a supervisor that was killed left behind can be found by that path alone, without a list that could be incomplete.

use std::path::{Path, PathBuf};

/// The folder that holds one folder per sandbox.
pub const ROOT: &str = "/run/mesh-sandbox";

/// The name that is used when none is given.
pub const DEFAULT_NAME: &str = "default";

/// A sandbox name is part of paths and must stay one path segment.
const NAME_CHARS_MAX: usize = 32;

/// The state folder of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    name: String,
    root: PathBuf,
}

impl StateDir {
    /// The folder of the sandbox `name`; nothing is created.
    ///
    /// Names are lower-case letters, digits and dashes, as in Kubernetes, at most 32 characters.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let fine = !name.is_empty()
            && name.len() <= NAME_CHARS_MAX
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        anyhow::ensure!(
            fine,
            "{name:?} is not a name for a sandbox: use lower-case letters, digits and dashes, at most {NAME_CHARS_MAX}"
        );
        Ok(Self { name: name.to_owned(), root: Path::new(ROOT).join(name) })
    }

    /// The sandbox's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The supervisor's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("agent.sock")
    }

    /// The supervisor's log.
    pub fn log(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    /// The supervisor's process id, as text.
    pub fn pid(&self) -> PathBuf {
        self.root.join("agent.pid")
    }

    /// What mesh-control reads: one file per object.
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// What mesh-control keeps: its root certificate, and the last good content of each file.
    pub fn control(&self) -> PathBuf {
        self.root.join("control")
    }

    /// The public keys (JWKS) with which mesh-control checks tokens.
    pub fn token_keys(&self) -> PathBuf {
        self.root.join("keys").join("jwks.json")
    }

    /// The folder of one pod: its logs and the mount points of its own mount namespace.
    pub fn pod(&self, uid: &str) -> PodDir {
        PodDir { root: self.root.join("pods").join(uid) }
    }

    /// Names of all sandboxes that have a folder, sorted.
    pub fn all_names() -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(ROOT) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

/// The folder of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodDir {
    root: PathBuf,
}

impl PodDir {
    /// The folder of the pod whose path is `root`.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Mount point of the pod's memory file system, which exists in the pod's mount namespace only.
    pub fn memory(&self) -> PathBuf {
        self.root.join("memory")
    }

    /// A volume in the pod's memory file system.
    pub fn memory_volume(&self, volume: &str) -> PathBuf {
        self.memory().join("volumes").join(volume)
    }

    /// A volume on the machine's disk (`emptyDir` without a medium).
    pub fn disk_volume(&self, volume: &str) -> PathBuf {
        self.root.join("volumes").join(volume)
    }

    /// The container's description for the helper, in memory because it holds the values of secrets.
    ///
    /// The container's name is not part of it: whoever looks for `mesh-proxy` among the processes should find the
    /// program and not our helper beside it.
    pub fn container(&self, container: &str) -> PathBuf {
        let file = crate::names::letters(crate::names::hash(container), 10);
        self.memory().join("containers").join(format!("{file}.json"))
    }

    /// Mount point of a container's root, used in the container's mount namespace only.
    pub fn mount_point(&self) -> PathBuf {
        self.root.join("root")
    }

    /// The log of a container.
    pub fn log(&self, container: &str) -> PathBuf {
        self.root.join("logs").join(format!("{container}.log"))
    }

    /// The file `path` of this pod as the host's root sees it, inside the mount namespace of process `pid`.
    pub fn through(pid: u32, path: &Path) -> PathBuf {
        let mut out = PathBuf::from(format!("/proc/{pid}/root"));
        out.push(path.strip_prefix("/").unwrap_or(path));
        out
    }
}
