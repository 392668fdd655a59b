//! The client against the server, over loopback; and the message codec's laws.

use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{client, frame, server};
use crate::net::serve;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: client::Args,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shape_behaves_without_anything_between() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let streams = Arc::new(server::Streams::default());
    tokio::spawn(serve::http(listener, CancellationToken::new(), move |request| {
        let streams = streams.clone();
        async move { server::route(request, &streams) }
    }));
    let args = Cli::parse_from(["grpc-client", &address, "--shape", "all", "--shape", "hold", "--seconds", "1"]).args;
    let report = client::exercise(args).await.unwrap();
    assert!(report.ok, "{report:#?}");
    assert_eq!(report.shapes.len(), 8);
}

#[test]
fn messages_survive_any_cut() {
    let texts = ["", "a", &"long ".repeat(1000)];
    let bytes: Vec<u8> = texts.iter().flat_map(|text| frame::encode(text)).collect();
    for step in [1, 3, 4096] {
        let mut decoder = frame::Decoder::default();
        let mut got = Vec::new();
        for part in bytes.chunks(step) {
            decoder.push(part);
            while let Some(text) = decoder.next().unwrap() {
                got.push(text);
            }
        }
        assert_eq!(got, texts);
        assert!(decoder.is_empty());
    }
}

#[test]
fn hostile_bytes_are_refused() {
    let refused = |bytes: &[u8]| {
        let mut decoder = frame::Decoder::default();
        decoder.push(bytes);
        decoder.next().is_err()
    };
    assert!(refused(&[1, 0, 0, 0, 0]), "compressed");
    assert!(refused(&[0, 0xff, 0xff, 0xff, 0xff]), "too long");
    assert!(refused(&[0, 0, 0, 0, 2, 0x0a, 0x7f]), "a text that breaks off");
    assert!(refused(&[0, 0, 0, 0, 3, 0x0a, 1, 0xff]), "not UTF-8");
}
