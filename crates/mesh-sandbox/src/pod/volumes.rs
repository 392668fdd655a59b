//! Volumes: what files they hold, and writing those that change.
//!
//! Everything that the sandbox writes (ConfigMaps, Secrets, tokens, the downward API) lies in the pod's memory file
//! system. Files are replaced by rename, so that a reader sees the old or the new content and never a mixture.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::env::{self, Sources};
use super::root::Mount;
use crate::objects::spec::{
    ConfigMapVolume, Container, DownwardVolume, KeyToPath, PodSpec, ProjectedVolume, SecretVolume, Volume, VolumeMount,
};
use crate::paths::PodDir;

/// The mode of files where none is given, as in Kubernetes.
const FILE_MODE: u32 = 0o644;
/// The mode of tokens and other files that one user only may read.
const PRIVATE_MODE: u32 = 0o600;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileOut {
    path: String,
    content: Vec<u8>,
    mode: u32,
    /// A token: only the user of the containers that mount it may read it.
    private: bool,
}

/// A signed token and the time after which it should be renewed.
pub(crate) type SignToken<'a> = dyn Fn(&str, Option<u64>) -> anyhow::Result<(String, Duration)> + 'a;

/// Tokens that were signed, by volume and path, so that one is renewed only when its time has come.
pub(crate) type Tokens = BTreeMap<(String, String), (String, Instant)>;

/// Makes all volumes, or brings them up to date. The error names what is missing.
///
/// `pid` is the pod's PID 1, through whose eyes the memory file system is reached.
pub(crate) fn write(
    pid: u32,
    dir: &PodDir,
    spec: &PodSpec,
    sources: &Sources<'_>,
    tokens: &mut Tokens,
    sign: &SignToken<'_>,
) -> anyhow::Result<()> {
    for volume in &spec.volumes {
        check_segment(&volume.name)?;
        let what = || format!("volume {:?}", volume.name);
        let owner = owner(spec, &volume.name);
        if let Some(empty) = &volume.empty_dir {
            let place = empty_dir_place(pid, dir, volume, empty.medium == "Memory");
            make_shared(&place, spec.security_context.fs_group).with_context(what)?;
            continue;
        }
        let Some(files) = files(volume, sources, tokens, sign).with_context(what)? else { continue };
        let place = PodDir::through(pid, &dir.memory_volume(&volume.name));
        put(&place, &files, owner, spec.security_context.fs_group).with_context(what)?;
    }
    Ok(())
}

/// The bind mounts of one container.
pub(crate) fn mounts(dir: &PodDir, spec: &PodSpec, container: &Container) -> anyhow::Result<Vec<Mount>> {
    container.volume_mounts.iter().map(|mount| one_mount(dir, spec, mount)).collect()
}

fn one_mount(dir: &PodDir, spec: &PodSpec, mount: &VolumeMount) -> anyhow::Result<Mount> {
    let volume = spec.volumes.iter().find(|v| v.name == mount.name);
    let volume = volume.with_context(|| format!("volumeMount {:?}: the pod has no such volume", mount.name))?;
    let written = volume.empty_dir.is_none() && volume.host_path.is_none();
    let mut source = match (&volume.empty_dir, &volume.host_path) {
        (Some(empty), _) if empty.medium != "Memory" => dir.disk_volume(&volume.name),
        (None, Some(host)) => PathBuf::from(&host.path),
        _ => dir.memory_volume(&volume.name),
    };
    if let Some(sub) = &mount.sub_path {
        source = below(&source, sub)?;
    }
    let contained = volume.host_path.is_none();
    Ok(Mount { source, target: mount.mount_path.clone(), read_only: mount.read_only || written, contained })
}

fn empty_dir_place(pid: u32, dir: &PodDir, volume: &Volume, memory: bool) -> PathBuf {
    if memory { PodDir::through(pid, &dir.memory_volume(&volume.name)) } else { dir.disk_volume(&volume.name) }
}

/// The files of a volume that the sandbox writes; `None` for one that it does not write.
fn files(
    volume: &Volume,
    sources: &Sources<'_>,
    tokens: &mut Tokens,
    sign: &SignToken<'_>,
) -> anyhow::Result<Option<Vec<FileOut>>> {
    let mut out = Vec::new();
    if let Some(map) = &volume.config_map {
        config_map(map, sources, map.default_mode, &mut out)?;
    } else if let Some(secret) = &volume.secret {
        self::secret(secret, sources, secret.default_mode, &mut out)?;
    } else if let Some(downward) = &volume.downward_api {
        self::downward(downward, sources, downward.default_mode, &mut out)?;
    } else if let Some(projected) = &volume.projected {
        self::projected(&volume.name, projected, sources, tokens, sign, &mut out)?;
    } else if volume.host_path.is_some() {
        return Ok(None);
    } else {
        bail!(
            "this kind of volume is not supported in the sandbox (emptyDir, configMap, secret, projected, downwardAPI, hostPath are)"
        );
    }
    Ok(Some(out))
}

