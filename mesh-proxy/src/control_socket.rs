//! The Unix socket through which commands in the same container reach the running proxy.
//!
//! It lies in a volume that only the proxy mounts, so that no application can drain it. One line in, text out: `ready`,
//! `drain`. The first line of an answer is the outcome, the rest explains.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::drain::Drain;
use crate::ready::Ready;

/// How long a command and its answer may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest command, in bytes.
const COMMAND_BYTES_MAX: u64 = 256;
/// The longest answer that a client reads, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Serves commands until the process ends.
///
/// # Errors
/// Where the socket cannot be made.
pub(crate) async fn serve(path: &Path, ready: Ready, drain: Drain) -> io::Result<()> {
    // One left by an earlier run of this container.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, perhaps: wait instead of spinning.
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Commands are rare and short: one after the other bounds them.
        match tokio::time::timeout(EXCHANGE_TIMEOUT, answer(stream, &ready, &drain)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a command on the control socket failed"),
            Err(_) => tracing::debug!("a command on the control socket took too long"),
        }
    }
}

async fn answer(mut stream: UnixStream, ready: &Ready, drain: &Drain) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut command = String::new();
    BufReader::new(read.take(COMMAND_BYTES_MAX)).read_line(&mut command).await?;
    let text = match command.trim() {
        "ready" => ready.explain(),
        "drain" if drain.begin() => "draining\n".to_owned(),
        "drain" => "already draining\n".to_owned(),
        other => format!("unknown command {other:?}; known: ready, drain\n"),
    };
    write.write_all(text.as_bytes()).await?;
    write.shutdown().await
}

/// Sends a command to the running proxy and reads its answer.
///
/// # Errors
/// Where no proxy listens, or it does not answer in time.
pub(crate) async fn ask(path: &Path, command: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut text = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
        Ok(text)
    };
    tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_are_answered_and_a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(ask(&path, "ready").await.is_err(), "nobody listens");
        let (drain, watch) = Drain::new();
        let server = path.clone();
        let serving = tokio::spawn(async move { serve(&server, Ready::new(), drain).await });
        while ask(&path, "ready").await.is_err() {
            tokio::task::yield_now().await;
        }
        assert!(ask(&path, "ready").await.unwrap().starts_with("not ready\n"));
        assert!(!watch.is_draining());
        assert_eq!(ask(&path, "drain").await.unwrap(), "draining\n");
        assert_eq!(ask(&path, "drain").await.unwrap(), "already draining\n");
        assert!(watch.is_draining());
        assert!(ask(&path, "reboot").await.unwrap().contains("unknown command"));
        serving.abort();
    }
}
