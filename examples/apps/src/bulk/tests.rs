//! Transfers over loopback, and that damage is found and named.

use clap::Parser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::pattern::{Check, Content};
use super::{client, server};
use crate::net::serve;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: client::Args,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_arrive_as_they_were_sent() {
    let stop = CancellationToken::new();
    let (tcp, http) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (tcp_address, http_address) = (tcp.local_addr().unwrap().to_string(), http.local_addr().unwrap().to_string());
    tokio::spawn(server::serve_tcp(tcp, stop.clone()));
    tokio::spawn(serve::http(http, stop, server::route));
    for words in [
        &["tcp", &tcp_address, "--bytes", "5M"][..],
        &["http", &http_address, "--bytes", "5M"],
        &["http", &http_address, "--bytes", "3000001", "--chunked"],
        &["http2", &http_address, "--bytes", "5M"],
        &["tcp", &tcp_address, "--bytes", "0"],
    ] {
        let args = Cli::parse_from(std::iter::once(&"bulk-client").chain(words)).args;
        let report = client::transfers(args).await.unwrap();
        assert!(report.ok && report.transfers.len() == 2, "{words:?}: {report:#?}");
    }
}

#[test]
fn damage_is_found_and_named() {
    let mut content = Content::new(3_000_000);
    let mut sent: Vec<u8> = std::iter::from_fn(|| content.next()).flatten().collect();
    let verdict = |bytes: &[u8], cut: usize| {
        let mut check = Check::default();
        bytes.chunks(cut).for_each(|part| check.add(part));
        check.verdict()
    };
    let whole = verdict(&sent, 1000);
    assert_eq!((whole.first_wrong, whole.bytes), (None, 3_000_000));
    assert_eq!(whole.checksum, content.checksum());
    assert_eq!(verdict(&sent, 7), whole);

    sent[2_000_000] ^= 1;
    assert_eq!(verdict(&sent, 1000).first_wrong, Some(2_000_000));
    sent[2_000_000] ^= 1;
    sent.drain(65_536..131_072);
    let lost = verdict(&sent, 1000);
    assert!(lost.first_wrong.is_some_and(|place| (65_536..65_600).contains(&place)), "{lost:?}");
}
