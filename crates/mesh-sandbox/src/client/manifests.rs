//! Reading manifests from the machine: a directory's files, a single file, standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::images;
use crate::objects::manifest::FILE_BYTES_MAX;
use crate::protocol::FileText;

/// The most files that a directory may hold.
const FILES_MAX: usize = 2000;

/// The manifests of a directory, not those of folders in it (as `kubectl -f DIR`), and its `images.yaml`.
pub fn read_directory(dir: &Path) -> anyhow::Result<(Vec<FileText>, Option<String>)> {
    let paths = manifests_of(dir)?;
    let mut images = None;
    let mut files = Vec::new();
    for path in paths {
        let file = read(&path)?;
        if path.file_name().is_some_and(|n| n == images::FILE) {
            images = Some(file.text);
        } else {
            files.push(file);
        }
    }
    ensure!(!files.is_empty(), "{} holds no manifests (*.yaml, *.yml or *.json)", dir.display());
    Ok((files, images))
}

/// The manifests that a person names with `-f`: files, directories, or `-` for standard input.
pub fn read_files(names: &[PathBuf]) -> anyhow::Result<Vec<FileText>> {
    let mut out = Vec::new();
    for name in names {
        if name.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text).context("standard input")?;
            out.push(FileText { path: "standard input".into(), text });
        } else if name.is_dir() {
            for path in manifests_of(name)?.iter().filter(|p| p.file_name().is_none_or(|n| n != images::FILE)) {
                out.push(read(path)?);
            }
        } else {
            out.push(read(name)?);
        }
    }
    Ok(out)
}

fn manifests_of(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read the directory {}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let known = path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "yaml" | "yml" | "json"));
        if known && path.is_file() {
            paths.push(path);
        }
    }
    ensure!(paths.len() <= FILES_MAX, "{} holds more than {FILES_MAX} manifests", dir.display());
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<FileText> {
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    ensure!(size <= FILE_BYTES_MAX as u64, "{} is larger than {FILE_BYTES_MAX} bytes", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(FileText { path: path.display().to_string(), text })
}
