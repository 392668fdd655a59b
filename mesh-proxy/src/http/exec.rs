//! What lets hyper run on a single-threaded worker: tasks that stay on it, and the clocks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::limits::{CLIENT_IDLE_TIMEOUT, HEAD_TIMEOUT};

/// Runs hyper's tasks on the worker that made them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A timer for HTTP/2's keep-alive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainTimer;

impl hyper::rt::Timer for PlainTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(PlainSleep(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct PlainSleep(Pin<Box<tokio::time::Sleep>>);

impl Future for PlainSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for PlainSleep {}

/// Counts the bytes read from a client, for its [`HeadClock`].
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadMark(Arc<AtomicU64>);

impl ReadMark {
    /// Notes that bytes have come.
    pub(crate) fn add(&self, bytes: usize) {
        // One task owns the connection; the atomic only satisfies hyper's `Send + Sync`.
        self.0.store(self.0.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The clock of one HTTP/1 client connection. hyper knows one time limit, from the moment it waits for a head; a proxy
/// needs two: a connection may be idle for long, but a head that has begun must come soon. The sleep that this timer
/// makes is the long one until bytes have come since it was set, and then the short one.
#[derive(Clone, Debug)]
pub(crate) struct HeadClock {
    read: ReadMark,
}

impl HeadClock {
    /// A clock for the connection whose reads are counted by `read`.
    pub(crate) fn new(read: ReadMark) -> Self {
        Self { read }
    }
}

impl hyper::rt::Timer for HeadClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        // hyper asks with HEAD_TIMEOUT; as long as nothing has come, the connection is only idle.
        let idle_until = deadline + CLIENT_IDLE_TIMEOUT - HEAD_TIMEOUT;
        Box::pin(HeadSleep {
            sleep: Box::pin(tokio::time::sleep_until(idle_until.into())),
            read: self.read.clone(),
            seen: self.read.bytes(),
            begun: false,
        })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct HeadSleep {
    sleep: Pin<Box<tokio::time::Sleep>>,
    read: ReadMark,
    seen: u64,
    begun: bool,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.begun && self.read.bytes() != self.seen {
            self.begun = true;
            self.sleep.as_mut().reset(tokio::time::Instant::now() + HEAD_TIMEOUT);
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for HeadSleep {}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_may_wait_but_a_head_that_has_begun_must_come() {
        let mark = ReadMark::default();
        let clock = HeadClock::new(mark.clone());
        let mut sleep = clock.sleep_until(clock.now() + HEAD_TIMEOUT);
        let begun = tokio::time::Instant::now();
        let idle = tokio::time::timeout(HEAD_TIMEOUT * 10, &mut sleep).await;
        assert!(idle.is_err(), "nothing had come");
        mark.add(1);
        sleep.await;
        assert_eq!(begun.elapsed(), HEAD_TIMEOUT * 11);
    }
}
