//! Many requests over kept-alive connections, and what became of each: nothing that is lost stays unseen.
//!
//! A request is sent once. Only when hyper hands it back as certainly unsent (the kept connection had ended) is it
//! sent on a new connection; anything else that has no answer is counted as an error, by kind.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Uri};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::{Failure, target};
use crate::http_client::{Answer, Connection, Plan, parse_header, read, timed_out};
use crate::reply::full;

/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
/// Different values of a field, and different errors, that are counted by name; the rest is "other".
const NAMES_MAX: usize = 64;
/// Latencies kept for the percentiles; beyond it only every further request's count matters.
const LATENCIES_MAX: usize = 1_000_000;
/// Workers that may be asked for.
const CONCURRENCY_MAX: u32 = 1024;

/// Options of `load`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0 when every request was answered with an accepted status, else 1.")]
pub(crate) struct Args {
    /// http://HOST:PORT/PATH; port 80 if none is named
    url: Uri,
    /// How many requests (with --seconds: at most)
    #[arg(short = 'n', long)]
    requests: Option<u64>,
    /// Run for so many seconds
    #[arg(short, long)]
    seconds: Option<f64>,
    /// Requests in flight, each worker on its own connection
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    concurrency: u32,
    /// Requests per second over all workers; without it as fast as answers come
    #[arg(short, long)]
    rate: Option<f64>,
    /// A header, 'name: value'; may be given several times
    #[arg(short = 'H', long = "header", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The method; POST when there is data
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// The body
    #[arg(short, long)]
    data: Option<String>,
    /// Count the answers by this field of their JSON body
    #[arg(long)]
    body_field: Option<String>,
    /// Statuses that are accepted, separated by commas; without it all below 400
    #[arg(long, value_delimiter = ',')]
    accept: Vec<u16>,
    /// Speak HTTP/2 without TLS (prior knowledge)
    #[arg(long)]
    http2: bool,
    /// A new connection for every request
    #[arg(long)]
    no_keepalive: bool,
    /// Milliseconds for one request
    #[arg(long, default_value_t = 10_000)]
    timeout_ms: u64,
}

/// The requests when neither a number nor a time is given.
const REQUESTS: u64 = 100;

/// What all workers share.
struct Work {
    plan: Plan,
    body_field: Option<String>,
    accept: Vec<u16>,
    keepalive: bool,
    time_max: Duration,
    requests: u64,
    begin: Instant,
    end: Option<Instant>,
    /// Time between two requests.
    pace: Option<Duration>,
    next: AtomicU64,
    stop: CancellationToken,
}

/// What became of the requests.
#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    accepted: u64,
    status: BTreeMap<u16, u64>,
    fields: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    connections: u64,
    latencies: Vec<Duration>,
}

/// The JSON that is printed.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    requests: u64,
    accepted: u64,
    lost: u64,
    status: BTreeMap<u16, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    connections: u64,
    seconds: f64,
    requests_per_second: f64,
    latency_ms: BTreeMap<&'static str, f64>,
}

/// Makes the requests and prints what became of them; told to stop, it prints what it has.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    target(&args.url)?;
    let concurrency = args.concurrency;
    let work = Arc::new(work(args, stop)?);
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let work = work.clone();
        workers.spawn(async move { work.run().await });
    }
    let mut counts = Counts::default();
    while let Some(worker) = workers.join_next().await {
        counts.add(worker?);
    }
    let report = counts.report(work.begin.elapsed());
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn work(args: Args, stop: CancellationToken) -> anyhow::Result<Work> {
    let positive = |name: &str, number: Option<f64>| match number {
        Some(number) if !(number > 0.0 && number < 1e9) => anyhow::bail!("--{name} takes a positive number"),
        other => Ok(other),
    };
    let (seconds, rate) = (positive("seconds", args.seconds)?, positive("rate", args.rate)?);
    let method = args.method.unwrap_or(if args.data.is_some() { Method::POST } else { Method::GET });
    let begin = Instant::now();
    Ok(Work {
        plan: Plan {
            url: args.url,
            method,
            headers: args.headers.into_iter().collect(),
            body: Bytes::from(args.data.unwrap_or_default()),
            http2: args.http2,
        },
        body_field: args.body_field,
        accept: args.accept,
        keepalive: !args.no_keepalive,
        time_max: Duration::from_millis(args.timeout_ms),
        requests: args.requests.unwrap_or(if seconds.is_some() { u64::MAX } else { REQUESTS }),
        begin,
        end: seconds.map(|seconds| begin + Duration::from_secs_f64(seconds)),
        pace: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
        next: AtomicU64::new(0),
        stop,
    })
}

