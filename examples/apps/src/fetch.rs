//! A small curl: one request, its answer as JSON (or as text).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Failure, Kind, host_port};
use crate::echo::by_name;
use crate::http_client::{Answer, Plan, call, parse_header, timed_out};
use crate::net::resolve::connect;

/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
/// The exit code for an answer of 400 and above, as curl's `--fail` has it.
const REFUSED: u8 = 22;

/// Options of `fetch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 answered below 400, 22 answered 400 or above, 1 no answer (the JSON has `error`)."
)]
pub(crate) struct Args {
    /// http://HOST:PORT/PATH (port 80 if none is named), or tcp://HOST:PORT to send DATA, close our side and read to the end
    url: Uri,
    /// A header, 'name: value'; may be given several times
    #[arg(short = 'H', long = "header", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The method; POST when there is data
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// The body
    #[arg(short, long)]
    data: Option<String>,
    /// Speak HTTP/2 without TLS (prior knowledge)
    #[arg(long)]
    http2: bool,
    /// Milliseconds for all of it
    #[arg(long, default_value_t = 10_000)]
    timeout_ms: u64,
    /// Print status line, headers and body as text, not JSON
    #[arg(short = 'i', long)]
    text: bool,
    /// Exit with 0 whatever the status is
    #[arg(long)]
    any_status: bool,
}

/// What came back.
#[derive(Debug, Default, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    trailers: BTreeMap<String, String>,
    body: String,
    milliseconds: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

/// Makes the request and prints what came back.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let time_max = Duration::from_millis(args.timeout_ms);
    let begin = Instant::now();
    let result = if args.url.scheme_str() == Some("tcp") {
        let address = args.url.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let (host, port) = host_port(address)?;
        let exchange = exchange_bytes(&host, port, args.data.as_deref().unwrap_or_default());
        let bytes = tokio::time::timeout(time_max, exchange).await;
        bytes.unwrap_or_else(|_| Err(timed_out(&args.url, time_max))).map(Report::of_bytes)
    } else {
        crate::client::target(&args.url)?;
        let method = args.method.unwrap_or(if args.data.is_some() { Method::POST } else { Method::GET });
        let body = Bytes::from(args.data.unwrap_or_default());
        let headers: HeaderMap = args.headers.into_iter().collect();
        let plan = Plan { url: args.url, method, headers, body, http2: args.http2 };
        call(&plan, ANSWER_MAX, time_max).await.map(Report::of_answer)
    };
    let mut report = result.unwrap_or_else(|failure| Report { error: Some(failure), ..Report::default() });
    report.milliseconds = begin.elapsed().as_millis();

    if args.text {
        report.print_text();
    } else {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(match report.status {
        _ if report.error.is_some() => ExitCode::FAILURE,
        Some(status) if status >= 400 && !args.any_status => ExitCode::from(REFUSED),
        _ => ExitCode::SUCCESS,
    })
}

/// Sends `data`, closes our side, and reads what the other side has to say.
async fn exchange_bytes(host: &str, port: u16, data: &str) -> Result<Vec<u8>, Failure> {
    let mut stream = connect(host, port).await?;
    let failed = |error: std::io::Error| Failure::new(Kind::Exchange, format!("{host} port {port}: {error}"));
    stream.write_all(data.as_bytes()).await.map_err(failed)?;
    stream.shutdown().await.map_err(failed)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX as u64).read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes)
}

impl Report {
    fn of_bytes(bytes: Vec<u8>) -> Report {
        Report { body: String::from_utf8_lossy(&bytes).into_owned(), ..Report::default() }
    }

    fn of_answer(answer: Answer) -> Report {
        Report {
            status: Some(answer.status.as_u16()),
            protocol: Some(format!("{:?}", answer.version)),
            headers: by_name(&answer.headers),
            trailers: by_name(&answer.trailers),
            body: String::from_utf8_lossy(&answer.body).into_owned(),
            ..Report::default()
        }
    }

    fn print_text(&self) {
        if let Some(failure) = &self.error {
            println!("{failure}");
            return;
        }
        if let (Some(protocol), Some(status)) = (&self.protocol, self.status) {
            println!("{protocol} {status}");
            self.headers.iter().for_each(|(name, value)| println!("{name}: {value}"));
            println!();
        }
        println!("{}", self.body);
        self.trailers.iter().for_each(|(name, value)| println!("{name}: {value}"));
    }
}
