//! Asking a container how it is, and running its hooks.
//!
//! Network probes are sent from the switch's namespace, where the kubelet of a real node would be: they reach the pod
//! from outside and meet the mesh's capture like a kubelet's.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::context::PodContext;
use super::process;
use crate::objects::spec::{Action, Container, HttpGet};

/// The most of an HTTP answer that is read, in bytes; the status line is all that counts.
const ANSWER_BYTES_MAX: usize = 1024;

/// Runs a probe's or hook's action against a container whose main process is `pid`; the error says what was wrong.
pub(crate) async fn act(
    cx: &PodContext,
    container: &Container,
    pid: u32,
    action: &Action,
    limit: Duration,
) -> anyhow::Result<()> {
    if let Some(exec) = &action.exec {
        let spec = crate::paths::PodDir::through(cx.pid, &cx.dir.container(&container.name));
        let (code, said) = process::exec(pid, &spec, &exec.command, limit).await?;
        ensure!(code == 0, "{:?} ended with code {code}: {said}", exec.command.join(" "));
        return Ok(());
    }
    if let Some(sleep) = &action.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
        return Ok(());
    }
    let (port, host, http) = match action {
        Action { http_get: Some(http), .. } => (&http.port, http.host.as_deref(), Some(http.clone())),
        Action { tcp_socket: Some(tcp), .. } => (&tcp.port, tcp.host.as_deref(), None),
        Action { grpc: Some(grpc), .. } => (&grpc.port, None, None),
        _ => bail!("it has none of exec, httpGet, tcpSocket, grpc"),
    };
    let number = container.port(port).with_context(|| format!("port {port} is not a port of the container"))?;
    let host = match host {
        Some(host) => host.parse().with_context(|| format!("host {host:?} is not an address"))?,
        None => *cx.addresses.first().context("the pod has no address")?,
    };
    let address = SocketAddr::new(host, number);
    // On the switch's own runtime, so that the socket is made in its namespace.
    let asked = cx.agent.switch.runtime.spawn(async move { tokio::time::timeout(limit, ask(address, http)).await });
    match asked.await? {
        Ok(done) => done,
        Err(_) => bail!("no answer from {address} in {} s", limit.as_secs()),
    }
}

async fn ask(address: SocketAddr, http: Option<HttpGet>) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let Some(http) = http.filter(|h| h.scheme.as_deref() != Some("HTTPS")) else { return Ok(()) };
    let path = http.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!("GET {slash}{path} HTTP/1.1\r\n");
    let given = |name: &str| http.http_headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    for (name, value) in
        [("Host", address.to_string().as_str()), ("User-Agent", "kube-probe/sandbox"), ("Accept", "*/*")]
    {
        if !given(name) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for header in &http.http_headers {
        let clean = !format!("{}{}", header.name, header.value).contains(['\r', '\n']);
        ensure!(clean, "httpHeaders {:?} contains a line end", header.name);
        head.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; ANSWER_BYTES_MAX];
    while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
        let length = stream.read(&mut buffer).await?;
        ensure!(length > 0, "{address}{path} closed the connection without an answer");
        answer.extend_from_slice(&buffer[..length]);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    let code: u16 =
        line.split(' ').nth(1).and_then(|c| c.parse().ok()).with_context(|| format!("{line:?} is no HTTP answer"))?;
    ensure!((200..400).contains(&code), "GET {path} on port {} answered {code}", address.port());
    Ok(())
}