impl Work {
    /// One worker: requests one after another on its own connection, until there are none left.
    async fn run(&self) -> Counts {
        let mut counts = Counts::default();
        let mut connection = None;
        while self.turn().await {
            counts.sent += 1;
            let begin = Instant::now();
            let exchange = timeout(self.time_max, self.exchange(&mut connection, &mut counts.connections)).await;
            let result = exchange.unwrap_or_else(|_| Err(timed_out(&self.plan.url, self.time_max)));
            if result.is_err() || !self.keepalive {
                connection = None;
            }
            self.count(&mut counts, result, begin.elapsed());
        }
        counts
    }

    /// Waits for the next request's time; false when there is none.
    async fn turn(&self) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let over = || self.stop.is_cancelled() || self.end.is_some_and(|end| Instant::now() >= end);
        if number >= self.requests || over() {
            return false;
        }
        if let Some(pace) = self.pace {
            let due = self.begin + pace.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = self.stop.cancelled() => {}
            }
        }
        !over()
    }

    async fn exchange(&self, kept: &mut Option<Connection>, opened: &mut u64) -> Result<Answer, Failure> {
        let mut request = self.plan.request(full(self.plan.body.clone()));
        loop {
            let (mut connection, fresh) = match kept.take() {
                Some(connection) => (connection, false),
                None => {
                    *opened += 1;
                    (Connection::open(&self.plan.url, self.plan.http2).await?, true)
                }
            };
            if !connection.ready().await && !fresh {
                continue;
            }
            match connection.send(request).await {
                Ok(response) => {
                    let answer = read(response, ANSWER_MAX).await?;
                    *kept = Some(connection);
                    return Ok(answer);
                }
                Err((_, Some(unsent))) if !fresh => request = *unsent,
                Err((failure, _)) => return Err(failure),
            }
        }
    }

    fn count(&self, counts: &mut Counts, result: Result<Answer, Failure>, latency: Duration) {
        match result {
            Ok(answer) => {
                let status = answer.status.as_u16();
                *counts.status.entry(status).or_default() += 1;
                let accepted = if self.accept.is_empty() { status < 400 } else { self.accept.contains(&status) };
                counts.accepted += u64::from(accepted);
                if let Some(field) = &self.body_field {
                    name(&mut counts.fields, field_of(&answer.body, field));
                }
                if counts.latencies.len() < LATENCIES_MAX {
                    counts.latencies.push(latency);
                }
            }
            Err(failure) => name(&mut counts.errors, failure.to_string()),
        }
    }
}

/// A field of a JSON body as text; what has no such field is `-`.
fn field_of(body: &[u8], field: &str) -> String {
    let value = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    match &value[field] {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Counts one of `key`, under "other" when there are too many names already.
fn name(counts: &mut BTreeMap<String, u64>, key: String) {
    let key = if counts.len() >= NAMES_MAX && !counts.contains_key(&key) { "other".to_owned() } else { key };
    *counts.entry(key).or_default() += 1;
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.connections += other.connections;
        self.latencies.extend(other.latencies);
        for (status, count) in other.status {
            *self.status.entry(status).or_default() += count;
        }
        for (mine, theirs) in [(&mut self.fields, other.fields), (&mut self.errors, other.errors)] {
            for (key, count) in theirs {
                *mine.entry(key).or_default() += count;
            }
        }
    }

    fn report(mut self, elapsed: Duration) -> Report {
        self.latencies.sort_unstable();
        let at = |part: f64| {
            let last = self.latencies.len().saturating_sub(1);
            let latency = self.latencies.get((last as f64 * part).round() as usize).copied().unwrap_or_default();
            (latency.as_secs_f64() * 1e6).round() / 1e3
        };
        Report {
            ok: self.sent > 0 && self.accepted == self.sent,
            requests: self.sent,
            accepted: self.accepted,
            lost: self.sent - self.status.values().sum::<u64>(),
            latency_ms: BTreeMap::from([("p50", at(0.5)), ("p90", at(0.9)), ("p99", at(0.99)), ("max", at(1.0))]),
            status: self.status,
            fields: self.fields,
            errors: self.errors,
            connections: self.connections,
            seconds: elapsed.as_secs_f64(),
            requests_per_second: (self.sent as f64 / elapsed.as_secs_f64()).round(),
        }
    }
}

#[cfg(test)]
mod tests;
