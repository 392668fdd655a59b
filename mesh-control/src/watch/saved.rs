//! The last content of each file that parsed, kept in the state folder: what a broken file means after a restart.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The folder within the state folder.
const FOLDER: &str = "files";

/// The saved contents.
pub(super) struct Saved {
    folder: PathBuf,
}

impl Saved {
    pub(super) fn new(state: &Path) -> Self {
        Self { folder: state.join(FOLDER) }
    }

    fn place(&self, path: &str) -> PathBuf {
        let digest = Sha256::digest(path);
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name)
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.place(path)).ok()
    }

    /// Keeps a content, whole or not at all. Failing is reported and otherwise harmless.
    pub(super) fn write(&self, path: &str, content: &str) {
        let place = self.place(path);
        let beside = place.with_extension("new");
        // Private: a directory of configuration can also hold Secrets.
        let mut folder = std::fs::DirBuilder::new();
        let written = folder
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .and_then(|()| std::fs::write(&beside, content))
            .and_then(|()| std::fs::rename(&beside, &place));
        if let Err(error) = written {
            tracing::warn!(file = path, %error, "the last good content cannot be kept: a restart would lose it if the file breaks");
        }
    }

    pub(super) fn remove(&self, path: &str) {
        // Not being there is what is wanted.
        let _ = std::fs::remove_file(self.place(path));
    }
}
