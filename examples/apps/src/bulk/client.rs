//! The client of large transfers.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pattern::{Check, Content, ContentBody, Verdict};
use super::server::BUFFER;
use crate::client::host_port;
use crate::http_client::{Connection, Plan, describe, read};
use crate::net::resolve::connect;
use crate::reply::{Body, full};

/// Bytes of the server's verdict.
const VERDICT_MAX: usize = 4096;

/// Options of `bulk-client`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0 when every byte arrived as it was sent, else 1.")]
pub(crate) struct Args {
    /// What to speak
    #[arg(value_enum)]
    protocol: Protocol,
    /// HOST:PORT of bulk-server's port for that protocol
    address: String,
    /// Bytes to transfer: a number, also with K, M or G (powers of 1024)
    #[arg(long, default_value = "64M", value_parser = parse_bytes)]
    bytes: u64,
    /// Which way
    #[arg(long, value_enum, default_value = "both")]
    direction: Direction,
    /// HTTP: do not say the length beforehand
    #[arg(long)]
    chunked: bool,
    /// Seconds for one transfer
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

/// What carries the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Tcp,
    Http,
    /// HTTP/2 without TLS
    Http2,
}

/// Which way the bytes go, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Down,
    Up,
    Both,
}

/// The JSON that is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ok: bool,
    pub(super) transfers: Vec<Transfer>,
    /// The most memory that this process had at any time, in KiB.
    peak_memory_kib: Option<u64>,
}

/// What became of one transfer.
#[derive(Debug, Serialize)]
pub(super) struct Transfer {
    direction: Direction,
    ok: bool,
    seconds: f64,
    mebibytes_per_second: f64,
    #[serde(flatten)]
    verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Makes the transfers and prints the report.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = transfers(args).await?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn transfers(args: Args) -> anyhow::Result<Report> {
    let (host, port) = host_port(&args.address)?;
    let directions = match args.direction {
        Direction::Both => vec![Direction::Down, Direction::Up],
        one => vec![one],
    };
    let mut transfers = Vec::new();
    for direction in directions {
        let begin = Instant::now();
        let transfer = async {
            match (args.protocol, direction) {
                (Protocol::Tcp, Direction::Up) => tcp_up(&host, port, args.bytes).await,
                (Protocol::Tcp, _) => tcp_down(&host, port, args.bytes).await,
                (_, Direction::Up) => http_up(&args).await,
                (..) => http_down(&args).await,
            }
        };
        let limit = Duration::from_secs(args.timeout);
        let result = tokio::time::timeout(limit, transfer).await;
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("not finished in {limit:?}")));
        let seconds = begin.elapsed().as_secs_f64();
        let (verdict, error) = match result {
            Ok(verdict) => {
                let error = wrong(&verdict, args.bytes);
                (Some(verdict), error)
            }
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        transfers.push(Transfer {
            direction,
            ok: error.is_none(),
            seconds,
            mebibytes_per_second: (args.bytes as f64 / (1 << 20) as f64 / seconds).round(),
            verdict,
            error,
        });
    }
    Ok(Report { ok: transfers.iter().all(|transfer| transfer.ok), transfers, peak_memory_kib: peak_memory_kib() })
}

/// What is wrong with what arrived; `None` when nothing is.
fn wrong(verdict: &Verdict, bytes: u64) -> Option<String> {
    if let Some(place) = verdict.first_wrong {
        return Some(format!("byte {place} is not what was sent"));
    }
    (verdict.bytes != bytes).then(|| format!("{} of {bytes} bytes arrived", verdict.bytes))
}

async fn tcp_down(host: &str, port: u16, bytes: u64) -> anyhow::Result<Verdict> {
    let mut stream = connect(host, port).await?;
    stream.write_all(format!("GET {bytes}\n").as_bytes()).await?;
    let mut check = Check::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = stream.read(&mut buffer).await.context("reading")?;
        if read == 0 {
            return Ok(check.verdict());
        }
        check.add(&buffer[..read]);
    }
}

async fn tcp_up(host: &str, port: u16, bytes: u64) -> anyhow::Result<Verdict> {
    let mut stream = connect(host, port).await?;
    stream.write_all(format!("PUT {bytes}\n").as_bytes()).await?;
    let mut content = Content::new(bytes);
    while let Some(piece) = content.next() {
        stream.write_all(&piece).await.context("writing")?;
    }
    stream.shutdown().await.context("closing our side")?;
    let mut answer = Vec::new();
    stream.take(VERDICT_MAX as u64).read_to_end(&mut answer).await.context("reading the verdict")?;
    same_sum(serde_json::from_slice(&answer).context("the server's verdict")?, &content.checksum())
}

async fn http_down(args: &Args) -> anyhow::Result<Verdict> {
    let query = if args.chunked { "?chunked" } else { "" };
    let mut plan = Plan::get(format!("http://{}/bulk/{}{query}", args.address, args.bytes).parse()?);
    plan.http2 = args.protocol == Protocol::Http2;
    let mut connection = Connection::open(&plan.url, plan.http2).await?;
    let response = connection.send(plan.request(full(""))).await.map_err(|(failure, _)| failure)?;
    ensure!(response.status() == StatusCode::OK, "answered {}", response.status());
    let mut body = response.into_body();
    let mut check = Check::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| anyhow::anyhow!("the body broke off: {}", describe(&error)))?;
        check.add(frame.data_ref().map_or(&[][..], |data| data));
    }
    Ok(check.verdict())
}

async fn http_up(args: &Args) -> anyhow::Result<Verdict> {
    let mut plan = Plan::get(format!("http://{}/bulk", args.address).parse()?);
    plan.http2 = args.protocol == Protocol::Http2;
    plan.method = Method::POST;
    let body: Body = ContentBody { content: Content::new(args.bytes), says_length: !args.chunked }.boxed_unsync();
    let mut connection = Connection::open(&plan.url, plan.http2).await?;
    let response = connection.send(plan.request(body)).await.map_err(|(failure, _)| failure)?;
    let answer = read(response, VERDICT_MAX).await?;
    ensure!(answer.status == StatusCode::OK, "answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    let mut sent = Content::new(args.bytes);
    while sent.next().is_some() {}
    same_sum(serde_json::from_slice(&answer.body).context("the server's verdict")?, &sent.checksum())
}

fn same_sum(verdict: Verdict, sent: &str) -> anyhow::Result<Verdict> {
    ensure!(verdict.checksum == sent, "the checksum of what was sent is {sent}; the server says {verdict:?}");
    Ok(verdict)
}

fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number, also with K, M or G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too many bytes".to_owned())
}
