//! The gRPC client: each shape once, every answer checked, the result as JSON.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::frame::{Broken, Messages, encode};
use super::{COUNT, PAUSE, RECEIVED, SERVICE, STATUS};
use crate::client::host_port;
use crate::http_client::{Connection, Plan, parse_header, read};
use crate::reply::{BodyError, full};

/// Messages of ours that wait for a slow server.
const MESSAGES_WAITING: usize = 4;
/// How long the server may take to notice a cancelled stream.
const NOTICE_MAX: Duration = Duration::from_secs(5);
/// Time between two looks at the server's counter.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two pings of a held stream.
const PING: Duration = Duration::from_millis(100);
/// Bytes of the counter's answer.
const COUNTER_MAX: usize = 4096;
/// The code that the status shape asks for: DATA_LOSS.
const STRANGE_CODE: u32 = 15;

/// Options of `grpc-client`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0 when every shape behaved, else 1; `error` of a shape says what did not.")]
pub(crate) struct Args {
    /// HOST:PORT of grpc-echo
    address: String,
    /// What to exercise; may be given several times
    #[arg(long, value_enum, default_value = "all")]
    shape: Vec<Shape>,
    /// Messages per stream
    #[arg(long, default_value_t = 10)]
    count: u64,
    /// Seconds for which `hold` keeps its stream
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seconds for one shape (`hold` has its own on top)
    #[arg(long, default_value_t = 15)]
    timeout: u64,
    /// Metadata, 'name: value'; may be given several times
    #[arg(short = 'H', long = "header", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What can be exercised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// All below but `hold`
    All,
    /// One message each way
    Unary,
    /// One there, many back
    ServerStream,
    /// Many there, one back after our half-close
    ClientStream,
    /// Ping-pong, half-close, trailers
    Bidi,
    /// A status other than OK arrives in the trailers
    Status,
    /// A method that does not exist is answered UNIMPLEMENTED
    Unimplemented,
    /// We cancel; the server notices
    Cancel,
    /// Ping-pong for --seconds on one stream, with the longest gap
    Hold,
}

const ALL: [Shape; 7] = [
    Shape::Unary,
    Shape::ServerStream,
    Shape::ClientStream,
    Shape::Bidi,
    Shape::Status,
    Shape::Unimplemented,
    Shape::Cancel,
];

/// The JSON that is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ok: bool,
    pub(super) shapes: Vec<Outcome>,
}

/// What became of one shape.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    shape: String,
    ok: bool,
    milliseconds: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longest_gap_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Exercises the shapes and prints the report.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = exercise(args).await?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn exercise(args: Args) -> anyhow::Result<Report> {
    host_port(&args.address)?;
    let base = args.address;
    let client = Client { base, headers: args.headers.into_iter().collect(), count: args.count };
    let mut shapes = Vec::new();
    for shape in args.shape.into_iter().flat_map(|shape| if shape == Shape::All { ALL.to_vec() } else { vec![shape] }) {
        let held = Duration::from_secs(args.seconds);
        let begin = Instant::now();
        let limit = Duration::from_secs(args.timeout) + if shape == Shape::Hold { held } else { Duration::ZERO };
        let result = timeout(limit, client.exercise(shape, held)).await;
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("not finished in {limit:?}")));
        let name = shape.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut outcome = Outcome {
            shape: name,
            ok: result.is_ok(),
            milliseconds: begin.elapsed().as_millis(),
            messages: None,
            longest_gap_ms: None,
            error: None,
        };
        match result {
            Ok(seen) => {
                outcome.messages = Some(seen.messages);
                outcome.longest_gap_ms = seen.longest_gap.map(|gap| gap.as_millis());
            }
            Err(error) => outcome.error = Some(format!("{error:#}")),
        }
        shapes.push(outcome);
    }
    Ok(Report { ok: shapes.iter().all(|outcome| outcome.ok), shapes })
}

/// What a shape that behaved has to tell.
struct Seen {
    messages: u64,
    longest_gap: Option<Duration>,
}

