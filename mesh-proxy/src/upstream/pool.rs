//! One worker's connections to destinations.
//!
//! A pool's key is the whole [`Target`]: address, identity, what is spoken. HTTP/1.1 connections wait for their next
//! request, the most recently used first; HTTP/2 connections are shared up to the streams that the server takes, and a
//! new one is opened when all are full. A connection that the other side closed is noticed when it happens, not at the
//! next request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use mesh_tls::ClientTls;
use tokio::sync::Notify;

use super::connection::Connection;
use super::dial::{DialFault, Dialled, dial};
use super::failure::{Proof, SendFault};
use super::http2::{Http2, Stream};
use super::target::{Speaks, Target};
use crate::http::body::Body;
use crate::telemetry::exposition::Metrics;

/// HTTP/1.1 connections that wait, per destination.
const IDLE_PER_TARGET_MAX: usize = 128;
/// HTTP/1.1 connections that wait, in one worker.
const IDLE_MAX: usize = 1024;

/// How connections to a destination are treated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Time to connect, handshake included.
    pub(crate) connect_timeout: Duration,
    /// Time that a connection may wait for its next request; zero is for ever.
    pub(crate) idle_timeout: Duration,
    /// Requests that one connection may carry; 0 is without limit.
    pub(crate) requests_max: u32,
    /// Longest life of a connection.
    pub(crate) life: Option<Duration>,
}

/// One worker's connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool(Rc<Inner>);

struct Inner {
    buckets: RefCell<HashMap<Target, Bucket>>,
    idle: Cell<usize>,
    tls: ClientTls,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Bucket {
    idle: Vec<Idle>,
    shared: Vec<Rc<Http2>>,
    /// Somebody opens an HTTP/2 connection that others can use as well.
    opening: Option<Rc<Opening>>,
    /// Since when no shared connection has carried a stream.
    unused_since: Option<Instant>,
    shared_idle_timeout: Duration,
}

struct Idle {
    sender: http1::SendRequest<Body>,
    connection: Rc<Connection>,
    until: Option<Instant>,
}

#[derive(Default)]
struct Opening {
    done: Notify,
    failed: Cell<bool>,
}

/// A connection in use by one request.
#[derive(Debug)]
pub(crate) struct Lease {
    sender: Sender,
    /// What is known of the connection.
    pub(crate) connection: Rc<Connection>,
    /// It had carried requests before.
    pub(crate) reused: bool,
    written_before: u64,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>, #[expect(dead_code, reason = "counts as long as it lives")] Stream),
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(tls: ClientTls, metrics: Arc<Metrics>) -> Self {
        Self(Rc::new(Inner { buckets: RefCell::default(), idle: Cell::new(0), tls, metrics }))
    }

    /// Opens a connection that is not pooled.
    ///
    /// # Errors
    /// See [`DialFault`].
    pub(crate) async fn dial(&self, target: &Target, limit: Duration) -> Result<Dialled, DialFault> {
        let dialled = dial(&self.0.tls, target, limit).await?;
        self.0.metrics.own.upstream_opened.fetch_add(1, Ordering::Relaxed);
        Ok(dialled)
    }

    /// A connection for one request: a pooled one, or a new one. With `new`, only a new one will do.
    ///
    /// # Errors
    /// See [`DialFault`]; nothing was sent.
    pub(crate) async fn lease(&self, target: &Target, terms: &Terms, new: bool) -> Result<Lease, DialFault> {
        match target.speaks {
            Speaks::Http2 if new => self.open_shared(target, terms).await,
            Speaks::Http2 => self.lease_shared(target, terms).await,
            Speaks::Http1 | Speaks::Opaque => self.lease_alone(target, terms, new).await,
        }
    }

    async fn lease_alone(&self, target: &Target, terms: &Terms, new: bool) -> Result<Lease, DialFault> {
        while let Some(mut idle) = if new { None } else { self.pop(target) } {
            // It is ready unless it was closed in the meantime.
            if idle.sender.is_ready() || idle.sender.ready().await.is_ok() {
                self.0.metrics.own.upstream_reused.fetch_add(1, Ordering::Relaxed);
                return Ok(Lease::new(Sender::Http1(idle.sender), idle.connection, true));
            }
        }
        let dialled = self.dial(target, terms.connect_timeout).await?;
        let connection = Connection::new(target.clone(), &dialled);
        let sender = super::http1::begin(dialled.io, Rc::clone(&connection), self.counted_open(target))
            .await
            .map_err(|error| DialFault::Connect(std::io::Error::other(error)))?;
        Ok(Lease::new(Sender::Http1(sender), connection, false))
    }

