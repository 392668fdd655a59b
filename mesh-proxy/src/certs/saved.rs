//! Certificate and key on the pod's memory-backed volume, mode 0600.

use std::path::Path;

use mesh_core::identity::SpiffeId;
use mesh_tls::WorkloadCertificate;
use zeroize::Zeroizing;

use crate::config::write_file;

/// Chain and key in one file, so that they are always replaced together.
const FILE: &str = "workload.pem";

/// Saves both.
pub(super) fn write(dir: &Path, certificate: &WorkloadCertificate) -> std::io::Result<()> {
    let mut text = Zeroizing::new(certificate.chain_pem());
    text.push_str(&certificate.key().to_pem());
    write_file(&dir.join(FILE), text.as_bytes())
}

/// What was saved for this identity; `None` where there is nothing.
pub(super) fn read(dir: &Path, identity: &SpiffeId) -> Result<Option<WorkloadCertificate>, String> {
    let path = dir.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let certificate =
        WorkloadCertificate::from_pem(&text, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    if certificate.identity() != identity {
        return Err(format!("{}: it is {}'s, not {identity}'s", path.display(), certificate.identity()));
    }
    Ok(Some(certificate))
}
