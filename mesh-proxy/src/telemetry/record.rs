//! What becomes known of one request, from its head to its answer's last byte: then it is counted and logged, once.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Response, Version};
use mesh_core::reason::Reason;

use super::access::Line;
use super::grpc::Messages;
use super::labels::{Outcome, Protocol, Route};
use super::own::Direction;
use super::series::RequestSample;
use crate::config::View;
use crate::http::body::{Body, End, Observed, Observer};
use crate::http::head::head_bytes;
use crate::http::hygiene::REQUEST_ID;
use crate::http::local;
use crate::http::replay::Replay;
use crate::listen::local::Local;
use crate::upstream::pool::{Lease, Terms};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is known of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct ClientFacts {
    /// The client.
    pub(crate) remote: SocketAddr,
    /// Where it was going.
    pub(crate) original: SocketAddr,
    /// The name in its ClientHello.
    pub(crate) sni: Option<Rc<str>>,
    /// Its verified identity.
    pub(crate) principal: Option<Rc<str>>,
}

/// Fields of the head that only the log wants. Values are shared with the head, not copied.
#[derive(Debug)]
struct Logged {
    method: Method,
    target: String,
    version: Version,
    forwarded_for: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    authority: String,
}

/// A failure that the proxy answers itself.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Why.
    pub(crate) reason: Reason,
    /// More than the catalogue says, for the client.
    pub(crate) detail: Option<String>,
    /// More than that, for the log only.
    pub(crate) inside: Option<String>,
    /// The request provably did not reach the application.
    pub(crate) unsent: bool,
}

impl Failure {
    /// A failure with a detail.
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: Some(detail.into()), inside: None, unsent: false }
    }

    /// The request provably did not reach the application.
    pub(crate) fn unsent(self) -> Self {
        Self { unsent: true, ..self }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None, inside: None, unsent: false }
    }
}

/// One request.
pub(crate) struct Record {
    local: Rc<Local>,
    view: Arc<View>,
    direction: Direction,
    client: Rc<ClientFacts>,
    begun: Instant,
    start: SystemTime,
    request_bytes: u64,
    logged: Option<Box<Logged>>,
    /// It is gRPC.
    pub(crate) grpc: bool,
    /// The labels of its series; without them it is not counted.
    pub(crate) labels: Option<Arc<Route>>,
    /// Its body.
    pub(crate) body: Option<Replay>,
    /// Where it went.
    pub(crate) upstream_host: Option<SocketAddr>,
    /// From where.
    pub(crate) upstream_local: Option<SocketAddr>,
    /// `outbound|9080|v1|reviews…`.
    pub(crate) cluster: Option<Rc<str>>,
    /// The rule's name.
    pub(crate) route: Option<Arc<str>>,
    /// Attempts made.
    pub(crate) attempts: u32,
    /// Time from sending the last attempt to its answer's head.
    pub(crate) upstream_time: Option<Duration>,
    /// What the transport said when it failed.
    pub(crate) upstream_failure: Option<String>,
    /// The policy or object that decided.
    pub(crate) policy: Option<String>,
    /// The connection to the destination, given back at the end.
    pub(crate) lease: Option<(Lease, Terms)>,
    /// Kept until the end (places in limits, counts of active requests, …).
    pub(crate) guards: Vec<Box<dyn std::any::Any>>,
    code: u16,
    grpc_status: Option<u8>,
    flags: &'static str,
    reason: Option<Reason>,
    details: Option<String>,
    response_bytes: u64,
    response_messages: Messages,
    ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    NotAnswered,
    Complete,
    ClientGone,
    Truncated,
}

impl Record {
    /// Begins with the head as it was received.
    pub(crate) fn begin(
        local: &Rc<Local>,
        view: &Arc<View>,
        direction: Direction,
        client: &Rc<ClientFacts>,
        parts: &Parts,
    ) -> Self {
        let target_bytes = parts.uri.path_and_query().map_or(1, |path| path.as_str().len());
        Self {
            begun: Instant::now(),
            start: SystemTime::now(),
            request_bytes: head_bytes(&parts.headers) + target_bytes as u64,
            logged: local.access_log(view).is_some().then(|| Box::new(Logged::of(parts))),
            grpc: local::is_grpc(&parts.headers),
            local: Rc::clone(local),
            view: Arc::clone(view),
            direction,
            client: Rc::clone(client),
            labels: None,
            body: None,
            upstream_host: None,
            upstream_local: None,
            cluster: None,
            route: None,
            attempts: 0,
            upstream_time: None,
            upstream_failure: None,
            policy: None,
            lease: None,
            guards: Vec::new(),
            code: 0,
            grpc_status: None,
            flags: "",
            reason: None,
            details: None,
            response_bytes: 0,
            response_messages: Messages::default(),
            ended: Ended::NotAnswered,
        }
    }

    /// The protocol that its series has.
    pub(crate) fn protocol(&self) -> Protocol {
        if self.grpc { Protocol::Grpc } else { Protocol::Http }
    }

    /// What the request's head turned out to be, for the log.
    pub(crate) fn aimed(&mut self, authority: &str, headers: &HeaderMap) {
        if let Some(logged) = &mut self.logged {
            authority.clone_into(&mut logged.authority);
            logged.request_id = headers.get(&REQUEST_ID).cloned();
        }
    }

    /// Notes why the answer is what it is, where a proxy (ours or another) made it.
    pub(crate) fn explain(&mut self, reason: Reason, detail: Option<&str>) {
        self.reason = Some(reason);
        self.flags = Some(reason.flag()).filter(|flag| *flag != "-").unwrap_or_default();
        self.details = Some(match detail {
            Some(detail) => format!("{}{{{detail}}}", reason.code()),
            None => reason.code().to_owned(),
        });
    }

