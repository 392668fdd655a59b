//! What a container sees as its file system.
//!
//! A memory file system with the machine's programs and libraries bound in read-only, its own `/etc`, `/proc`, `/dev`
//! and `/tmp`, and the pod's volumes on top. Nothing of the machine's homes, state or secrets is in it, and mount points
//! can be made anywhere without touching the machine. It exists in the container's mount namespace only.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

/// Where the image's program is found in the container; the first folder of its PATH.
pub(crate) const PROGRAMS: &str = "/mesh/bin";

/// Folders of the machine that hold programs and libraries.
const SYSTEM: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr"];

/// What of the machine's `/etc` programs need to run at all; nothing that names users' secrets.
const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "ethertypes",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "perl",
    "protocols",
    "rpc",
    "services",
    "ssl",
];

/// Devices that are bound in from the machine.
const DEVICES: &[&str] = &["full", "null", "random", "tty", "urandom", "zero"];

/// The most that a container may write outside its volumes.
const ROOT_SIZE: &str = "size=1g,mode=0755";

/// A container's file system.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RootSpec {
    /// An empty folder of the machine on which it is built.
    pub(crate) mount_point: PathBuf,
    /// The image's programs: a file of the machine, and its name in [`PROGRAMS`].
    pub(crate) programs: Vec<(PathBuf, String)>,
    /// Files of `/etc` and their content.
    pub(crate) etc: Vec<(String, String)>,
    /// Volumes, in the order in which they are mounted.
    pub(crate) mounts: Vec<Mount>,
    /// Whether everything but volumes is read-only.
    pub(crate) read_only: bool,
}

/// A volume or a part of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// The source lies in a volume into which containers write: no symbolic link in it is followed.
    pub(crate) contained: bool,
}

/// Stops mounts of this namespace from showing elsewhere.
pub(crate) fn make_private() -> anyhow::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make mounts private")
}

/// Builds the file system in a new mount namespace and makes it the root of this process.
pub(crate) fn build(spec: &RootSpec) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    make_private()?;
    let root = spec.mount_point.as_path();
    mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), Some(ROOT_SIZE)).context("cannot mount the root")?;
    system(root)?;
    etc(root, spec)?;
    devices(root)?;
    for dir in ["home", "mnt", "opt", "root", "run", "srv", "var", "var/lib", "var/log", "run/secrets"] {
        folder(&root.join(dir), 0o755)?;
    }
    folder(&root.join("tmp"), 0o1777)?;
    folder(&root.join("var/tmp"), 0o1777)?;
    // `/var/run/secrets` is where Kubernetes puts them, and `/var/run` is `/run` on Debian.
    symlink("/run", root.join("var/run"))?;
    kernel_file_systems(root)?;
    programs(root, spec)?;
    for volume in &spec.mounts {
        volume_mount(root, volume).with_context(|| format!("volume mount {}", volume.target))?;
    }
    if spec.read_only {
        remount_read_only(root)?;
    }
    enter(root)
}

fn system(root: &Path) -> anyhow::Result<()> {
    for name in SYSTEM {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        let Ok(meta) = std::fs::symlink_metadata(&from) else { continue };
        if meta.is_symlink() {
            symlink(std::fs::read_link(&from)?, &to)?;
        } else if meta.is_dir() {
            folder(&to, 0o755)?;
            bind(&from, &to, true)?;
        }
    }
    Ok(())
}

