//! The authority's files: our own state folder, and the set of files that Istio's users plug in (`cacerts`).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use super::Authority;
use crate::error::AuthorityError;
use crate::key::WorkloadKey;
use crate::{leaf, pem};

/// The signing certificate.
pub const CA_CERT: &str = "ca-cert.pem";
/// The signing certificate's private key.
pub const CA_KEY: &str = "ca-key.pem";
/// The roots that workloads trust.
pub const ROOT_CERT: &str = "root-cert.pem";
/// The way from the signing certificate to the root.
pub const CERT_CHAIN: &str = "cert-chain.pem";

impl Authority {
    /// Loads the authority from a folder with Istio's set of files: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and,
    /// where there are intermediates, `cert-chain.pem`.
    ///
    /// # Errors
    /// A missing or unusable file, or a set that does not work together; the message names the file.
    pub fn load(dir: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let content = |file: &'static str| move |reason: String| AuthorityError::Content { file, reason };
        let signing = pem::certificates(&read(dir, CA_CERT)?).map_err(|e| content(CA_CERT)(e.to_string()))?;
        let roots = pem::certificates(&read(dir, ROOT_CERT)?).map_err(|e| content(ROOT_CERT)(e.to_string()))?;
        let key_text = zeroize::Zeroizing::new(read(dir, CA_KEY)?);
        let key = WorkloadKey::from_pem(&key_text).map_err(|e| content(CA_KEY)(e.to_string()))?;
        let mut chain = vec![signing[0].clone()];
        if dir.join(CERT_CHAIN).exists() {
            let more = pem::certificates(&read(dir, CERT_CHAIN)?).map_err(|e| content(CERT_CHAIN)(e.to_string()))?;
            for certificate in more {
                // Istio's tools repeat the signing certificate at the head and often the root at the end.
                if !chain.contains(&certificate) && !leaf::is_self_issued(&certificate) {
                    chain.push(certificate);
                }
            }
        }
        Self::new(key.into_pair(), chain, roots, now)
    }

    /// Loads the self-signed root kept in this folder, or makes one there (key readable by its owner only).
    ///
    /// # Errors
    /// Files that cannot be read or written, or that do not work together. An existing root is never replaced.
    pub fn load_or_create(dir: &Path, organisation: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        if dir.join(CA_KEY).exists() {
            return Self::load(dir, now);
        }
        let authority = Self::self_signed(organisation, now)?;
        fs::create_dir_all(dir).map_err(|source| file_error(dir, source))?;
        let root = authority.bundle().to_pem();
        // The key comes last: its presence says that the set is complete.
        write(dir, ROOT_CERT, root.as_bytes(), 0o644)?;
        write(dir, CA_CERT, root.as_bytes(), 0o644)?;
        let key = &authority.issuer.key().0;
        let text = zeroize::Zeroizing::new(pem::section("PRIVATE KEY", key.serialized_der()));
        write(dir, CA_KEY, text.as_bytes(), 0o600)?;
        Ok(authority)
    }
}

fn read(dir: &Path, file: &str) -> Result<Vec<u8>, AuthorityError> {
    let path = dir.join(file);
    fs::read(&path).map_err(|source| file_error(&path, source))
}

/// Writes a file whole or not at all: beside it, then renamed over.
fn write(dir: &Path, file: &str, content: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let path = dir.join(file);
    let beside = dir.join(format!(".{file}.new"));
    let attempt = || {
        let mut options = fs::OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        // An old file left by a crash keeps its mode otherwise.
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&beside, &path)
    };
    attempt().map_err(|source| file_error(&path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> AuthorityError {
    AuthorityError::File { path: path.display().to_string(), source }
}
