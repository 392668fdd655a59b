//! Bodies: one type for all that the proxy sends, and an observer of what passes.
//!
//! A body is a stream of chunks that is polled only when the other side has room, so that memory stays bounded
//! whatever its length is.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::replay;

/// Why a body could not be passed on to its end.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a message that the proxy sends.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// None.
    #[default]
    Empty,
    /// One piece of our own.
    Full(Option<Bytes>),
    /// What the other side sends.
    Incoming(Incoming),
    /// What the client sends, kept for another attempt.
    Replay(replay::Attempt),
}

impl Body {
    /// A body of our own; empty text is no body.
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        let bytes = text.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Replay(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Replay(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Incoming(body) => body.size_hint(),
            Self::Replay(body) => body.size_hint(),
        }
    }
}

/// How a body ended.
#[derive(Debug)]
pub(crate) enum End {
    /// To its last byte and trailer.
    Complete,
    /// The sender failed.
    Failed(BodyError),
    /// The receiver went away, or did not want the rest.
    Abandoned,
}

/// Sees what passes through an [`Observed`] body. `end` is called exactly once.
pub(crate) trait Observer {
    /// A chunk passes.
    fn data(&mut self, bytes: &Bytes);
    /// Trailers pass; what must not reach the receiver is removed here.
    fn trailers(&mut self, trailers: &mut HeaderMap);
    /// The body is over.
    fn end(self: Box<Self>, how: End);
}

/// A body with an observer.
pub(crate) struct Observed {
    body: Body,
    observer: Option<Box<dyn Observer>>,
}

impl Observed {
    /// Watches `body`.
    pub(crate) fn new(body: Body, observer: Box<dyn Observer>) -> Self {
        Self { body, observer: Some(observer) }
    }

    fn end(&mut self, how: End) {
        if let Some(observer) = self.observer.take() {
            observer.end(how);
        }
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        match polled {
            Some(Ok(mut frame)) => {
                if let Some(observer) = &mut this.observer {
                    if let Some(bytes) = frame.data_ref() {
                        observer.data(bytes);
                    } else if let Some(trailers) = frame.trailers_mut() {
                        observer.trailers(trailers);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let told = error.to_string();
                this.end(End::Failed(error));
                Poll::Ready(Some(Err(told.into())))
            }
            None => {
                this.end(End::Complete);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        // hyper does not poll a body again once its declared length has passed.
        let how = if self.body.is_end_stream() { End::Complete } else { End::Abandoned };
        self.end(how);
    }
}