/// Who is asked, and how much.
struct Client {
    base: String,
    headers: HeaderMap,
    count: u64,
}

/// A call whose head has been answered. The connection's sender is kept: without it the connection would end.
struct Call {
    connection: Connection,
    requests: Option<Sender<Bytes, BodyError>>,
    answers: Messages,
    head: HeaderMap,
}

impl Client {
    async fn exercise(&self, shape: Shape, held: Duration) -> anyhow::Result<Seen> {
        match shape {
            Shape::All => bail!("all is a list of shapes"),
            Shape::Unary => self.unary().await,
            Shape::ServerStream => self.server_stream().await,
            Shape::ClientStream => self.client_stream().await,
            Shape::Bidi => self.bidi().await,
            Shape::Status => self.status().await,
            Shape::Unimplemented => self.unimplemented().await,
            Shape::Cancel => self.cancel().await,
            Shape::Hold => self.hold(held).await,
        }
        .map(|(messages, longest_gap)| Seen { messages, longest_gap })
    }

    async fn unary(&self) -> Result1 {
        let mut call = self.call("Unary", &[]).await?;
        call.send("hello").await?;
        call.half_close();
        call.expect("hello").await?;
        call.ended(0, Some(1)).await?;
        Ok((1, None))
    }

    async fn server_stream(&self) -> Result1 {
        let count = self.count.to_string();
        let mut call = self.call("ServerStream", &[(COUNT, &count), (PAUSE, "5")]).await?;
        call.send("part").await?;
        call.half_close();
        for number in 0..self.count {
            call.expect(&format!("part-{number}")).await?;
        }
        call.ended(0, Some(1)).await?;
        Ok((self.count, None))
    }

    async fn client_stream(&self) -> Result1 {
        let mut call = self.call("ClientStream", &[]).await?;
        let texts: Vec<_> = (0..self.count).map(|number| format!("m{number}")).collect();
        for text in &texts {
            call.send(text).await?;
        }
        call.half_close();
        call.expect(&texts.join(",")).await?;
        call.ended(0, Some(self.count)).await?;
        Ok((self.count, None))
    }

    /// Each answer is awaited before the next message, so that nothing may be held back on the way.
    async fn bidi(&self) -> Result1 {
        let mut call = self.call("Bidi", &[]).await?;
        for number in 0..self.count {
            let text = format!("ping {number}");
            call.send(&text).await?;
            call.expect(&text).await?;
        }
        call.half_close();
        call.ended(0, Some(self.count)).await?;
        Ok((self.count, None))
    }

    async fn status(&self) -> Result1 {
        let code = STRANGE_CODE.to_string();
        let mut call = self.call("Unary", &[(STATUS, &code)]).await?;
        call.send("hello").await?;
        call.half_close();
        call.expect("hello").await?;
        call.ended(STRANGE_CODE, Some(1)).await?;
        Ok((1, None))
    }

    async fn unimplemented(&self) -> Result1 {
        let mut call = self.call("Missing", &[]).await?;
        call.half_close();
        call.ended(super::code::UNIMPLEMENTED, None).await?;
        Ok((0, None))
    }

    /// Drops a stream in the middle; the server's counter must move within [`NOTICE_MAX`].
    async fn cancel(&self) -> Result1 {
        let mut call = self.call("Bidi", &[]).await?;
        call.send("ping").await?;
        call.expect("ping").await?;
        let Call { mut connection, requests, answers, .. } = call;
        let before = self.cancelled(&mut connection).await?;
        let requests = requests.context("our side is open")?;
        requests.abort(Box::new(h2::Error::from(h2::Reason::CANCEL)));
        drop(answers);
        let latest = Instant::now() + NOTICE_MAX;
        while self.cancelled(&mut connection).await? <= before {
            ensure!(Instant::now() < latest, "the server has not noticed the cancelled stream in {NOTICE_MAX:?}");
            sleep(LOOK).await;
        }
        Ok((1, None))
    }

