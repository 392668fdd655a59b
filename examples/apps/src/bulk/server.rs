//! The server of large transfers.

use std::net::SocketAddr;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::pattern::{Check, Content, ContentBody};
use crate::net::{listen::listen, serve};
use crate::reply::{self, Body};

/// Bytes read at once.
pub(super) const BUFFER: usize = 64 * 1024;
/// Bytes of the line that begins a TCP transfer.
const LINE_MAX: u64 = 64;
/// The largest transfer: 1 TiB.
const BYTES_MAX: u64 = 1 << 40;

/// Options of `bulk-server`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port for TCP
    #[arg(long, default_value_t = 9100)]
    tcp_port: u16,
    /// Port for HTTP
    #[arg(long, default_value_t = 9101)]
    http_port: u16,
}

/// Serves until told to stop.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let (tcp, http) = (listen(args.tcp_port)?, listen(args.http_port)?);
    tokio::join!(serve_tcp(tcp, stop.clone()), serve::http(http, stop, route));
    Ok(())
}

pub(super) async fn serve_tcp(listener: TcpListener, stop: CancellationToken) {
    serve::connections(listener, stop, |stream, _: SocketAddr| async move {
        if let Err(error) = transfer(stream).await {
            eprintln!("bulk-server: a transfer broke off: {error}");
        }
    })
    .await;
}

async fn transfer(stream: TcpStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let mut line = String::new();
    (&mut reader).take(LINE_MAX).read_line(&mut line).await?;
    let order = line.trim_end().split_once(' ').and_then(|(verb, n)| Some((verb, n.parse::<u64>().ok()?)));
    match order {
        Some(("GET", bytes)) if bytes <= BYTES_MAX => {
            let mut content = Content::new(bytes);
            while let Some(piece) = content.next() {
                writer.write_all(&piece).await?;
            }
        }
        Some(("PUT", bytes)) if bytes <= BYTES_MAX => {
            let mut check = Check::default();
            let mut buffer = vec![0; BUFFER];
            loop {
                let read = reader.read(&mut buffer).await?;
                if read == 0 {
                    break;
                }
                check.add(&buffer[..read]);
            }
            let verdict = serde_json::to_string(&check.verdict())?;
            writer.write_all(format!("{verdict}\n").as_bytes()).await?;
        }
        _ => writer.write_all(b"expected GET <bytes> or PUT <bytes>\n").await?,
    }
    writer.shutdown().await
}

pub(super) async fn route(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if path == "/health" {
        return reply::text(StatusCode::OK, "ok\n");
    }
    match (request.method(), path.strip_prefix("/bulk")) {
        (&Method::POST, Some("")) => receive(request.into_body()).await,
        (&Method::GET, Some(bytes)) => match bytes.trim_start_matches('/').parse() {
            Ok(bytes) if bytes <= BYTES_MAX => {
                let body =
                    ContentBody { content: Content::new(bytes), says_length: request.uri().query() != Some("chunked") };
                let mut response = reply::answer(StatusCode::OK, "application/octet-stream", "");
                *response.body_mut() = body.boxed_unsync();
                response
            }
            _ => reply::text(StatusCode::BAD_REQUEST, "expected /bulk/<bytes>\n"),
        },
        _ => reply::not_found(),
    }
}

async fn receive(mut body: Incoming) -> Response<Body> {
    let mut check = Check::default();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => check.add(frame.data_ref().map_or(&[][..], |data| data)),
            Err(error) => {
                eprintln!("bulk-server: an upload broke off: {error}");
                return reply::text(StatusCode::BAD_REQUEST, "the body broke off\n");
            }
        }
    }
    reply::json(StatusCode::OK, &check.verdict())
}
