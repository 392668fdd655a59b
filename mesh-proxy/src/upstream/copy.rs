//! Copying bytes between two connections: half-close, back-pressure, bounded buffers, and an idle limit.
//!
//! A buffer begins small and grows when a direction carries much: thousands of idle connections cost little, and bulk
//! is not cut into small records.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes of a direction's buffer at first.
const SMALL_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes of the buffer of a direction that carries much.
const LARGE_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes after which a direction carries much.
const MUCH_BYTES: u64 = 64 * 1024;

/// Which side ended or failed first.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both sides closed, each after its last byte had passed.
    Closed,
    /// Reading from or writing to the client failed.
    Client(io::Error),
    /// Reading from or writing to the server failed.
    Server(io::Error),
    /// Nothing passed for the idle time.
    Idle,
}

/// What was copied, and how it ended.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Bytes from the client to the server.
    pub(crate) sent: u64,
    /// Bytes from the server to the client.
    pub(crate) received: u64,
    /// How it ended.
    pub(crate) ended: Ended,
}

/// Copies in both directions until both are closed, one fails, or nothing passed for `idle` (`None`: no limit).
pub(crate) async fn both_ways<C, S>(client: &mut C, server: &mut S, idle: Option<Duration>) -> Copied
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Direction::new();
    let mut down = Direction::new();
    let mut seen = 0;
    let mut timer = idle.map(|idle| Box::pin(tokio::time::sleep(idle)));
    let ended = poll_fn(|cx| {
        let sent = up.poll(cx, client, server).map_err(|fault| match fault {
            Fault::Read(error) => Ended::Client(error),
            Fault::Write(error) => Ended::Server(error),
        });
        if let Poll::Ready(Err(ended)) = sent {
            return Poll::Ready(ended);
        }
        let received = down.poll(cx, server, client).map_err(|fault| match fault {
            Fault::Read(error) => Ended::Server(error),
            Fault::Write(error) => Ended::Client(error),
        });
        if let Poll::Ready(Err(ended)) = received {
            return Poll::Ready(ended);
        }
        if sent.is_ready() && received.is_ready() {
            return Poll::Ready(Ended::Closed);
        }
        let (Some(timer), Some(idle)) = (&mut timer, idle) else { return Poll::Pending };
        if up.copied + down.copied != seen {
            seen = up.copied + down.copied;
            timer.as_mut().reset(Instant::now() + idle);
        }
        timer.as_mut().poll(cx).map(|()| Ended::Idle)
    })
    .await;
    Copied { sent: up.copied, received: down.copied, ended }
}

enum Fault {
    Read(io::Error),
    Write(io::Error),
}

struct Direction {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    copied: u64,
    state: State,
    needs_flush: bool,
}

#[derive(PartialEq)]
enum State {
    Copying,
    Closing,
    Closed,
}

impl Direction {
    fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, copied: 0, state: State::Copying, needs_flush: false }
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.state == State::Copying {
            if self.start == self.end {
                match self.poll_fill(cx, from, to)? {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => self.state = State::Closing,
                    Poll::Pending => return Poll::Pending,
                }
            }
            while self.start < self.end {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer[self.start..self.end]));
                let written = written.map_err(Fault::Write)?;
                if written == 0 {
                    return Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into())));
                }
                self.start += written;
                self.copied += written as u64;
                self.needs_flush = true;
            }
        }
        if self.state == State::Closing {
            ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Fault::Write)?;
            self.state = State::Closed;
            self.buffer = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads into the empty buffer; false at the end. While nothing comes, what was written is flushed: TLS may hold
    /// records back until then.
    fn poll_fill<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Result<Poll<bool>, Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let wanted = if self.copied >= MUCH_BYTES { LARGE_BUFFER_BYTES } else { SMALL_BUFFER_BYTES };
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let mut read = ReadBuf::new(&mut self.buffer);
        match Pin::new(&mut *from).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) => {
                (self.start, self.end) = (0, read.filled().len());
                Ok(Poll::Ready(self.end > 0))
            }
            Poll::Ready(Err(error)) => Err(Fault::Read(error)),
            Poll::Pending => {
                if self.needs_flush && Pin::new(&mut *to).poll_flush(cx).map_err(Fault::Write)?.is_ready() {
                    self.needs_flush = false;
                }
                Ok(Poll::Pending)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn half_close_reaches_the_server_and_its_answer_the_client() {
        let (mut client, mut client_side) = tokio::io::duplex(16);
        let (mut server_side, mut server) = tokio::io::duplex(16);
        let copy = async move { both_ways(&mut client_side, &mut server_side, None).await };
        let talk = async {
            client.write_all(b"a question that is longer than the pipe").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let serve = async {
            let mut question = String::new();
            server.read_to_string(&mut question).await.unwrap();
            server.write_all(question.to_uppercase().as_bytes()).await.unwrap();
            drop(server);
        };
        let (copied, answer, ()) = tokio::join!(copy, talk, serve);
        assert_eq!(answer, "A QUESTION THAT IS LONGER THAN THE PIPE");
        assert_eq!((copied.sent, copied.received), (39, 39));
        assert!(matches!(copied.ended, Ended::Closed), "{:?}", copied.ended);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (_client, mut client_side) = tokio::io::duplex(16);
        let (mut server_side, _server) = tokio::io::duplex(16);
        let copied = both_ways(&mut client_side, &mut server_side, Some(Duration::from_secs(5))).await;
        assert!(matches!(copied.ended, Ended::Idle));
    }
}
