//! A request's body, kept while it may be needed again.
//!
//! An attempt that was provably unsent may be made once more, POST included, so what has been read of the body is kept
//! up to [`KEPT_BYTES_MAX`]. Beyond that the chunks pass through unkept and there is no second attempt.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::body::{Body, BodyError};
use crate::telemetry::grpc::Messages;

/// Bytes of a body that are kept for another attempt (architecture, rule 11).
pub(crate) const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The body of one request, over all its attempts.
#[derive(Clone, Debug)]
pub(crate) struct Replay(Rc<RefCell<Source>>);

#[derive(Debug)]
struct Source {
    body: Body,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// More was read than is kept.
    overflown: bool,
    ended: bool,
    failed: bool,
    trailers: Option<HeaderMap>,
    /// Bytes read from the client.
    read_bytes: u64,
    length: SizeHint,
    /// gRPC messages read, where they are counted.
    messages: Option<Messages>,
    /// The attempt that may read; older ones belong to connections that are being given up.
    attempt: u32,
}

/// One attempt's view of a [`Replay`].
#[derive(Debug)]
pub(crate) struct Attempt {
    source: Rc<RefCell<Source>>,
    number: u32,
    next_kept: usize,
    given_bytes: u64,
    trailers_given: bool,
}

impl Replay {
    /// Keeps what is read from `body`.
    pub(crate) fn new(body: Body) -> Self {
        let length = body.size_hint();
        let ended = body.is_end_stream();
        Self(Rc::new(RefCell::new(Source {
            body,
            kept: Vec::new(),
            kept_bytes: 0,
            overflown: false,
            ended,
            failed: false,
            trailers: None,
            read_bytes: 0,
            length,
            messages: None,
            attempt: 0,
        })))
    }

    /// Counts gRPC messages from now on.
    pub(crate) fn count_messages(&self) {
        self.0.borrow_mut().messages = Some(Messages::default());
    }

    /// gRPC messages read from the client.
    pub(crate) fn messages(&self) -> u64 {
        self.0.borrow().messages.as_ref().map_or(0, Messages::count)
    }

    /// The body for the next attempt; earlier attempts can read no more. Ask [`can_replay`](Self::can_replay) before a
    /// second one.
    pub(crate) fn attempt(&self) -> Body {
        let mut source = self.0.borrow_mut();
        source.attempt += 1;
        if source.ended && source.kept.is_empty() && source.trailers.is_none() {
            return Body::Empty;
        }
        Body::Replay(Attempt {
            source: Rc::clone(&self.0),
            number: source.attempt,
            next_kept: 0,
            given_bytes: 0,
            trailers_given: false,
        })
    }

    /// Whether another attempt would see the whole body.
    pub(crate) fn can_replay(&self) -> bool {
        let source = self.0.borrow();
        !source.overflown && !source.failed
    }

    /// Whether everything was read from the client.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.borrow().ended
    }

    /// Whether the client failed before the end of its body.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.borrow().failed
    }

    /// Bytes read from the client.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.0.borrow().read_bytes
    }

    /// The connection's answer has begun: no more attempts, so nothing needs to be kept any longer.
    pub(crate) fn forget(&self) {
        let mut source = self.0.borrow_mut();
        source.overflown = true;
    }
}

impl Source {
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    self.read_bytes += bytes.len() as u64;
                    if let Some(messages) = &mut self.messages {
                        messages.add(bytes);
                    }
                    self.keep(bytes);
                } else if let Some(trailers) = frame.trailers_mut() {
                    super::hygiene::clean_trailers(trailers);
                    self.trailers = Some(trailers.clone());
                    self.ended = true;
                }
                self.ended |= self.body.is_end_stream();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.failed = true;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn keep(&mut self, bytes: &Bytes) {
        self.overflown |= self.kept_bytes + bytes.len() > KEPT_BYTES_MAX;
        if self.overflown {
            self.kept = Vec::new();
            self.kept_bytes = 0;
        } else {
            self.kept_bytes += bytes.len();
            self.kept.push(bytes.clone());
        }
    }
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut source = this.source.borrow_mut();
        if source.attempt != this.number {
            return Poll::Ready(Some(Err("another attempt reads this body now".into())));
        }
        if let Some(kept) = source.kept.get(this.next_kept) {
            this.next_kept += 1;
            this.given_bytes += kept.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        if source.ended {
            if this.trailers_given {
                return Poll::Ready(None);
            }
            this.trailers_given = true;
            return Poll::Ready(source.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = std::task::ready!(source.poll_client(cx));
        this.next_kept = source.kept.len();
        if let Some(Ok(frame)) = &polled {
            match frame.data_ref() {
                Some(bytes) => this.given_bytes += bytes.len() as u64,
                None => this.trailers_given = true,
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.borrow();
        source.ended
            && source.attempt == self.number
            && self.next_kept >= source.kept.len()
            && (self.trailers_given || source.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let length = &self.source.borrow().length;
        match length.exact() {
            Some(exact) => SizeHint::with_exact(exact.saturating_sub(self.given_bytes)),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn read(body: Body) -> Result<Bytes, BodyError> {
        Ok(body.collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn a_short_body_is_read_again() {
        let replay = Replay::new(Body::text("hello"));
        assert_eq!(read(replay.attempt()).await.unwrap(), "hello");
        assert!(replay.can_replay() && replay.is_complete());
        assert_eq!(read(replay.attempt()).await.unwrap(), "hello");
        assert_eq!(replay.read_bytes(), 5);
    }

    #[tokio::test]
    async fn a_long_body_passes_once() {
        let replay = Replay::new(Body::text(vec![7; KEPT_BYTES_MAX + 1]));
        assert!(replay.can_replay());
        assert_eq!(read(replay.attempt()).await.unwrap().len(), KEPT_BYTES_MAX + 1);
        assert!(!replay.can_replay());
    }

    #[tokio::test]
    async fn an_older_attempt_reads_nothing_more() {
        let replay = Replay::new(Body::text("hello"));
        let first = replay.attempt();
        let second = replay.attempt();
        assert!(read(first).await.is_err());
        assert_eq!(read(second).await.unwrap(), "hello");
    }
}
