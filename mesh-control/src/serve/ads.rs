//! `DeltaAggregatedResources`: who may have a stream, and the task that runs it.
//!
//! A stream begins with `node.id`, the pod's uid. It is served only if the service account of that pod is the
//! authenticated caller; a pod that is not known yet is waited for, since a proxy can be faster than the news of its
//! pod. From then on one task owns the stream: it waits, [`Session`] decides.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_api::Encoded;
use mesh_api::proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use mesh_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_core::config::{ResourceName, ServiceName};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};

use super::proxies::{Proxies, Proxy};
use super::session::{Config, Session};
use crate::authn::{Authn, Caller, Connection};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::publish::{Mailbox, StreamId, View};

/// How long a stream may be open before its first request.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(10);
/// How long a pod that is not known yet is waited for.
const POD_WAIT: Duration = Duration::from_secs(5);
/// How long a proxy that reads nothing is waited for, to tell it why its stream ends.
const LAST_WORD_WAIT: Duration = Duration::from_secs(5);
/// Responses between the session and the transport: the next is made only when this one is taken.
const RESPONSES_BUFFERED: usize = 1;
/// Streams at once, those included that wait for their pod.
const STREAMS_MAX: usize = 16_384;
/// Names in one request that are looked at without telling the runtime that it takes longer.
const NAMES_IN_PASSING_MAX: usize = 64;
/// Longest `node.id` and user agent that is kept, in bytes.
const NODE_TEXT_BYTES_MAX: usize = 256;

/// The service.
#[derive(Clone)]
pub(crate) struct Ads {
    index: Arc<Index>,
    authn: Authn,
    proxies: Arc<Proxies>,
    metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
    /// Owns the tasks of all streams.
    tasks: TaskTracker,
    /// Ends them.
    stop: CancellationToken,
}