fn projected(
    volume: &str,
    projected: &ProjectedVolume,
    sources: &Sources<'_>,
    tokens: &mut Tokens,
    sign: &SignToken<'_>,
    out: &mut Vec<FileOut>,
) -> anyhow::Result<()> {
    let mode = projected.default_mode;
    for source in &projected.sources {
        if let Some(map) = &source.config_map {
            config_map(map, sources, mode, out)?;
        }
        if let Some(secret) = &source.secret {
            self::secret(secret, sources, mode, out)?;
        }
        if let Some(downward) = &source.downward_api {
            self::downward(downward, sources, mode, out)?;
        }
        if let Some(token) = &source.service_account_token {
            let key = (volume.to_owned(), token.path.clone());
            let due = tokens.get(&key).is_none_or(|(_, renew)| Instant::now() >= *renew);
            if due {
                let audience = token.audience.as_deref().unwrap_or(crate::token::ISSUER);
                let (text, after) = sign(audience, token.expiration_seconds)?;
                tokens.insert(key.clone(), (text, Instant::now() + after));
            }
            let content = tokens.get(&key).map(|(text, _)| text.clone().into_bytes()).unwrap_or_default();
            out.push(FileOut { path: token.path.clone(), content, mode: PRIVATE_MODE, private: true });
        }
    }
    Ok(())
}

fn config_map(
    map: &ConfigMapVolume,
    sources: &Sources<'_>,
    mode: Option<u32>,
    out: &mut Vec<FileOut>,
) -> anyhow::Result<()> {
    match (sources.config_map)(&map.name) {
        Some(data) => keys(&data, &map.items, mode, out),
        None if map.optional => Ok(()),
        None => bail!("ConfigMap {:?} does not exist", map.name),
    }
}

fn secret(
    secret: &SecretVolume,
    sources: &Sources<'_>,
    mode: Option<u32>,
    out: &mut Vec<FileOut>,
) -> anyhow::Result<()> {
    match (sources.secret)(&secret.secret_name) {
        Some(data) => keys(&data, &secret.items, mode, out),
        None if secret.optional => Ok(()),
        None => bail!("Secret {:?} does not exist", secret.secret_name),
    }
}

fn keys(
    data: &BTreeMap<String, Vec<u8>>,
    items: &[KeyToPath],
    mode: Option<u32>,
    out: &mut Vec<FileOut>,
) -> anyhow::Result<()> {
    let mode = mode.unwrap_or(FILE_MODE);
    if items.is_empty() {
        let all = data.iter().map(|(key, content)| FileOut {
            path: key.clone(),
            content: content.clone(),
            mode,
            private: false,
        });
        out.extend(all);
        return Ok(());
    }
    for item in items {
        let content = data.get(&item.key).with_context(|| format!("it has no key {:?}", item.key))?;
        let mode = item.mode.unwrap_or(mode);
        out.push(FileOut { path: item.path.clone(), content: content.clone(), mode, private: false });
    }
    Ok(())
}

fn downward(
    volume: &DownwardVolume,
    sources: &Sources<'_>,
    mode: Option<u32>,
    out: &mut Vec<FileOut>,
) -> anyhow::Result<()> {
    for item in &volume.items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => env::field(field, sources),
            (None, Some(resource)) => env::resource_field(resource, &Container::default(), sources.spec),
            (None, None) => Err("neither fieldRef nor resourceFieldRef is given".into()),
        };
        let text = text.map_err(|why| anyhow::anyhow!("{}: {why}", item.path))?;
        let mode = item.mode.or(mode).unwrap_or(FILE_MODE);
        out.push(FileOut { path: item.path.clone(), content: text.into_bytes(), mode, private: false });
    }
    Ok(())
}

/// The user of the containers that mount a volume, when they all have the same.
fn owner(spec: &PodSpec, volume: &str) -> Option<u32> {
    let mounts = |c: &&Container| c.volume_mounts.iter().any(|m| m.name == volume);
    let mut users = spec
        .all_containers()
        .filter(mounts)
        .map(|c| c.security_context.run_as_user.or(spec.security_context.run_as_user).unwrap_or(0));
    let first = users.next()?;
    users.all(|u| u == first).then_some(first)
}

