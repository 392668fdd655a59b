//! Images: which local program stands for an image name.
//!
//! There is no registry and no container image here: `images.yaml` in the directory given to `sandbox up` maps names
//! to commands, and the mesh's own programs are known.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file name, in the directory given to `sandbox up`.
pub const FILE: &str = "images.yaml";

/// The built-in image whose only work is to keep a pod alive.
pub const PAUSE: &str = "mesh-sandbox/pause";

/// The subcommand of `meshctl` that [`PAUSE`] runs.
pub const PAUSE_COMMAND: &str = "sandbox-pause";

/// Image names and their commands, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    entries: Vec<(String, Vec<String>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    images: std::collections::BTreeMap<String, Vec<String>>,
}

impl Images {
    /// Parses `images.yaml`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|err| err.to_string())?;
        for (name, command) in &file.images {
            if command.is_empty() {
                return Err(format!("image {name:?} has an empty command: name at least a program"));
            }
        }
        // Longer names first, so that among wildcards the most specific one decides.
        let mut entries: Vec<_> = file.images.into_iter().collect();
        entries.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Ok(Self { entries })
    }

    /// The command for `image`: exact names first, whole and then by their last segment; then wildcards in the same order.
    ///
    /// The tag and digest of the image do not matter.
    pub fn command(&self, image: &str) -> Option<Vec<String>> {
        let name = without_tag(image);
        let last = name.rsplit('/').next().unwrap_or(name);
        let find = |test: &dyn Fn(&str, &str) -> bool| {
            [name, last].into_iter().find_map(|n| self.entries.iter().find(|(pattern, _)| test(pattern, n)))
        };
        let found = find(&|pattern, n| pattern == n).or_else(|| find(&wildcard));
        found.map(|(_, command)| command.clone()).or_else(|| built_in(name, last))
    }
}

fn built_in(name: &str, last: &str) -> Option<Vec<String>> {
    match last {
        "mesh-proxy" | "mesh-cni" | "mesh-control" => Some(vec![last.to_owned()]),
        _ if name == PAUSE => Some(vec![crate::SELF_PROGRAM.to_owned(), PAUSE_COMMAND.to_owned()]),
        _ => None,
    }
}

fn wildcard(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => false,
    }
}

/// The image's name without `:tag` and `@digest`; a registry's port is no tag.
pub fn without_tag(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// Kubernetes' rule for a container's command line: `command` replaces the image's whole command, `args` alone replaces
/// what follows the program.
pub fn command_line(image: Vec<String>, command: &[String], args: &[String]) -> Vec<String> {
    if !command.is_empty() {
        return command.iter().chain(args).cloned().collect();
    }
    if args.is_empty() {
        return image;
    }
    image.into_iter().take(1).chain(args.iter().cloned()).collect()
}

/// Finds a program: a path as it is, else in the programs folder, else in the standard folders of the machine.
///
/// Returns `None` where there is no such executable file.
pub fn find_program(program: &str, folder: &Path) -> Option<PathBuf> {
    let executable = |path: PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(&path).ok()?;
        (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then_some(path)
    };
    if program == crate::SELF_PROGRAM {
        return std::env::current_exe().ok();
    }
    if program.starts_with('/') {
        return executable(PathBuf::from(program));
    }
    if program.contains('/') {
        return None;
    }
    executable(folder.join(program)).or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find_map(|dir| executable(dir.join(program)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(image: &str, expect: Option<&str>) {
        let images = Images::parse(
            "images:\n  mesh-examples/reviews-v1: [a]\n  reviews-v2: [b]\n  'examples-*': [c]\n  'examples-bookinfo-*': [d]\n",
        )
        .unwrap();
        assert_eq!(images.command(image).map(|c| c[0].clone()).as_deref(), expect, "{image}");
    }

    #[test]
    fn names_match_whole_then_by_last_segment_then_by_wildcard() {
        check("mesh-examples/reviews-v1:1.2", Some("a"));
        check("registry:5000/x/reviews-v2@sha256:00", Some("b"));
        check("docker.io/istio/examples-bookinfo-ratings:1", Some("d"));
        check("examples-sleep", Some("c"));
        check("mesh-proxy:0.1.0", Some("mesh-proxy"));
        check("nginx", None);
    }

    #[test]
    fn command_and_args_follow_kubernetes() {
        let image = || vec!["p".to_owned(), "x".to_owned()];
        let s = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(command_line(image(), &[], &[]), s(&["p", "x"]));
        assert_eq!(command_line(image(), &[], &s(&["y"])), s(&["p", "y"]));
        assert_eq!(command_line(image(), &s(&["q"]), &s(&["y"])), s(&["q", "y"]));
    }
}