fn etc(root: &Path, spec: &RootSpec) -> anyhow::Result<()> {
    let etc = root.join("etc");
    folder(&etc, 0o755)?;
    for name in ETC {
        let from = Path::new("/etc").join(name);
        let Ok(meta) = std::fs::metadata(&from) else { continue };
        let to = etc.join(name);
        if meta.is_dir() {
            folder(&to, 0o755)?;
        } else {
            std::fs::write(&to, "")?;
        }
        bind(&std::fs::canonicalize(&from)?, &to, true)?;
    }
    for (name, content) in &spec.etc {
        let path = etc.join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

fn devices(root: &Path) -> anyhow::Result<()> {
    let dev = root.join("dev");
    folder(&dev, 0o755)?;
    mount(Some("tmpfs"), &dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("size=64k,mode=0755"))?;
    for name in DEVICES {
        let from = Path::new("/dev").join(name);
        if from.exists() {
            std::fs::write(dev.join(name), "")?;
            bind(&from, &dev.join(name), false)?;
        }
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    folder(&dev.join("shm"), 0o1777)?;
    mount(
        Some("tmpfs"),
        &dev.join("shm"),
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("size=64m,mode=1777"),
    )?;
    folder(&dev.join("pts"), 0o755)?;
    mount(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::MS_NOSUID,
        Some("newinstance,ptmxmode=0666,mode=0620"),
    )?;
    symlink("pts/ptmx", dev.join("ptmx"))?;
    Ok(())
}

fn kernel_file_systems(root: &Path) -> anyhow::Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    folder(&root.join("proc"), 0o555)?;
    mount(Some("proc"), &root.join("proc"), Some("proc"), quiet, None::<&str>).context("cannot mount /proc")?;
    folder(&root.join("sys"), 0o555)?;
    mount(Some("sysfs"), &root.join("sys"), Some("sysfs"), quiet | MsFlags::MS_RDONLY, None::<&str>)
        .context("cannot mount /sys")
}

fn programs(root: &Path, spec: &RootSpec) -> anyhow::Result<()> {
    let dir = root.join(PROGRAMS.trim_start_matches('/'));
    folder(&dir, 0o755)?;
    for (from, name) in &spec.programs {
        let to = dir.join(name);
        std::fs::write(&to, "")?;
        bind(from, &to, true).with_context(|| format!("program {}", from.display()))?;
    }
    Ok(())
}

fn volume_mount(root: &Path, volume: &Mount) -> anyhow::Result<()> {
    let to = inside(root, &volume.target)?;
    if volume.contained {
        let real = std::fs::canonicalize(&volume.source).with_context(|| format!("{}", volume.source.display()))?;
        ensure!(real == volume.source, "subPath leads through a symbolic link");
    }
    let meta = std::fs::metadata(&volume.source).with_context(|| format!("{}", volume.source.display()))?;
    if meta.is_dir() {
        folder(&to, 0o755)?;
    } else {
        folder(to.parent().unwrap_or(root), 0o755)?;
        if !to.exists() {
            std::fs::write(&to, "")?;
        }
    }
    bind(&volume.source, &to, volume.read_only)
}

/// The place of the absolute path `target` in the new root. `/var/run` is a link there and is followed by hand, since
/// the kernel would follow it in the machine's root.
fn inside(root: &Path, target: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(target);
    ensure!(path.is_absolute(), "mountPath {target:?} is not absolute");
    let path = path.strip_prefix("/var/run").map_or_else(|_| path.to_owned(), |rest| Path::new("/run").join(rest));
    let mut out = root.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => bail!("mountPath {target:?} must not contain `..`"),
        }
        let link = std::fs::symlink_metadata(&out).is_ok_and(|m| m.is_symlink());
        ensure!(!link, "mountPath {target:?} leads through a symbolic link of the machine");
    }
    ensure!(out != root, "mountPath must not be /");
    Ok(out)
}

fn bind(from: &Path, to: &Path, read_only: bool) -> anyhow::Result<()> {
    let what = || format!("cannot mount {} at {}", from.display(), to.display());
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).with_context(what)?;
    if read_only { remount_read_only(to) } else { Ok(()) }
}

fn remount_read_only(at: &Path) -> anyhow::Result<()> {
    let kept = nix::sys::statvfs::statvfs(at).map(|s| s.flags()).unwrap_or(nix::sys::statvfs::FsFlags::empty());
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    for (has, flag) in [
        (nix::sys::statvfs::FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (nix::sys::statvfs::FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (nix::sys::statvfs::FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        if kept.contains(has) {
            flags |= flag;
        }
    }
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot make {} read-only", at.display()))
}

fn enter(root: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(root)?;
    nix::unistd::pivot_root(".", ".").context("cannot change the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot leave the machine's root")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Makes a folder and those above it, with exactly this mode for itself.
fn folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}