    async fn lease_shared(&self, target: &Target, terms: &Terms) -> Result<Lease, DialFault> {
        let mut alone = false;
        loop {
            if let Some(lease) = self.find_shared(target, terms) {
                return Ok(lease);
            }
            let opening = self.0.buckets.borrow().get(target).and_then(|bucket| bucket.opening.clone());
            match opening {
                Some(opening) if !alone => {
                    opening.done.notified().await;
                    // A destination that cannot be reached is told to each by its own attempt, not one after another.
                    alone = opening.failed.get();
                }
                Some(_) | None => return self.open_shared(target, terms).await,
            }
        }
    }

    async fn open_shared(&self, target: &Target, terms: &Terms) -> Result<Lease, DialFault> {
        let announced = Announced::new(self, target);
        let dialled = self.dial(target, terms.connect_timeout).await?;
        let connection = Connection::new(target.clone(), &dialled);
        let opened = super::http2::begin(dialled.io, Rc::clone(&connection), self.counted_open(target))
            .await
            .map_err(|error| DialFault::Connect(std::io::Error::other(error)))?;
        let opened = Rc::new(opened);
        let lease = lease_stream(&opened, false);
        let mut buckets = self.0.buckets.borrow_mut();
        let bucket = buckets.entry(target.clone()).or_default();
        bucket.shared.push(opened);
        bucket.unused_since = None;
        bucket.shared_idle_timeout = terms.idle_timeout;
        drop(buckets);
        announced.succeed();
        Ok(lease)
    }

    fn find_shared(&self, target: &Target, terms: &Terms) -> Option<Lease> {
        let mut buckets = self.0.buckets.borrow_mut();
        let bucket = buckets.get_mut(target)?;
        let old = |shared: &Http2| terms.life.is_some_and(|life| shared.connection.opened.elapsed() >= life);
        let found = bucket.shared.iter().find(|shared| shared.has_room(terms.requests_max) && !old(shared))?;
        bucket.unused_since = None;
        self.0.metrics.own.upstream_reused.fetch_add(1, Ordering::Relaxed);
        Some(lease_stream(found, true))
    }

    /// Ends a lease whose answer was read to its end; the connection may carry another request.
    pub(crate) fn give_back(&self, lease: Lease, terms: &Terms) {
        let Sender::Http1(sender) = lease.sender else { return };
        let connection = lease.connection;
        let used_up = terms.requests_max > 0 && connection.requests.get() >= terms.requests_max;
        let old = terms.life.is_some_and(|life| connection.opened.elapsed() >= life);
        if sender.is_closed() || used_up || old || self.0.idle.get() >= IDLE_MAX {
            return;
        }
        let until = (!terms.idle_timeout.is_zero()).then(|| Instant::now() + terms.idle_timeout);
        let mut buckets = self.0.buckets.borrow_mut();
        let bucket = buckets.entry(connection.target.clone()).or_default();
        if bucket.idle.len() < IDLE_PER_TARGET_MAX {
            bucket.idle.push(Idle { sender, connection, until });
            self.0.idle.set(self.0.idle.get() + 1);
        }
    }

    /// Closes what has waited too long. Called every second or so.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut buckets = self.0.buckets.borrow_mut();
        for bucket in buckets.values_mut() {
            bucket.idle.retain(|idle| !idle.sender.is_closed() && idle.until.is_none_or(|until| now < until));
            bucket.shared.retain(|shared| !shared.sender.is_closed() || !shared.is_idle());
            if bucket.shared.iter().any(|shared| !shared.is_idle()) {
                bucket.unused_since = None;
            } else if bucket.shared_idle_timeout > Duration::ZERO {
                let since = *bucket.unused_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= bucket.shared_idle_timeout {
                    bucket.shared.clear();
                }
            }
        }
        buckets.retain(|_, bucket| !bucket.is_empty());
        self.0.idle.set(buckets.values().map(|bucket| bucket.idle.len()).sum());
    }

