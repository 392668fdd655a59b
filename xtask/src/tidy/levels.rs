//! Which of our packages may know which, and what must not reach them.

use crate::workspace::{Workspace, compiled};

/// A package of ours and those of ours that it may need. Levels point down only: programs, then what they share, then
/// the compiler, then core and kinds; `mesh-core` and `mesh-crd` do not know each other.
const MAY_NEED: [(&str, &[&str]); 16] = [
    ("mesh-core", &[]),
    ("mesh-crd", &[]),
    ("mesh-compile", &["mesh-core", "mesh-crd"]),
    ("mesh-api", &["mesh-core"]),
    ("mesh-tls", &["mesh-core"]),
    ("mesh-inject", &["mesh-crd"]),
    ("mesh-analysis", &["mesh-compile", "mesh-core", "mesh-crd"]),
    ("mesh-sandbox", &["mesh-crd", "mesh-inject"]), // the one step sideways: it plays the injecting webhook
    ("mesh-proxy", &["mesh-core", "mesh-api", "mesh-tls"]),
    (
        "mesh-control",
        &["mesh-core", "mesh-crd", "mesh-compile", "mesh-api", "mesh-tls", "mesh-inject", "mesh-analysis"],
    ),
    ("mesh-cni", &[]),
    ("meshctl", &["mesh-core", "mesh-crd", "mesh-inject", "mesh-analysis", "mesh-sandbox"]),
    ("example-apps", &[]), // ordinary applications, which know of no mesh
    ("e2e", &[]),          // sees what a person sees
    ("xtask", &[]),
    ("mesh-fuzz", &["mesh-core", "mesh-crd", "mesh-compile", "mesh-api", "mesh-tls", "mesh-inject"]),
];

/// What a package must not have below it at any depth. A name that ends in `*` stands for all that begin so.
const MUST_NOT_REACH: [(&str, &[&str], &str); 5] = [
    ("mesh-core", IO, "mesh-core decides and does nothing else: no sockets, files, clocks or wire formats"),
    ("mesh-crd", IO_BUT_SYSTEM, "mesh-crd is types only"),
    ("mesh-compile", IO_BUT_SYSTEM, "the compiler is pure, and free of wire types"),
    ("mesh-inject", IO_BUT_SYSTEM, "injection is pure"),
    (
        "mesh-proxy",
        &["kube*", "k8s-openapi", "mesh-crd", "mesh-compile", "serde-saphyr", "saphyr*"],
        "the proxy does not know Kubernetes",
    ),
];

/// Runtimes, sockets, system calls, protobuf and Kubernetes.
const IO: &[&str] = &[
    "tokio*",
    "async-*",
    "mio",
    "socket2",
    "rustix",
    "nix",
    "libc",
    "hyper*",
    "h2",
    "http",
    "http-body*",
    "tower*",
    "tonic*",
    "prost*",
    "rustls*",
    "aws-lc*",
    "kube*",
    "k8s-openapi",
    "serde_json",
    "serde-saphyr",
    "tracing*",
    "jiff",
    "notify",
];
/// The same for packages that parse YAML and JSON, whose parsers may come with more.
const IO_BUT_SYSTEM: &[&str] = &[
    "tokio*",
    "async-*",
    "mio",
    "socket2",
    "nix",
    "hyper*",
    "h2",
    "tower*",
    "tonic*",
    "prost*",
    "rustls*",
    "aws-lc*",
    "kube*",
    "k8s-openapi",
    "notify",
];

pub(super) fn check(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for package in workspace.members() {
        let Some((_, may_need)) = MAY_NEED.iter().find(|(name, _)| *name == package.name) else {
            complaints.push(format!("{} has no level: say in {} what it may need", package.name, file!()));
            continue;
        };
        for needed in workspace.own_needs(package) {
            if !may_need.contains(&needed.name.as_str()) {
                complaints.push(format!(
                    "{} needs {}: levels point down only ({})",
                    package.name,
                    needed.name,
                    file!()
                ));
            }
        }
    }
    for (name, unwanted, why) in MUST_NOT_REACH.iter().filter(|(name, ..)| workspace.member(name).is_some()) {
        let reached = compiled(&["-p", name, "--edges", "normal,build"])?;
        let found = reached.iter().filter(|(found, _)| unwanted.iter().any(|pattern| matches(pattern, found)));
        complaints.extend(found.map(|(found, _)| format!("{name} reaches {found}: {why}")));
    }
    Ok(complaints)
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |begin| name.starts_with(begin))
}
