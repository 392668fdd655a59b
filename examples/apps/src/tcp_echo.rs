//! A TCP server that sends back what it gets, byte by byte, or line by line behind a prefix.
//!
//! Takes the arguments of Istio's sample server (`9000,9001 hello`) as well as options.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::net::{listen::listen, serve};

/// Bytes that are read at once, and that a line may have.
const BUFFER: usize = 16 * 1024;
/// After TERM a connection ends once nothing was read for this long.
const QUIET: Duration = Duration::from_millis(500);

/// Options of `tcp-echo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ports, separated by commas (as Istio's sample takes them)
    ports: Option<String>,
    /// Words before each line (as Istio's sample takes them)
    words: Option<String>,
    /// Port to listen on; may be given several times
    #[arg(long, default_value = "9000", conflicts_with = "ports")]
    port: Vec<u16>,
    /// Echo line by line, with this and a blank before each
    #[arg(long, conflicts_with = "words")]
    prefix: Option<String>,
    /// Send this line as soon as a client connects (a protocol in which the server speaks first)
    #[arg(long)]
    greeting: Option<String>,
}

/// How a connection is answered.
struct Manner {
    prefix: Option<String>,
    greeting: Option<String>,
}

/// Serves until told to stop.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let ports = match &args.ports {
        None => args.port,
        Some(list) => list.split(',').map(|port| port.trim().parse()).collect::<Result<_, _>>().context("ports")?,
    };
    let manner = Arc::new(Manner { prefix: args.prefix.or(args.words), greeting: args.greeting });
    let mut servers = JoinSet::new();
    for port in ports {
        let (listener, stop, manner) = (listen(port)?, stop.clone(), manner.clone());
        let ending = stop.clone();
        let answer = move |stream, _peer: SocketAddr| answer(stream, manner.clone(), ending.clone());
        servers.spawn(serve::connections(listener, stop, answer));
    }
    servers.join_all().await;
    Ok(())
}

async fn answer(stream: TcpStream, manner: Arc<Manner>, stop: CancellationToken) {
    let _ = echo(stream, &manner, &stop).await; // a client that leaves early is no fault of ours
}

async fn echo(stream: TcpStream, manner: &Manner, stop: &CancellationToken) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    if let Some(greeting) = &manner.greeting {
        writer.write_all(format!("{greeting}\n").as_bytes()).await?;
    }
    let mut bytes = Vec::with_capacity(BUFFER);
    loop {
        bytes.clear();
        let read = async {
            match &manner.prefix {
                None => reader.read_buf(&mut bytes).await,
                Some(_) => (&mut reader).take(BUFFER as u64).read_until(b'\n', &mut bytes).await,
            }
        };
        let read = tokio::select! {
            read = read => read?,
            () = quiet_end(stop) => 0,
        };
        if read == 0 {
            return writer.shutdown().await;
        }
        if let Some(prefix) = &manner.prefix {
            bytes.splice(0..0, format!("{prefix} ").into_bytes());
        }
        writer.write_all(&bytes).await?;
    }
}

/// Ends once we are told to stop and a while has passed; what is read meanwhile begins it anew.
async fn quiet_end(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(QUIET).await;
}