    /// Closes all connections that nothing uses.
    pub(crate) fn close_idle(&self) {
        self.0.buckets.borrow_mut().clear();
        self.0.idle.set(0);
    }

    fn pop(&self, target: &Target) -> Option<Idle> {
        let mut buckets = self.0.buckets.borrow_mut();
        let bucket = buckets.get_mut(target)?;
        while let Some(idle) = bucket.idle.pop() {
            self.0.idle.set(self.0.idle.get().saturating_sub(1));
            if !idle.sender.is_closed() && idle.until.is_none_or(|until| Instant::now() < until) {
                return Some(idle);
            }
        }
        None
    }

    /// Counts a connection as open; what is returned runs when it has ended.
    fn counted_open(&self, target: &Target) -> impl FnOnce() + 'static {
        self.0.metrics.own.upstream_open.fetch_add(1, Ordering::Relaxed);
        let (metrics, pool, target) = (Arc::clone(&self.0.metrics), Rc::downgrade(&self.0), target.clone());
        move || {
            metrics.own.upstream_open.fetch_sub(1, Ordering::Relaxed);
            forget_closed(&pool, &target);
        }
    }
}

/// Drops the pooled connections of a target that have ended.
fn forget_closed(pool: &Weak<Inner>, target: &Target) {
    let Some(pool) = pool.upgrade() else { return };
    let mut buckets = pool.buckets.borrow_mut();
    let Some(bucket) = buckets.get_mut(target) else { return };
    let before = bucket.idle.len();
    bucket.idle.retain(|idle| !idle.sender.is_closed());
    bucket.shared.retain(|shared| !shared.sender.is_closed());
    pool.idle.set(pool.idle.get().saturating_sub(before - bucket.idle.len()));
    if bucket.is_empty() {
        buckets.remove(target);
    }
}

impl Bucket {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_empty() && self.opening.is_none()
    }
}

/// Tells others that an HTTP/2 connection is being opened; however it ends, they are woken.
struct Announced<'p> {
    pool: &'p Pool,
    target: &'p Target,
    opening: Rc<Opening>,
}

impl<'p> Announced<'p> {
    fn new(pool: &'p Pool, target: &'p Target) -> Self {
        let opening = Rc::new(Opening { done: Notify::new(), failed: Cell::new(true) });
        pool.0.buckets.borrow_mut().entry(target.clone()).or_default().opening = Some(Rc::clone(&opening));
        Self { pool, target, opening }
    }

    fn succeed(self) {
        self.opening.failed.set(false);
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let mut buckets = self.pool.0.buckets.borrow_mut();
        if let Some(bucket) = buckets.get_mut(self.target) {
            bucket.opening.take_if(|opening| Rc::ptr_eq(opening, &self.opening));
        }
        self.opening.done.notify_waiters();
    }
}

fn lease_stream(shared: &Rc<Http2>, reused: bool) -> Lease {
    let sender = Sender::Http2(shared.sender.clone(), shared.stream());
    Lease::new(sender, Rc::clone(&shared.connection), reused)
}

impl Lease {
    fn new(sender: Sender, connection: Rc<Connection>, reused: bool) -> Self {
        connection.requests.set(connection.requests.get() + 1);
        let written_before = connection.written();
        Self { sender, connection, reused, written_before }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future gives the request up: HTTP/1.1 closes
    /// the connection, HTTP/2 resets the stream.
    ///
    /// # Errors
    /// See [`SendFault`].
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, SendFault> {
        let (sent, is_http2) = match &mut self.sender {
            Sender::Http1(sender) => (sender.try_send_request(request).await, false),
            Sender::Http2(sender, _) => (sender.try_send_request(request).await, true),
        };
        let mut failed = match sent {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        let unwritten = failed.take_message().is_some();
        let error = failed.into_error();
        let proof = if unwritten {
            Proof::NothingWritten
        } else if is_http2 {
            Proof::of_http2(&error)
        } else if self.reused
            && super::failure::is_fin(&error)
            && self.connection.nothing_acked_after(self.written_before)
        {
            Proof::Unacknowledged
        } else {
            Proof::None
        };
        Err(SendFault { error, proof })
    }
}
