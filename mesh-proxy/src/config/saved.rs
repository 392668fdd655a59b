//! The last good configuration, kept over a restart of the container.
//!
//! One file in the pod's memory-backed volume: the resources as they came with their versions, what is known to be
//! absent, and the set of keys. It has the form of a response (`DeltaDiscoveryResponse`), so that what is read back goes
//! through the same intake as what comes from the wire. Written beside and renamed over: a reader finds the old or the
//! new one, never a piece.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mesh_api::proto::Any;
use mesh_api::proto::discovery::{DeltaDiscoveryResponse, Resource};
use prost::Message as _;

use super::store::Incoming;

/// The file's name in the state folder.
const FILE: &str = "config.pb";
/// Says how the file is to be read. A file of another form is ignored, as if there were none.
const FORM: &str = "mesh-proxy saved configuration 1";
/// The largest file read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is saved.
pub(super) struct Snapshot {
    /// The workload whose configuration it is.
    pub(super) uid: String,
    pub(super) incoming: Incoming,
}

/// Writes the snapshot.
pub(super) fn write(dir: &Path, snapshot: Snapshot) -> std::io::Result<()> {
    let resources = snapshot.incoming.resources.into_iter().map(|(name, version, any)| Resource {
        name,
        version,
        resource: Some(any),
    });
    let message = DeltaDiscoveryResponse {
        system_version_info: FORM.to_owned(),
        nonce: snapshot.uid,
        resources: resources.collect(),
        removed_resources: snapshot.incoming.removed,
        ..DeltaDiscoveryResponse::default()
    };
    write_file(&dir.join(FILE), &message.encode_to_vec())
}

/// Reads the snapshot of this workload. `None` where there is none, or none that can be used: then the proxy waits for
/// the control plane, as a new one does.
pub(super) fn read(dir: &Path, uid: &str) -> Option<Incoming> {
    let path = dir.join(FILE);
    let ignored = |reason: &str| tracing::warn!(path = %path.display(), reason, "the saved configuration is ignored");
    match std::fs::metadata(&path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            ignored("it is too large");
            return None;
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            ignored(&error.to_string());
            return None;
        }
    }
    let message = std::fs::read(&path)
        .map_err(|error| error.to_string())
        .and_then(|bytes| DeltaDiscoveryResponse::decode(bytes.as_slice()).map_err(|error| error.to_string()));
    let message = match message {
        Ok(message) if message.system_version_info != FORM => {
            ignored("it is of another form");
            return None;
        }
        Ok(message) if message.nonce != uid => {
            ignored("it is another workload's");
            return None;
        }
        Ok(message) => message,
        Err(reason) => {
            ignored(&reason);
            return None;
        }
    };
    let any = |resource: Resource| {
        let any: Any = resource.resource.unwrap_or_default();
        (resource.name, resource.version, any)
    };
    Some(Incoming { resources: message.resources.into_iter().map(any).collect(), removed: message.removed_resources })
}

/// Writes a file whole or not at all, readable by its owner only.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut beside = PathBuf::from(path).into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // An old one left by a crash could have another mode or owner.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    // The volume is memory; there is no disk to wait for.
    std::fs::rename(&beside, path)
}
