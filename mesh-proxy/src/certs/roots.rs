//! The trusted roots: a file that Kubernetes keeps up to date, read again when it changes.

use std::path::Path;
use std::time::Duration;

use mesh_tls::{Credentials, TrustBundle};

/// How often the file is looked at. The kubelet itself takes up to a minute to bring a change.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The largest file read, in bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Reads the roots and trusts them from now on. A file that cannot be used changes nothing.
pub(super) fn refresh(path: &Path, credentials: &Credentials) -> Result<(), String> {
    let failed = |reason: String| format!("the root certificates {}: {reason}", path.display());
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    if text.len() > FILE_BYTES_MAX {
        return Err(failed("the file is too large".to_owned()));
    }
    let bundle = TrustBundle::from_pem(&text).map_err(|error| failed(error.to_string()))?;
    if bundle.certificates() != credentials.bundle().certificates() {
        tracing::info!(roots = bundle.certificates().len(), "root certificates in use");
        credentials.trust(bundle);
    }
    Ok(())
}

/// Keeps the roots up to date for as long as the process lives.
pub(super) async fn watch(path: &Path, credentials: &Credentials) {
    let mut complained = false;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match refresh(path, credentials) {
            Ok(()) => complained = false,
            // Once is enough: the old roots stay in use, and a missing file is also told by readiness.
            Err(reason) if !complained => {
                complained = true;
                tracing::warn!(reason, "the root certificates stay as they are");
            }
            Err(_) => {}
        }
    }
}