impl Ads {
    pub(crate) fn new(
        index: Arc<Index>,
        authn: Authn,
        proxies: Arc<Proxies>,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self { index, authn, proxies, metrics, slots: Arc::new(Semaphore::new(STREAMS_MAX)), tasks, stop }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let Some(connection) = request.extensions().get::<Connection>() else {
            return Err(Status::internal("the connection is not described"));
        };
        let caller = self.authn.caller(connection, request.metadata()).await.map_err(|refused| {
            self.metrics.streams_refused.add(1);
            tracing::info!(peer = ?connection.peer, reason = %refused, "a proxy is refused: it is not authenticated");
            Status::unauthenticated(refused.to_string())
        })?;
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            self.metrics.streams_refused.add(1);
            return Err(Status::resource_exhausted("too many proxies are connected to this control plane"));
        };
        let (responses, receiver) = mpsc::channel(RESPONSES_BUFFERED);
        let stop = self.stop.child_token();
        let stream = Stream { ads: self.clone(), caller, requests: request.into_inner(), responses, stop };
        self.tasks.spawn(async move {
            stream.run().await;
            drop(slot);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

struct Stream {
    ads: Ads,
    caller: Caller,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    /// Ends this stream: its own, below that of all.
    stop: CancellationToken,
}

impl Stream {
    async fn run(mut self) {
        let end = match self.begin().await {
            Ok((first, uid)) => self.serve(first, uid).await,
            Err(status) => {
                self.ads.metrics.streams_refused.add(1);
                tracing::info!(caller = %self.caller.identity, reason = status.message(), "a stream is refused");
                Some(status)
            }
        };
        if let Some(status) = end {
            // Gone already is as well.
            let _ = timeout(LAST_WORD_WAIT, self.responses.send(Err(status))).await;
        }
    }

    /// Waits for the first request and for the pod that it names, and authorizes it.
    async fn begin(&mut self) -> Result<(DeltaDiscoveryRequest, Arc<str>), Status> {
        let first = match timeout(FIRST_REQUEST_WAIT, self.requests.message()).await {
            Ok(first) => first?.ok_or_else(|| Status::cancelled("the stream ended before its first request"))?,
            Err(_) => return Err(Status::deadline_exceeded("no request came")),
        };
        let uid: Arc<str> = match &first.node {
            Some(node) if !node.id.is_empty() && node.id.len() <= NODE_TEXT_BYTES_MAX => node.id.as_str().into(),
            _ => return Err(Status::invalid_argument("node.id must be the uid of the pod")),
        };
        if self.caller.pod_uid.as_ref().is_some_and(|bound| *bound != uid) {
            return Err(Status::permission_denied("the token belongs to another pod than node.id"));
        }
        let owner = tokio::select! {
            owner = timeout(POD_WAIT, self.identity_of(&uid)) => owner,
            () = self.responses.closed() => return Err(Status::cancelled("the proxy went away")),
            () = self.stop.cancelled() => return Err(self.stopped()),
        };
        match owner {
            Ok(Some(owner)) if owner == self.caller.identity => Ok((first, uid)),
            Ok(Some(_)) => {
                Err(Status::permission_denied(format!("the pod {uid} does not run as {}", self.caller.identity)))
            }
            Ok(None) | Err(_) => {
                let seconds = POD_WAIT.as_secs();
                Err(Status::unavailable(format!("the pod {uid} is not known here after {seconds} s; try again")))
            }
        }
    }

    async fn identity_of(&self, uid: &str) -> Option<mesh_core::identity::SpiffeId> {
        let mut generations = self.ads.index.generations();
        loop {
            generations.mark_unchanged();
            if let Some(identity) = self.ads.index.identity_of(uid) {
                return Some(identity);
            }
            generations.changed().await.ok()?;
        }
    }

    async fn serve(&mut self, first: DeltaDiscoveryRequest, uid: Arc<str>) -> Option<Status> {
        let view: View = self.caller.identity.namespace().into();
        let mailbox = Arc::new(Mailbox::default());
        let id = self.ads.index.open(view.clone(), mailbox.clone());
        let proxy = self.describe(&first, &uid, mailbox.clone());
        self.ads.proxies.add(id, proxy);
        tracing::info!(pod = %uid, caller = %self.caller.identity, method = %self.caller.method, "a proxy is connected");
        let mut session = Session::default();
        let held = Held { index: self.ads.index.clone(), stream: id, view, uid: uid.clone() };
        let end = self.follow(first, &mut session, &held, &mailbox).await;
        self.ads.proxies.remove(id);
        self.ads.index.close(id, session.subscriptions());
        let reason = end.as_ref().map_or("it went away", Status::message);
        tracing::info!(pod = %uid, reason, "a proxy is disconnected");
        end
    }

    fn describe(&self, first: &DeltaDiscoveryRequest, uid: &Arc<str>, mailbox: Arc<Mailbox>) -> Proxy {
        let identity = self.caller.identity.clone();
        let (namespace, pod) = self.ads.index.pod_of(uid).unwrap_or_default();
        let version = first.node.as_ref().map(|node| node.user_agent_version.clone()).unwrap_or_default();
        let version = version.chars().filter(|c| c.is_ascii_graphic()).take(NODE_TEXT_BYTES_MAX).collect();
        Proxy {
            uid: uid.clone(),
            namespace,
            pod,
            identity,
            address: self.caller.peer,
            connected_at: SystemTime::now(),
            version,
            types: Default::default(),
            rejected: Vec::new(),
            mailbox,
            seen: 0,
            credential_expires: matches!(self.caller.method, crate::authn::Method::Certificate)
                .then_some(self.caller.expires),
            stop: self.stop.clone(),
        }
    }

    /// The life of the stream; `None` where the proxy ended it.
    async fn follow(
        &mut self,
        first: DeltaDiscoveryRequest,
        session: &mut Session,
        held: &Held,
        mailbox: &Mailbox,
    ) -> Option<Status> {
        let lifetime = self.caller.expires.duration_since(SystemTime::now()).unwrap_or_default();
        let expiry = tokio::time::sleep(lifetime);
        tokio::pin!(expiry);
        let mut next = Some(first);
        let mut seen = 0;
        loop {
            if let Some(request) = next.take()
                && let Err(status) = self.take(request, session, held)
            {
                return Some(status);
            }
            self.ads.proxies.update(held.stream, session.sync(), session.rejected(), seen);
            let wait = session.deadline();
            let ready = session.has_response(Instant::now());
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Some(self.stopped()),
                () = &mut expiry => {
                    return Some(Status::unauthenticated("the credential of this stream has expired; connect again"));
                }
                request = self.requests.message() => match request {
                    Ok(Some(request)) => next = Some(request),
                    Ok(None) => return None,
                    // The connection broke: nobody is there to be told.
                    Err(status) if matches!(status.code(), Code::Unknown | Code::Cancelled | Code::Unavailable) => {
                        tracing::debug!(pod = %held.uid, reason = status.message(), "the connection broke");
                        return None;
                    }
                    Err(status) => return Some(status),
                },
                () = mailbox.marked() => {
                    let marks = mailbox.take();
                    seen = marks.count;
                    session.changed(marks, held);
                }
                permit = self.responses.reserve(), if ready => {
                    let Ok(permit) = permit else { return None };
                    if let Some((kind, response)) = session.respond(held, Instant::now()) {
                        let count = response.resources.len() + response.removed_resources.len();
                        self.ads.metrics.pushes.of(kind).add(1);
                        self.ads.metrics.resources.of(kind).add(count as u64);
                        permit.send(Ok(response));
                    }
                }
                () = self.responses.closed() => return None,
                () = sleep_until(wait.unwrap_or_else(Instant::now).into()), if wait.is_some() && !ready => {}
            }
        }
    }

    fn stopped(&self) -> Status {
        match self.ads.stop.is_cancelled() {
            true => Status::unavailable("this control plane is stopping; connect again"),
            false => Status::aborted("newer streams of this pod took the place of this one"),
        }
    }

    fn take(&self, request: DeltaDiscoveryRequest, session: &mut Session, held: &Held) -> Result<(), Status> {
        let names = request.resource_names_subscribe.len() + request.initial_resource_versions.len();
        let taken = match names <= NAMES_IN_PASSING_MAX {
            true => session.request(request, held, Instant::now()),
            // Compiling thousands of names takes a while: other streams of this thread move on.
            false => tokio::task::block_in_place(|| session.request(request, held, Instant::now())),
        };
        let (kind, outcome) = taken.map_err(|misuse| Status::invalid_argument(misuse.to_string()))?;
        if let Some(changed) = outcome.acknowledged {
            self.ads.metrics.convergence_seconds.observe(changed.elapsed());
        }
        if !outcome.rejected.is_empty() {
            self.ads.metrics.rejects.of(kind).add(1);
        }
        for rejected in &outcome.rejected {
            tracing::warn!(
                pod = %held.uid, resource = rejected.name, reason = rejected.reason,
                "a proxy cannot use a resource and keeps its last one: this is a defect of the mesh, please report it"
            );
        }
        Ok(())
    }
}

/// The index as one stream sees it.
pub(super) struct Held {
    pub(super) index: Arc<Index>,
    pub(super) stream: StreamId,
    pub(super) view: View,
    pub(super) uid: Arc<str>,
}

impl Config for Held {
    fn subscribe(&self, name: &ResourceName) {
        self.index.subscribe(self.stream, name);
    }

    fn unsubscribe(&self, name: &ResourceName) {
        self.index.unsubscribe(self.stream, name);
    }

    fn get(&self, name: &ResourceName) -> Option<Arc<Encoded>> {
        self.index.get(&self.view, name)
    }

    fn members(&self, service: &ServiceName) -> Vec<Arc<str>> {
        self.index.members(&self.view, service)
    }

    fn exists(&self, name: &ResourceName) -> bool {
        self.index.exists(&self.view, name)
    }

    fn may_appear(&self, name: &ResourceName) -> bool {
        self.index.may_appear(&self.view, name)
    }

    /// A proxy gets what its namespace sees, and of inbound configuration only its own.
    fn may_subscribe(&self, name: &ResourceName) -> bool {
        match name {
            ResourceName::Inbound(uid) => *uid == self.uid,
            ResourceName::MeshSettings
            | ResourceName::Address(_)
            | ResourceName::Host(..)
            | ResourceName::Service(_)
            | ResourceName::Endpoint(..)
            | ResourceName::Endpoints(_)
            | ResourceName::RouteTable(_) => true,
        }
    }
}