    async fn hold(&self, held: Duration) -> Result1 {
        let mut call = self.call("Bidi", &[]).await?;
        let (begin, mut last) = (Instant::now(), Instant::now());
        let (mut count, mut longest) = (0, Duration::ZERO);
        while begin.elapsed() < held {
            let text = format!("hold {count}");
            call.send(&text).await?;
            call.expect(&text).await?;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            count += 1;
            sleep(PING).await;
        }
        call.half_close();
        call.ended(0, Some(count)).await?;
        Ok((count, Some(longest)))
    }

    async fn call(&self, method: &str, metadata: &[(&'static str, &str)]) -> anyhow::Result<Call> {
        let mut plan = Plan::get(format!("http://{}{SERVICE}/{method}", self.base).parse()?);
        plan.http2 = true;
        plan.method = Method::POST;
        plan.headers = self.headers.clone();
        plan.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        plan.headers.insert(TE, HeaderValue::from_static("trailers"));
        for (name, value) in metadata {
            plan.headers.insert(*name, HeaderValue::from_str(value)?);
        }
        let mut connection = Connection::open(&plan.url, true).await?;
        let (requests, body) = Channel::new(MESSAGES_WAITING);
        let response = connection.send(plan.request(body.boxed_unsync())).await.map_err(|(failure, _)| failure)?;
        let (head, body) = response.into_parts();
        ensure!(head.status == StatusCode::OK, "HTTP status {} instead of 200 ({:?})", head.status, head.headers);
        let media_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        ensure!(media_type.starts_with(b"application/grpc"), "the answer is not gRPC: {:?}", head.headers);
        Ok(Call { connection, requests: Some(requests), answers: Messages::of(body), head: head.headers })
    }

    /// The server's counter, asked on the connection of the call: another one may lead to another server.
    async fn cancelled(&self, connection: &mut Connection) -> anyhow::Result<u64> {
        let mut plan = Plan::get(format!("http://{}/cancelled", self.base).parse()?);
        plan.http2 = true;
        let response = connection.send(plan.request(full(""))).await.map_err(|(failure, _)| failure)?;
        let counter = read(response, COUNTER_MAX).await?;
        let counter: serde_json::Value = serde_json::from_slice(&counter.body).context("the server's counter")?;
        counter["cancelled"].as_u64().context("the server's counter has no number")
    }
}

/// Messages exchanged, and the longest gap where it was measured.
type Result1 = anyhow::Result<(u64, Option<Duration>)>;

impl Call {
    async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let requests = self.requests.as_mut().context("our side is closed already")?;
        requests.send_data(encode(text)).await.ok().context("the server does not read any more")
    }

    fn half_close(&mut self) {
        self.requests = None;
    }

    async fn expect(&mut self, text: &str) -> anyhow::Result<()> {
        match self.next().await? {
            Some(got) if got == text => Ok(()),
            Some(got) => bail!("got {got:?} instead of {text:?}"),
            None => bail!("the stream ended ({:?}) instead of {text:?}", self.answers.trailers),
        }
    }

    async fn next(&mut self) -> anyhow::Result<Option<String>> {
        self.answers.next().await.map_err(|broken| match broken {
            Broken::Stream(error) => anyhow::anyhow!("the stream broke: {}", crate::http_client::describe(&error)),
            Broken::Message(words) => anyhow::anyhow!("a bad message: {words}"),
        })
    }

    /// Reads the end: no message more, and the trailers' (or, without a body, the head's) status.
    async fn ended(&mut self, code: u32, received: Option<u64>) -> anyhow::Result<()> {
        let more = self.next().await?;
        ensure!(more.is_none(), "got {more:?} instead of the end");
        let end = if self.head.contains_key("grpc-status") { &self.head } else { &self.answers.trailers };
        let number = |name: &str| end.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let got = number("grpc-status").with_context(|| format!("no grpc-status at the end: {end:?}"))?;
        ensure!(got == u64::from(code), "grpc-status {got} instead of {code}: {end:?}");
        if received.is_some() {
            let got = number(RECEIVED);
            ensure!(got == received, "the server got {got:?} messages instead of {received:?}");
        }
        Ok(())
    }
}