    /// Why the answer is what it is, where a proxy made it.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// Notes that the request was delayed on purpose.
    pub(crate) fn delayed(&mut self) {
        self.flags = Reason::DelayInjected.flag();
    }

    /// The proxy's own answer.
    pub(crate) fn fail(mut self, failure: &Failure) -> Response<Observed> {
        self.local.count_refusal(self.direction, failure.reason);
        self.explain(failure.reason, failure.inside.as_ref().or(failure.detail.as_ref()).map(String::as_str));
        if failure.inside.is_some() {
            self.policy.clone_from(&failure.inside);
        }
        let response = local::answer(failure.reason, failure.detail.as_deref(), self.grpc, failure.unsent);
        self.deliver(response)
    }

    /// Passes an answer on; the request is over when its body is.
    pub(crate) fn deliver(mut self, response: Response<Body>) -> Response<Observed> {
        self.code = response.status().as_u16();
        self.grpc_status = local::grpc_status(response.headers());
        self.response_bytes = head_bytes(response.headers());
        self.ended = Ended::ClientGone;
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, Observed::new(body, Box::new(self)))
    }

    fn sample(&self) -> RequestSample {
        let (body_bytes, messages) = self.body.as_ref().map_or((0, 0), |body| (body.read_bytes(), body.messages()));
        RequestSample {
            duration: self.begun.elapsed(),
            request_bytes: self.request_bytes + body_bytes,
            response_bytes: self.response_bytes,
            request_messages: messages,
            response_messages: self.response_messages.count(),
        }
    }

    fn finish(&mut self) {
        match self.ended {
            Ended::Complete => {}
            Ended::Truncated => {
                self.local.count_refusal(self.direction, Reason::ResponseTruncated);
                self.explain(Reason::ResponseTruncated, None);
            }
            Ended::NotAnswered | Ended::ClientGone => {
                self.local.count_refusal(self.direction, Reason::ClientGone);
                self.explain(Reason::ClientGone, None);
                if self.ended == Ended::NotAnswered {
                    self.code = 0;
                }
            }
        }
        let sample = self.sample();
        if let Some(labels) = &self.labels {
            let grpc = if self.grpc { self.grpc_status } else { None };
            let outcome = Outcome { code: Some(self.code), grpc, flags: self.flags };
            self.local.http.with(labels, outcome, |numbers| numbers.add(&sample));
        }
        self.log(&sample);
    }

    fn log(&self, sample: &RequestSample) {
        let (Some(logged), Some(log)) = (&self.logged, self.local.access_log(&self.view)) else { return };
        let responsible = self.reason.map(|reason| reason.responsible().as_str());
        let line = Line {
            start: Some(self.start),
            method: Some(logged.method.as_str().as_bytes()),
            path: Some(logged.target.as_bytes()),
            protocol: Some(version(logged.version)),
            code: self.code,
            flags: self.flags,
            details: self.details.as_deref(),
            termination: None,
            upstream_failure: self.upstream_failure.as_deref(),
            bytes_received: self.body.as_ref().map_or(0, Replay::read_bytes),
            bytes_sent: sample.response_bytes,
            duration: sample.duration,
            upstream_time: self.upstream_time,
            forwarded_for: logged.forwarded_for.as_ref().map(HeaderValue::as_bytes),
            user_agent: logged.user_agent.as_ref().map(HeaderValue::as_bytes),
            request_id: logged.request_id.as_ref().map(HeaderValue::as_bytes),
            authority: Some(logged.authority.as_bytes()),
            upstream_host: self.upstream_host,
            upstream_cluster: self.cluster.as_deref(),
            upstream_local: self.upstream_local,
            downstream_local: Some(self.client.original),
            downstream_remote: Some(self.client.remote),
            server_name: self.client.sni.as_deref(),
            route: self.route.as_deref(),
            reason: self.reason.map(Reason::code),
            responsible,
            policy: self.policy.as_deref(),
            attempts: self.attempts,
            peer: self.client.principal.as_deref(),
        };
        self.local.log.add(log, &line);
    }
}

impl Observer for Record {
    fn data(&mut self, bytes: &Bytes) {
        self.response_bytes += bytes.len() as u64;
        if self.grpc {
            self.response_messages.add(bytes);
        }
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        crate::http::hygiene::remove_mesh(trailers);
        self.grpc_status = local::grpc_status(trailers).or(self.grpc_status);
    }

    fn end(mut self: Box<Self>, how: End) {
        let this = &mut *self;
        this.ended = match how {
            End::Complete => Ended::Complete,
            End::Failed(error) => {
                this.upstream_failure = Some(error.to_string());
                Ended::Truncated
            }
            End::Abandoned => Ended::ClientGone,
        };
        let complete = self.ended == Ended::Complete && self.body.as_ref().is_none_or(Replay::is_complete);
        if let (Some((lease, terms)), true) = (self.lease.take(), complete) {
            self.local.pool.give_back(lease, &terms);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Logged {
    fn of(parts: &Parts) -> Self {
        Self {
            method: parts.method.clone(),
            target: parts.uri.path_and_query().map_or_else(|| parts.uri.to_string(), |path| path.as_str().to_owned()),
            version: parts.version,
            forwarded_for: parts.headers.get(FORWARDED_FOR).cloned(),
            user_agent: parts.headers.get(USER_AGENT).cloned(),
            request_id: parts.headers.get(&REQUEST_ID).cloned(),
            authority: String::new(),
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
