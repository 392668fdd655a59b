//! `load` against a real `echo` on loopback: counts add up, and what is lost is seen.

use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;

use super::*;
use crate::net::serve;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

async fn counts(port: u16, path_and_options: &[&str]) -> Report {
    let mut words = vec!["load".to_owned(), format!("http://127.0.0.1:{port}{}", path_and_options[0])];
    words.extend(path_and_options[1..].iter().map(|&word| word.to_owned()));
    let args = Cli::parse_from(words).args;
    work(args, CancellationToken::new()).unwrap().run().await.report(Duration::from_secs(1))
}

async fn echo() -> (u16, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let version: Arc<str> = "v7".into();
    let server =
        tokio::spawn(serve::http(listener, stop.clone(), move |request| crate::echo::route(request, version.clone())));
    (port, stop, server)
}

#[tokio::test]
async fn answers_are_counted_by_status_and_field_on_one_connection() {
    let (port, ..) = echo().await;
    for options in
        [&["/x", "-n", "20", "--body-field", "version"][..], &["/x", "-n", "20", "--http2", "--body-field", "version"]]
    {
        let report = counts(port, options).await;
        assert!(report.ok, "{report:?}");
        assert_eq!((report.status[&200], report.fields["v7"], report.lost, report.connections), (20, 20, 0, 1));
    }
}

#[tokio::test]
async fn a_refused_status_and_a_lost_request_are_failures() {
    let (port, ..) = echo().await;
    let refused = counts(port, &["/status/503", "-n", "3"]).await;
    assert!(!refused.ok && refused.lost == 0 && refused.status[&503] == 3);
    assert!(counts(port, &["/status/503", "-n", "3", "--accept", "503"]).await.ok);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let lost = counts(nobody, &["/", "-n", "2"]).await;
    assert!(!lost.ok && lost.lost == 2, "{lost:?}");
}

#[tokio::test]
async fn a_request_under_way_is_answered_when_the_server_is_told_to_stop() {
    let (port, stop, server) = echo().await;
    let slow = tokio::spawn(async move { counts(port, &["/delay/300", "-n", "1"]).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    assert!(slow.await.unwrap().ok);
    timeout(Duration::from_secs(5), server).await.expect("the server ends by itself").unwrap();
}
