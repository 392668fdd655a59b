//! The supervisor's Unix socket: one request and one answer per connection. Only root can open it.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use super::{Agent, findings, mesh, publish, run, view};
use crate::images::Images;
use crate::objects::kinds::{self, Role};
use crate::objects::manifest::{self, Key};
use crate::paths::{PodDir, StateDir};
use crate::protocol::{Applied, ContainerInfo, FileText, HttpAnswer, LINE_BYTES_MAX, PodInfo, Reply, Request};

/// How long a GET inside a pod may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer of a GET inside a pod, in bytes.
const HTTP_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// mesh-control's API, on its pod's loopback address.
const CONTROL_API: u16 = 15016;

/// Opens the socket.
pub(crate) fn listen(dir: &StateDir) -> anyhow::Result<UnixListener> {
    // Under another name first, so that whoever sees the socket can already use it.
    let (path, fresh) = (dir.socket(), dir.root().join(".agent.sock.new"));
    let listener = UnixListener::bind(&fresh).with_context(|| format!("cannot listen on {}", fresh.display()))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, &path)?;
    Ok(listener)
}

/// Answers requests until the supervisor ends.
pub(crate) async fn serve(agent: &Arc<Agent>, listener: &UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(agent.clone(), stream))),
            Err(err) => {
                tracing::warn!(%err, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(agent: Arc<Agent>, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    if BufReader::new(read).take(LINE_BYTES_MAX).read_line(&mut line).await.is_err() {
        return; // whoever asked has gone
    }
    let asked = serde_json::from_str::<Request>(&line).context("this is not a request that this version knows");
    let down = matches!(asked, Ok(Request::Down { .. }));
    let reply = match asked {
        Ok(request) => answer(&agent, request).await,
        Err(why) => Err(why),
    };
    let reply = match reply {
        Ok(value) => Reply::Ok(value),
        Err(why) => Reply::Error(format!("{why:#}")),
    };
    if let Ok(mut text) = serde_json::to_vec(&reply) {
        text.push(b'\n');
        // An error means that nobody waits for the answer any more.
        let _ = write.write_all(&text).await;
    }
    if down {
        agent.ending.send_replace(true);
    }
}

async fn answer(agent: &Arc<Agent>, request: Request) -> anyhow::Result<Value> {
    match request {
        Request::Status { full } => {
            let mut status = view::status(agent.dir.name(), agent.switch.thread, &agent.world());
            if full && status.mesh {
                // A control plane that does not answer is seen in the list of pods.
                let entries = findings::entries(agent).await.unwrap_or_default();
                status.findings = entries.values().flat_map(findings::of_entry).collect();
            }
            json(&status)
        }
        Request::Apply { files, namespace, images } => {
            let before = findings::entries(agent).await.ok();
            let (mut applied, changed) = apply(agent, &files, &namespace, images.as_deref())?;
            agent.settle().await;
            if let Some(before) = before.filter(|_| !changed.is_empty()) {
                applied.findings = findings::after_change(agent, &before, &changed).await;
            }
            json(&applied)
        }
        Request::Delete { files, namespace, names, grace } => {
            let applied = delete(agent, &files, &namespace, &names, grace)?;
            agent.settle().await;
            json(&applied)
        }
        Request::Settle => {
            agent.settle().await;
            json(&())
        }
        Request::Get { kind, namespace, name } => get(agent, &kind, namespace.as_deref(), name.as_deref()).await,
        Request::Pod { namespace, name } => json(&pod(agent, namespace.as_deref(), &name)?),
        Request::Publish(published) => json(&publish::publish(agent, published).await?),
        Request::HttpGet { namespace, pod, port, path } => {
            json(&http_get(agent, namespace.as_deref(), &pod, port, &path).await?)
        }
        Request::Down { grace } => json(&run::end_pods(agent, grace).await),
    }
}

fn json(value: &impl Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(value)?)
}

fn parse(files: &[FileText], namespace: &str, applied: &mut Applied) -> Vec<manifest::Object> {
    let mut out = Vec::new();
    for file in files {
        let (objects, mistakes) = manifest::parse(&file.path, &file.text, namespace);
        out.extend(objects);
        applied.mistakes.extend(mistakes);
    }
    out
}

/// Applies manifests; also returns the mesh resources that changed.
fn apply(
    agent: &Agent,
    files: &[FileText],
    namespace: &str,
    images: Option<&str>,
) -> anyhow::Result<(Applied, Vec<Key>)> {
    let mut applied = Applied::default();
    let mut changed = Vec::new();
    let objects = parse(files, namespace, &mut applied);
    let images = images.map(Images::parse).transpose().map_err(|why| anyhow::anyhow!("images.yaml: {why}"))?;
    {
        let mut world = agent.world();
        if let Some(images) = images {
            world.images = images;
        }
        if world.objects.len() + objects.len() > super::world::OBJECTS_MAX {
            bail!("a sandbox holds at most {} objects", super::world::OBJECTS_MAX);
        }
        for object in objects {
            let key = object.key.clone();
            let role = kinds::role(object.value["apiVersion"].as_str().unwrap_or_default(), &key.kind);
            if role == Role::Ignored {
                applied.warnings.push(format!("{key}: nothing here acts on the kind {}", key.kind));
            }
            let done = world.apply(object);
            if role == Role::Mesh && done != "unchanged" {
                changed.push(key.clone());
            }
            applied.done.push((key.to_string(), done.to_owned()));
        }
    }
    agent.objects_changed();
    agent.ring();
    Ok((applied, changed))
}

fn delete(
    agent: &Agent,
    files: &[FileText],
    namespace: &str,
    names: &[String],
    grace: Option<u64>,
) -> anyhow::Result<Applied> {
    let mut applied = Applied::default();
    let mut keys: Vec<Key> = parse(files, namespace, &mut applied).into_iter().map(|o| o.key).collect();
    let mut world = agent.world();
    for name in names {
        let (kind, name) = name.split_once('/').context("write what to delete as KIND/NAME")?;
        let of = |k: &&Key| {
            kinds::matches(kind, &k.kind) && k.name == name && (k.namespace.is_empty() || k.namespace == namespace)
        };
        let found = world.objects.keys().find(of).cloned();
        if found.is_none() && kinds::matches(kind, "Pod") {
            // A Deployment's pod: it is replaced by another one.
            let uid = world.find_pod(Some(namespace), name).map_err(|why| anyhow::anyhow!(why))?;
            if let Some(pod) = world.pods.get_mut(&uid) {
                pod.terminate(grace);
                applied.done.push((format!("pod/{}", pod.name), "deleted".into()));
            }
            continue;
        }
        keys.push(found.with_context(|| format!("there is no {kind} {name:?} in namespace {namespace}"))?);
    }
    for key in keys {
        if key.kind == "Pod"
            && let Some(grace) = grace
            && let Some(pod) = world
                .pods
                .values_mut()
                .find(|p| p.owner.is_none() && p.namespace == key.namespace && p.name == key.name)
        {
            pod.terminate(Some(grace));
        }
        let there = world.delete(&key);
        applied.done.push((key.to_string(), if there { "deleted" } else { "not found" }.to_owned()));
    }
    drop(world);
    agent.objects_changed();
    agent.ring();
    Ok(applied)
}

/// Objects, and for the mesh's kinds what mesh-control says about each.
async fn get(agent: &Agent, kind: &str, namespace: Option<&str>, name: Option<&str>) -> anyhow::Result<Value> {
    let (mut shown, mesh) = {
        let world = agent.world();
        let known = kinds::known().any(|known| kinds::matches(kind, known));
        if !known && !world.objects.keys().any(|key| kinds::matches(kind, &key.kind)) {
            let known: Vec<&str> = kinds::known().collect();
            bail!(
                "there is no kind {kind:?}, and no object of such a kind was applied; known are {}",
                known.join(", ")
            );
        }
        (view::get(&world, kind, namespace, name), world.mesh)
    };
    let of_mesh = |s: &crate::protocol::Shown| {
        let word = |f: &str| s.object[f].as_str().unwrap_or_default();
        kinds::role(word("apiVersion"), word("kind")) == Role::Mesh
    };
    if mesh && shown.iter().any(of_mesh) {
        // Without an answer the objects are shown without a status; `status` says that the control plane is not ready.
        let entries = findings::entries(agent).await.unwrap_or_default();
        for item in shown.iter_mut().filter(|s| of_mesh(s)) {
            let meta = &item.object["metadata"];
            let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let key = (word(&item.object["kind"]), word(&meta["namespace"]), word(&meta["name"]));
            item.mesh = entries.get(&key).cloned();
        }
    }
    json(&shown)
}

/// A GET of mesh-control's API.
pub(crate) async fn control_get(agent: &Agent, path: &str) -> anyhow::Result<Value> {
    let answer = http_get(agent, Some(mesh::NAMESPACE), mesh::CONTROL, CONTROL_API, path).await?;
    anyhow::ensure!(answer.code == 200, "mesh-control answered {} to {path}", answer.code);
    serde_json::from_str(&answer.body).context("mesh-control's answer is not JSON")
}

fn pod(agent: &Agent, namespace: Option<&str>, name: &str) -> anyhow::Result<PodInfo> {
    let world = agent.world();
    let uid = world.find_pod(namespace, name).map_err(|why| anyhow::anyhow!(why))?;
    let pod = world.pods.get(&uid).context("the pod has ended")?;
    let dir = agent.dir.pod(&uid);
    let mut containers = pod.status.containers.clone();
    containers.sort_by_key(|c| c.init);
    let info = |c: &crate::pod::status::ContainerStatus| ContainerInfo {
        name: c.name.clone(),
        pid: c.pid,
        spec: PodDir::through(pod.status.pid.unwrap_or(0), &dir.container(&c.name)).display().to_string(),
        log: dir.log(&c.name).display().to_string(),
    };
    Ok(PodInfo {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        address: pod.status.addresses.first().map(ToString::to_string).unwrap_or_default(),
        pid: pod.status.pid,
        containers: containers.iter().map(info).collect(),
    })
}

async fn http_get(
    agent: &Agent,
    namespace: Option<&str>,
    pod: &str,
    port: u16,
    path: &str,
) -> anyhow::Result<HttpAnswer> {
    let (netns, name) = {
        let world = agent.world();
        let uid = world.find_pod(namespace, pod).map_err(|why| anyhow::anyhow!(why))?;
        let pod = world.pods.get(&uid).context("the pod has ended")?;
        (pod.netns.clone().context("the pod does not run yet")?, pod.name.clone())
    };
    anyhow::ensure!(!path.contains(|c: char| c.is_whitespace() || c.is_control()), "{path:?} is not a path");
    // Only the socket has to be made inside; connecting and reading happen here.
    let socket = netns.run(|| Ok(tokio::net::TcpSocket::new_v4()?)).await?;
    let work = async {
        let mut stream: TcpStream = socket
            .connect((std::net::Ipv4Addr::LOCALHOST, port).into())
            .await
            .with_context(|| format!("nothing answers on 127.0.0.1:{port} of pod {name}"))?;
        let head = format!("GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\nAccept: */*\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(HTTP_BYTES_MAX).read_to_end(&mut bytes).await?;
        split_answer(&bytes)
    };
    tokio::time::timeout(HTTP_TIMEOUT, work)
        .await
        .with_context(|| format!("no answer from pod {name} in {} s", HTTP_TIMEOUT.as_secs()))?
}

/// Takes an HTTP/1 answer that ended with its connection apart, chunked or not.
fn split_answer(bytes: &[u8]) -> anyhow::Result<HttpAnswer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").context("the answer has no end of head")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let code = head.split(' ').nth(1).and_then(|c| c.parse().ok()).context("the answer has no status")?;
    let body = &bytes[end + 4..];
    let body = if head.contains("\r\ntransfer-encoding: chunked") { unchunk(body)? } else { body.to_vec() };
    Ok(HttpAnswer { code, body: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunk(mut body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n").context("a chunk's size is cut off")?;
        let size = String::from_utf8_lossy(&body[..end]);
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .context("a chunk has no size")?;
        let rest = &body[end + 2..];
        if size == 0 {
            return Ok(out);
        }
        out.extend_from_slice(rest.get(..size).context("a chunk is cut off")?);
        body = rest.get(size + 2..).context("a chunk is cut off")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let plain = split_answer(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody").unwrap();
        assert_eq!((plain.code, plain.body.as_str()), (200, "body"));
        let chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3;x\r\ncde\r\n0\r\n\r\n";
        let chunked = split_answer(chunked).unwrap();
        assert_eq!((chunked.code, chunked.body.as_str()), (404, "abcde"));
    }
}
