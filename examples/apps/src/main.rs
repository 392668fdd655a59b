//! The programs behind the examples: bookinfo's services, and small servers and clients for trying things.
//!
//! One program with subcommands, because it stands in for a dozen container images: the sandbox maps an image's
//! name to one of these commands. Nothing here knows of the mesh; these are the ordinary applications that a mesh
//! must serve without their help. Names are resolved by asking the DNS servers of `/etc/resolv.conf`, because a
//! statically linked glibc program must not call `getaddrinfo`.

mod bookinfo;
mod bulk;
mod client;
mod echo;
mod fetch;
mod grpc;
mod http_client;
mod load;
mod net;
mod reply;
mod tcp_echo;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

/// Threads that a program runs its tasks on: a demo has many programs on few cores.
const WORKERS: usize = 2;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "example-apps", version, about)]
struct Cli {
    #[command(subcommand)]
    app: App,
}

/// One of the programs.
#[derive(Debug, Subcommand)]
enum App {
    /// Bookinfo's web page; asks details and reviews
    Productpage(bookinfo::productpage::Args),
    /// Bookinfo's facts about a book
    Details(bookinfo::details::Args),
    /// Bookinfo's stars per reviewer
    Ratings(bookinfo::ratings::Args),
    /// Bookinfo's reviews; v2 and v3 ask ratings
    Reviews(bookinfo::reviews::Args),
    /// HTTP/1.1 and h2c server that answers with what it was asked, as JSON
    Echo(echo::Args),
    /// TCP server that sends back what it gets
    TcpEcho(tcp_echo::Args),
    /// gRPC server (h2c) with the four streaming shapes and a counter of cancelled streams
    GrpcEcho(grpc::server::Args),
    /// gRPC client that exercises `grpc-echo`; prints JSON, fails when a shape misbehaves
    GrpcClient(grpc::client::Args),
    /// Many HTTP requests; prints counts by status and by a field of the answer as JSON
    Load(load::Args),
    /// One request (http:// or tcp://); prints the answer as JSON
    Fetch(fetch::Args),
    /// Serves and takes large transfers of known content over TCP and HTTP
    BulkServer(bulk::server::Args),
    /// Makes large transfers against `bulk-server` and checks every byte; prints JSON
    BulkClient(bulk::client::Args),
    /// Waits for TERM and ends
    Sleep,
}

fn main() -> ExitCode {
    let cli = Cli::parse_from(with_subcommand(std::env::args_os().collect()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(cli.app)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// Puts `tcp-echo` before a list of ports (`9000,9001 hello`).
///
/// A pod's `args` replace everything in an image's command but the program, and Istio's tcp-echo sample is started
/// with these arguments alone.
fn with_subcommand(mut words: Vec<OsString>) -> Vec<OsString> {
    let ports = |word: &OsString| {
        let text = word.to_str().unwrap_or_default();
        text.split(',').all(|port| port.parse::<u16>().is_ok())
    };
    if words.get(1).is_some_and(ports) {
        words.insert(1, "tcp-echo".into());
    }
    words
}

async fn run(app: App) -> anyhow::Result<ExitCode> {
    let stop = net::drain::on_signal()?;
    let served = |()| ExitCode::SUCCESS;
    match app {
        App::Productpage(args) => bookinfo::productpage::run(args, stop).await.map(served),
        App::Details(args) => bookinfo::details::run(args, stop).await.map(served),
        App::Ratings(args) => bookinfo::ratings::run(args, stop).await.map(served),
        App::Reviews(args) => bookinfo::reviews::run(args, stop).await.map(served),
        App::Echo(args) => echo::run(args, stop).await.map(served),
        App::TcpEcho(args) => tcp_echo::run(args, stop).await.map(served),
        App::GrpcEcho(args) => grpc::server::run(args, stop).await.map(served),
        App::BulkServer(args) => bulk::server::run(args, stop).await.map(served),
        App::Sleep => {
            stop.cancelled().await;
            Ok(ExitCode::SUCCESS)
        }
        App::GrpcClient(args) => interruptible(stop, grpc::client::run(args)).await,
        App::Load(args) => load::run(args, stop).await,
        App::Fetch(args) => interruptible(stop, fetch::run(args)).await,
        App::BulkClient(args) => interruptible(stop, bulk::client::run(args)).await,
    }
}

/// Ends a client at once when it is told to stop; what it would have reported is lost, and the exit code says so.
async fn interruptible(
    stop: CancellationToken,
    client: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::select! {
        result = client => result,
        () = stop.cancelled() => anyhow::bail!("stopped by a signal before the end"),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("example-apps: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[test]
    fn every_subcommand_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn the_arguments_of_the_published_tcp_echo_are_understood() {
        let words = ["example-apps", "9000,9001,9002", "hello"].map(Into::into).to_vec();
        let cli = super::Cli::parse_from(super::with_subcommand(words));
        assert!(matches!(cli.app, super::App::TcpEcho(_)));
    }

    #[test]
    fn every_command_of_the_image_lists_is_one_of_ours() {
        let lists = concat!(include_str!("../../bookinfo/images.yaml"), include_str!("../../echo/images.yaml"));
        let mut commands = 0;
        for line in lists.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let Some((_, words)) = line.split_once('[') else { continue };
            let words = words.trim_end_matches(']').split(',').map(|word| word.trim().trim_matches('"'));
            super::Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            commands += 1;
        }
        assert!(commands > 20, "the lists are written in another way: {commands}");
    }
}
