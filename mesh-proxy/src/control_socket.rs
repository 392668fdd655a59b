//! The Unix socket through which commands in the same container reach the running proxy.
//!
//! It lies in a volume that only the proxy mounts, so that no application can drain it. One line in, text out: `ready`,
//! `drain`, `log-level <filter>`. The first line of an answer is the outcome, the rest explains.

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

/// Changes the log's filter, or says why it cannot be used.
pub(crate) type SetLogLevel = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// What commands act on.
pub(crate) struct Controls {
    /// Told by `ready`.
    pub(crate) ready: Ready,
    /// Begun by `drain`.
    pub(crate) drain: Drain,
    /// Changes what is logged; says what is wrong with the filter otherwise.
    pub(crate) set_log_level: Box<SetLogLevel>,
}

/// Serves commands until the process ends.
///
/// # Errors
/// Where the socket cannot be made.
pub(crate) async fn serve(path: &Path, controls: Controls) -> io::Result<()> {
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
        match tokio::time::timeout(EXCHANGE_TIMEOUT, answer(stream, &controls)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a command on the control socket failed"),
            Err(_) => tracing::debug!("a command on the control socket took too long"),
        }
    }
}

async fn answer(mut stream: UnixStream, controls: &Controls) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut command = String::new();
    BufReader::new(read.take(COMMAND_BYTES_MAX)).read_line(&mut command).await?;
    let (command, argument) = command.trim().split_once(' ').unwrap_or((command.trim(), ""));
    let text = match command {
        "ready" => controls.ready.explain(),
        "drain" if controls.drain.begin() => "draining\n".to_owned(),
        "drain" => "already draining\n".to_owned(),
        "log-level" => match (controls.set_log_level)(argument) {
            Ok(()) => format!("log level {argument}\n"),
            Err(reason) => format!("the log level stays as it is\n  {reason}\n"),
        },
        other => format!("unknown command {other:?}; known: ready, drain, log-level\n"),
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
        let set_log_level = |filter: &str| if filter == "debug" { Ok(()) } else { Err("no such level".to_owned()) };
        let controls = Controls { ready: Ready::new(), drain, set_log_level: Box::new(set_log_level) };
        let serving = tokio::spawn(async move { serve(&server, controls).await });
        while ask(&path, "ready").await.is_err() {
            tokio::task::yield_now().await;
        }
        assert!(ask(&path, "ready").await.unwrap().starts_with("not ready\n"));
        assert!(!watch.is_draining());
        assert_eq!(ask(&path, "drain").await.unwrap(), "draining\n");
        assert_eq!(ask(&path, "drain").await.unwrap(), "already draining\n");
        assert!(watch.is_draining());
        assert_eq!(ask(&path, "log-level debug").await.unwrap(), "log level debug\n");
        assert!(ask(&path, "log-level loud").await.unwrap().contains("no such level"));
        assert!(ask(&path, "reboot").await.unwrap().contains("unknown command"));
        serving.abort();
    }
}