fn make_shared(place: &Path, fs_group: Option<u32>) -> anyhow::Result<()> {
    if place.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(place)?;
    if fs_group.is_some() {
        chown(place, None, fs_group)?;
    }
    let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
    Ok(std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode))?)
}

fn put(place: &Path, files: &[FileOut], owner: Option<u32>, fs_group: Option<u32>) -> anyhow::Result<()> {
    std::fs::create_dir_all(place)?;
    for file in files {
        let path = below(place, &file.path)?;
        if std::fs::read(&path).is_ok_and(|present| present == file.content) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let fresh =
            path.with_file_name(format!(".{}.new", path.file_name().and_then(|n| n.to_str()).unwrap_or("file")));
        std::fs::write(&fresh, &file.content)?;
        let (uid, gid, mode) = match (file.private, owner, fs_group) {
            (true, Some(uid), _) => (Some(uid), None, file.mode),
            (true, None, Some(_)) => (None, fs_group, 0o640),
            (false, _, Some(_)) => (None, fs_group, file.mode | 0o040),
            _ => (None, None, file.mode),
        };
        chown(&fresh, uid, gid)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&fresh, &path)?;
    }
    remove_others(place, files)
}

/// Keys that left a ConfigMap leave the volume.
fn remove_others(place: &Path, files: &[FileOut]) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let wanted = files.iter().any(|f| f.path.split('/').next() == Some(name.as_str()));
        if !wanted && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn check_segment(name: &str) -> anyhow::Result<()> {
    let fine = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    ensure!(fine, "{name:?} is not a volume's name");
    Ok(())
}

/// `path` below `place`, refusing to leave it.
fn below(place: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let fine = !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    ensure!(fine, "path {path:?} leaves its volume");
    Ok(place.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources<'a>(pod: &'a serde_json::Value, spec: &'a PodSpec) -> Sources<'a> {
        Sources {
            pod,
            spec,
            pod_ips: &[],
            host_ip: "10.244.0.1",
            config_map: &|name| {
                (name == "cm").then(|| BTreeMap::from([("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())]))
            },
            secret: &|_| None,
        }
    }

    #[test]
    fn volumes_hold_what_their_sources_say() {
        let spec: PodSpec =
            serde_json::from_value(serde_json::json!({"volumes": [{"name": "v", "projected": {"sources": [
            {"configMap": {"name": "cm", "items": [{"key": "b", "path": "sub/b"}]}},
            {"secret": {"name": "absent", "optional": true}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"serviceAccountToken": {"path": "token", "audience": "x"}},
        ]}}, {"name": "w", "configMap": {"name": "absent"}}]}))
            .unwrap();
        let pod = serde_json::json!({"metadata": {"name": "p"}});
        let mut tokens = Tokens::new();
        let signed = std::cell::Cell::new(0);
        let sign = |audience: &str, _: Option<u64>| {
            signed.set(signed.get() + 1);
            Ok((format!("{audience}{}", signed.get()), Duration::from_secs(60)))
        };
        for _ in 0..2 {
            let out = files(&spec.volumes[0], &sources(&pod, &spec), &mut tokens, &sign).unwrap().unwrap();
            let out: Vec<_> = out.iter().map(|f| (f.path.as_str(), f.content.as_slice(), f.private)).collect();
            assert_eq!(out, [("sub/b", &b"2"[..], false), ("name", b"p", false), ("token", b"x1", true)]);
        }
        let why = files(&spec.volumes[1], &sources(&pod, &spec), &mut tokens, &sign).unwrap_err();
        assert_eq!(why.to_string(), "ConfigMap \"absent\" does not exist");
    }

    #[test]
    fn paths_stay_in_their_volume() {
        for bad in ["../x", "/x", "", "a/../../x"] {
            assert!(below(Path::new("/v"), bad).is_err(), "{bad:?}");
        }
        assert_eq!(below(Path::new("/v"), "a/b").unwrap(), Path::new("/v/a/b"));
    }

    #[test]
    fn files_are_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str, content: &str| FileOut {
            path: path.into(),
            content: content.into(),
            mode: 0o640,
            private: false,
        };
        put(dir.path(), &[file("a", "1"), file("b", "1")], None, None).unwrap();
        put(dir.path(), &[file("a", "2")], None, None).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "2");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
