//! Which packages may be in the build, and in how many versions.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::Workspace;

/// Packages that must not come in, not even behind another one.
const BANNED: [(&str, &str); 9] = [
    ("openssl", "one TLS library, and that is rustls"),
    ("openssl-sys", "one TLS library, and that is rustls"),
    ("native-tls", "one TLS library, and that is rustls"),
    ("ring", "one set of primitives, and that is aws-lc-rs: maintained, post-quantum, FIPS"),
    ("serde_yaml", "archived; serde-saphyr"),
    ("serde_yml", "unsound (RUSTSEC-2025-0068); serde-saphyr"),
    ("rustls-pemfile", "archived (RUSTSEC-2025-0134); rustls-pki-types"),
    ("backoff", "unmaintained (RUSTSEC-2025-0012)"),
    ("async-std", "one runtime, and that is tokio"),
];

/// Packages that are there in two versions because somebody upstream has not moved yet. Whoever brings a version up to
/// date takes the line out; the rule says so.
const TWICE: [(&str, &str); 8] = [
    ("base64", "0.22 by jsonwebtoken and pem"),
    ("cpufeatures", "0.2 by sha2 0.10"),
    ("hashbrown", "0.15 by petgraph, which is behind prost-build, in tests only"),
    ("pem", "3 by jsonwebtoken"),
    ("syn", "2 by derive macros that have not moved to 3"),
    ("synstructure", "0.13 by asn1-rs-derive, behind x509-parser"),
    ("unicode-width", "0.1 by miette, behind protox, in tests only"),
    ("untrusted", "0.7 by aws-lc-rs, 0.9 by rustls-webpki"),
];

pub(super) fn check(workspace: &Workspace) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut versions = BTreeMap::<&str, BTreeSet<String>>::new();
    for package in workspace.packages() {
        if let Some((name, why)) = BANNED.iter().find(|(name, _)| *name == package.name) {
            complaints.push(format!("{name} {} is banned: {why}; see cargo tree -i {name}", package.version));
        }
        if let Some(source) = package.source.as_deref().filter(|source| !source.starts_with("registry+")) {
            let name = &package.name;
            complaints.push(format!("{name} comes from {source}: only registries keep what a version was"));
        }
        versions.entry(&package.name).or_default().insert(major(&package.version));
    }
    for (name, versions) in &versions {
        let several = versions.len() > 1;
        let allowed = TWICE.iter().any(|(twice, _)| twice == name);
        if several && !allowed {
            let versions: Vec<_> = versions.iter().map(String::as_str).collect();
            let versions = versions.join(" and ");
            complaints
                .push(format!("{name} is compiled as {versions}: bring them together, or argue it in {}", file!()));
        }
        if !several && allowed {
            complaints.push(format!("{name} is there once now: take its line out of {}", file!()));
        }
    }
    complaints
}

/// The part of a version that says what it is compatible with.
fn major(version: &str) -> String {
    let mut parts = version.split(['.', '-', '+']);
    match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
        ("0", minor) => format!("0.{minor}"),
        (major, _) => major.to_owned(),
    }
}
