//! What the tests need from the machine: programs of Debian packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// A program, the Debian package that has it, and what it is for.
struct Need {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

/// Everything that is started and not built here.
const NEEDS: [Need; 6] = [
    Need { program: "iptables-restore", package: "iptables", why: "mesh-cni sets a pod's redirect rules" },
    Need { program: "ip6tables-restore", package: "iptables", why: "the same for IPv6" },
    Need { program: "ip", package: "iproute2", why: "the sandbox connects its network namespaces" },
    Need { program: "tcpdump", package: "tcpdump", why: "scenarios look at what crosses the wire" },
    Need { program: "nsenter", package: "util-linux", why: "scenarios look into a pod's namespaces" },
    Need { program: "git", package: "git", why: "tidy checks the files that are tracked" },
];

/// Where system programs lie even when the caller's PATH does not say so.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Whether this process may make network namespaces and install packages.
pub(crate) fn is_root() -> bool {
    // The first of the four ids of the line `Uid:` is the real one; without /proc we take ourselves for nobody.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
    line.split_whitespace().nth(2) == Some("0")
}

/// Sees to it that what the tests need is installed: as root by installing it, else by naming the command.
///
/// # Errors
/// When something is missing and cannot be installed here.
pub(crate) fn provide() -> anyhow::Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !is_installed(need.program)).collect();
    if missing.is_empty() {
        eprintln!("   everything is here: {}", NEEDS.map(|need| need.program).join(", "));
        return Ok(());
    }
    for need in &missing {
        eprintln!("   missing: {} (Debian package {}): {}", need.program, need.package, need.why);
    }
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let words = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    ensure!(is_root(), "install what is missing: sudo {words}");
    ensure!(is_installed("apt-get"), "this is no Debian; install with its own means: {}", packages.join(" "));

    eprintln!("   installing as root: {words}");
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--yes", "--quiet", "--no-install-recommends"], packages.as_slice()].concat())?;
    for need in missing {
        ensure!(is_installed(need.program), "{} is still missing after {words}", need.program);
    }
    Ok(())
}

fn apt(words: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive").status();
    let status = status.context("apt-get")?;
    ensure!(status.success(), "apt-get {} ended with {status}", words.join(" "));
    Ok(())
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_FOLDERS.map(|folder| Path::new(folder).to_owned());
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

/// Fails, naming the command that helps, when cargo has no such subcommand.
pub(crate) fn provide_component(subcommand: &str, component: &str) -> anyhow::Result<()> {
    let there =
        crate::workspace::cargo(&[subcommand, "--version"]).output().is_ok_and(|output| output.status.success());
    ensure!(there, "`cargo {subcommand}` is missing; install it: rustup component add {component}");
    Ok(())
}
