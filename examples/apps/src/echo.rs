//! An HTTP server that answers with what it was asked: HTTP/1.1 and h2c on one port.
//!
//! | path | answer |
//! |---|---|
//! | `/status/NNN` | that status |
//! | `/delay/MS` | the echo, after so many milliseconds |
//! | `/stream/N` | N lines of JSON, 10 ms apart, without a length |
//! | `/hello` | `Hello version: V, instance: H` |
//! | `/health` | `ok` |
//! | anything else | the echo as JSON |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::net::serve::{self, Peer};
use crate::net::{drain, listen::listen};
use crate::reply::{self, Body};

/// Bytes of a request's body that are read and sent back.
const BODY_MAX: usize = 1024 * 1024;
/// The longest delay that can be asked for, below what is waited for at the end.
const DELAY_MAX: Duration = drain::FINISH_MAX;
/// Lines that one stream can have.
const LINES_MAX: u32 = 100_000;
/// Time between two lines of a stream.
const LINE_PAUSE: Duration = Duration::from_millis(10);
/// Lines that wait for a slow reader.
const LINES_WAITING: usize = 4;

/// Options of `echo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Version that the answers name
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    version: String,
}

/// What was asked, and who answers.
#[derive(Debug, Serialize)]
struct Echo<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    protocol: String,
    headers: BTreeMap<String, String>,
    body: String,
    body_bytes: usize,
    remote: String,
    hostname: String,
    version: &'a str,
}

/// Serves until told to stop.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let version: Arc<str> = args.version.into();
    serve::http(listen(args.port)?, stop, move |request| route(request, version.clone())).await;
    Ok(())
}

pub(crate) async fn route(request: Request<Incoming>, version: Arc<str>) -> Response<Body> {
    let path = request.uri().path();
    let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    match (first, rest) {
        ("health", "") => reply::text(StatusCode::OK, "ok\n"),
        ("hello", "") => {
            reply::text(StatusCode::OK, format!("Hello version: {version}, instance: {}\n", reply::hostname()))
        }
        ("stream", count) => match count.parse() {
            Ok(count) if count <= LINES_MAX => stream(count, version),
            _ => reply::text(StatusCode::BAD_REQUEST, format!("/stream/N takes a number up to {LINES_MAX}\n")),
        },
        ("status", code) => match code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(status) if status.as_u16() >= 200 => echo(request, status, &version).await,
            _ => reply::text(StatusCode::BAD_REQUEST, "/status/NNN takes a status from 200 to 999\n"),
        },
        ("delay", time) => match time.parse().map(Duration::from_millis) {
            Ok(time) if time <= DELAY_MAX => {
                sleep(time).await;
                echo(request, StatusCode::OK, &version).await
            }
            _ => {
                let most = DELAY_MAX.as_millis();
                reply::text(StatusCode::BAD_REQUEST, format!("/delay/MS takes milliseconds up to {most}\n"))
            }
        },
        _ => echo(request, StatusCode::OK, &version).await,
    }
}

async fn echo(request: Request<Incoming>, status: StatusCode, version: &str) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return reply::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 1 MiB, or broke off\n"),
    };
    let authority = head.uri.authority().map(|authority| (":authority".to_owned(), authority.to_string()));
    let remote = head.extensions.get::<Peer>().map(|peer| peer.0.to_string());
    let told = Echo {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        protocol: format!("{:?}", head.version),
        headers: by_name(&head.headers).into_iter().chain(authority).collect(),
        body_bytes: body.len(),
        body: String::from_utf8_lossy(&body).into_owned(),
        remote: remote.unwrap_or_default(),
        hostname: reply::hostname(),
        version,
    };
    reply::json(status, &told)
}

/// Headers by name; values of one name are joined as HTTP allows it.
pub(crate) fn by_name(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut map = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        map.entry(name.to_string())
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    map
}

fn stream(count: u32, version: Arc<str>) -> Response<Body> {
    let (mut sender, body) = Channel::new(LINES_WAITING);
    tokio::spawn(async move {
        for number in 0..count {
            let line = format!("{{\"number\":{number},\"version\":\"{version}\"}}\n");
            if sender.send_data(Bytes::from(line)).await.is_err() {
                return; // the reader has left
            }
            sleep(LINE_PAUSE).await;
        }
    });
    let mut response = reply::answer(StatusCode::OK, "application/x-ndjson", "");
    *response.body_mut() = body.boxed_unsync();
    response
}
