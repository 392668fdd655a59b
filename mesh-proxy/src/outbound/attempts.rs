//! The attempts of one request: an endpoint each, until there is an answer that is worth delivering.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use mesh_core::config::{Endpoint, Protocol, ProxyKind};
use mesh_core::limits::Limit;
use mesh_core::outlier;
use mesh_core::reason::Reason;
use mesh_core::retry::{self, Attempt, Next, Retry};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::attempt::{self, Attempted};
use super::http::Connection;
use super::labels;
use super::plan::{Plan, To, label};
use crate::config::{Cluster, View};
use crate::http::head::{self, Target as Aim};
use crate::http::hop::{self, Hop};
use crate::http::hygiene::{MESH_PEER, MESH_UPGRADED};
use crate::http::replay::Replay;
use crate::listen::local::Local;
use crate::telemetry::record::{ClientFacts, Failure, Record};
use crate::upstream::pool::Terms;
use crate::upstream::target::{Security, Speaks, Target};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Tries until there is an answer that is worth delivering.
#[expect(clippy::too_many_arguments, reason = "one request's whole state; a struct of it would have one user")]
pub(super) async fn attempts(
    connection: &Connection,
    view: &Arc<View>,
    plan: &Plan,
    parts: &mut Parts,
    aim: &Aim,
    hop: &Hop,
    replay: &Replay,
    record: &mut Record,
    deadline: Option<Instant>,
) -> Result<Response<Incoming>, Failure> {
    let Connection { local, client, .. } = connection;
    let default_retry = Retry::default();
    let retry = plan.rule.as_ref().map_or(&default_retry, |rule| &rule.retry);
    let idempotent = retry::is_idempotent(parts.method.as_str(), parts.headers.contains_key(IDEMPOTENCY_KEY));
    let cluster = plan.to.cluster();
    if let Some(cluster) = cluster {
        record.cluster = Some(labels::cluster_name(&cluster.service, cluster.subset.as_deref(), cluster.port));
        let place = cluster.circuit.enter(Limit::Requests, &cluster.policy.pool.limits);
        record.guards.push(Box::new(place.ok_or(Reason::Overflow)?));
    }
    let mut tried: SmallVec<[u32; 4]> = SmallVec::new();
    let mut permit = None;
    loop {
        record.attempts += 1;
        let chosen = choose(local, plan, client, &tried).await?;
        let ended =
            one_attempt(connection, view, plan, &chosen, parts, aim, hop, replay, record, deadline, retry).await?;
        drop(permit.take());
        let told = ended.told(chosen.endpoint.as_ref());
        observe(local, cluster, &chosen, ended.health());
        let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let number = record.attempts;
        let attempt = Attempt { number, replayable: replay.can_replay(), idempotent, remaining };
        let next = match cluster {
            Some(cluster) => {
                local.with_rng(|rng| retry.after(ended.verdict(told), &attempt, &cluster.budget, &cluster.circuit, rng))
            }
            None => Next::Deliver,
        };
        match next {
            Next::RetryAfter(pause, retry_permit) => {
                local.metrics.own.retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tracing::debug!(to = %chosen.address, attempt = number, "trying again");
                tried.extend(chosen.index);
                permit = Some(retry_permit);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            Next::Deliver => {
                return match ended {
                    Attempted::Answered(response, lease) => {
                        if let Some(told) = told {
                            record.explain(told.reason, Some("told by the other proxy"));
                        }
                        replay.forget();
                        let terms = cluster.map_or(PASSTHROUGH_TERMS, |cluster| attempt::terms(&cluster.policy.pool));
                        record.lease = Some((*lease, terms));
                        Ok(*response)
                    }
                    other => {
                        record.upstream_failure = other.failure(chosen.address, replay.has_failed()).detail;
                        Err(other.failure(chosen.address, replay.has_failed()))
                    }
                };
            }
        }
    }
}

/// How connections to destinations that nobody described are treated.
const PASSTHROUGH_TERMS: Terms = Terms {
    connect_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(3600),
    requests_max: 0,
    life: None,
};

/// The endpoint of one attempt.
struct Chosen {
    address: SocketAddr,
    endpoint: Option<Arc<Endpoint>>,
    index: Option<u32>,
    state: Option<Arc<outlier::EndpointState>>,
}

async fn choose(local: &Local, plan: &Plan, client: &ClientFacts, tried: &[u32]) -> Result<Chosen, Failure> {
    let dialled = |endpoint| Chosen { address: client.original, endpoint, index: None, state: None };
    let cluster = match &plan.to {
        To::Cluster(cluster) => cluster,
        To::Direct(_, endpoint) => return Ok(dialled(Some(Arc::clone(endpoint)))),
        To::DialledAs(_) | To::Dialled => return Ok(dialled(None)),
    };
    let balancer = cluster.balancer(client.original.is_ipv6());
    let picked = local.with_rng(|rng| balancer.pick(plan.hash, tried, local.now(), rng));
    let picked = picked.map_err(|none| Failure::new(none.reason(), describe(cluster)))?;
    let member = picked.member;
    let address = match (member.address, &member.endpoint.hostname) {
        (Some(address), _) => address,
        (None, host) => {
            let host = host.as_deref().unwrap_or_default();
            let resolved = local.names.address(host, member.port, client.original.is_ipv6()).await;
            resolved.map_err(|error| Failure::new(Reason::DnsFailed, error))?
        }
    };
    Ok(Chosen {
        address,
        endpoint: Some(Arc::clone(&member.endpoint)),
        index: Some(picked.index),
        state: Some(Arc::clone(&member.state)),
    })
}

fn describe(cluster: &Cluster) -> String {
    let subset = cluster.subset.as_deref().map(|subset| format!(" subset {subset}")).unwrap_or_default();
    format!("{}{subset} port {}", cluster.service, cluster.port)
}

fn observe(local: &Local, cluster: Option<&Arc<Cluster>>, chosen: &Chosen, outcome: outlier::Outcome) {
    let (Some(cluster), Some(state)) = (cluster, &chosen.state) else { return };
    let Some(config) = &cluster.policy.outlier else { return };
    let balancer = cluster.balancer(false);
    let total = balancer.members().len();
    if let Some(ejection) = outlier::observe(config, state, balancer.pool(), outcome, total, local.now()) {
        tracing::info!(endpoint = %chosen.address, cause = ?ejection.cause, "endpoint is left out for a while");
    }
}

/// One attempt: connect (or take a pooled connection), send, and wait for the answer's head.
#[expect(clippy::too_many_arguments, reason = "as above")]
async fn one_attempt(
    connection: &Connection,
    view: &Arc<View>,
    plan: &Plan,
    chosen: &Chosen,
    parts: &mut Parts,
    aim: &Aim,
    hop: &Hop,
    replay: &Replay,
    record: &mut Record,
    deadline: Option<Instant>,
    retry: &Retry,
) -> Result<Attempted, Failure> {
    let Connection { local, client, upgrade, .. } = connection;
    let policy = plan.to.cluster().map(|cluster| &cluster.policy);
    let tls = policy.map(|policy| policy.tls.clone()).unwrap_or_default();
    let security = attempt::security(&tls, chosen.endpoint.as_deref(), chosen.address.port())?;
    let mutual_tls = matches!(security, Security::Mesh { .. });
    let service = plan.to.cluster().map(|cluster| &cluster.service);
    label(local, view, record, service, (labels::PASSTHROUGH, &aim.authority), chosen.endpoint.as_deref(), mutual_tls);
    record.upstream_host = Some(chosen.address);

    let speaks = speaks(view, plan, parts, hop);
    let target = Target { address: chosen.address, security, speaks, source: None };
    let terms = policy.map_or(PASSTHROUGH_TERMS, |policy| attempt::terms(&policy.pool));
    let try_deadline = retry.per_try_timeout.map(|timeout| Instant::now() + timeout);
    let until = [deadline, try_deadline].into_iter().flatten().min();
    let _active = chosen.state.as_ref().map(outlier::EndpointState::begin);

    let attempt = async {
        let connecting = plan.to.cluster().map(|cluster| {
            cluster.circuit.enter(Limit::Pending, &cluster.policy.pool.limits).ok_or(Failure::from(Reason::Overflow))
        });
        let connecting = connecting.transpose()?;
        // A connection that has failed once may not be the only one that went stale.
        let fresh = record.attempts > 1 && chosen.index.is_none();
        let mut lease = match local.pool.lease(&target, &terms, fresh).await {
            Ok(lease) => lease,
            Err(fault) => return Ok(Attempted::NotConnected(fault)),
        };
        drop(connecting);
        record.upstream_local = lease.connection.local;
        let body = replay.attempt();
        let mut head = parts.clone();
        hop::restore(&mut head.headers, hop, speaks == Speaks::Http2);
        head::aim(&mut head, aim, speaks == Speaks::Http2)
            .map_err(|bad| Failure::new(Reason::BadRequest, bad.to_string()))?;
        if speaks == Speaks::Http2 && parts.version != Version::HTTP_2 && !declares_http2(view, plan) {
            head.headers.insert(MESH_UPGRADED, HeaderValue::from_static("1"));
        }
        describe_once(local, view, chosen, &lease.connection, &mut head);
        let upgraded = hop.upgrade.is_some().then(|| lease.connection.expect_upgrade());
        let sent = std::time::Instant::now();
        match lease.send(Request::from_parts(head, body)).await {
            Ok(response) => {
                record.upstream_time = Some(sent.elapsed());
                if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgraded)) = (response.status(), upgraded) {
                    upgrade.set(upgraded);
                }
                if plan.to.cluster().is_some() {
                    local.memories.answered_http(client.original);
                }
                Ok(Attempted::Answered(Box::new(response), Box::new(lease)))
            }
            Err(fault) => Ok(Attempted::Failed(fault)),
        }
    };
    match until {
        None => attempt.await,
        Some(until) => match tokio::time::timeout_at(until, attempt).await {
            Ok(ended) => ended,
            // The route's own timeout ends the request; a try's only the attempt.
            Err(_) if deadline.is_some_and(|deadline| deadline <= until) => Err(Reason::RequestTimeout.into()),
            Err(_) => Ok(Attempted::TryTimeout),
        },
    }
}

/// What is spoken with an endpoint: what the port declares, or what the client speaks.
fn speaks(view: &View, plan: &Plan, parts: &Parts, hop: &Hop) -> Speaks {
    if parts.version == Version::HTTP_2 {
        return Speaks::Http2;
    }
    let Some(cluster) = plan.to.cluster() else { return Speaks::Http1 };
    let pool = &cluster.policy.pool;
    let wanted = (declares_http2(view, plan) || pool.upgrade_to_http2) && !pool.use_client_protocol;
    // An upgrade (WebSocket) exists in HTTP/1 only.
    if wanted && hop.upgrade.is_none() { Speaks::Http2 } else { Speaks::Http1 }
}

/// Whether the port that a request goes to is declared as HTTP/2.
fn declares_http2(view: &View, plan: &Plan) -> bool {
    let Some(cluster) = plan.to.cluster() else { return false };
    let port = view.service(&cluster.service).and_then(|held| held.service.as_ref()?.ports.get(&cluster.port));
    port.is_some_and(|port| matches!(port.protocol, Protocol::Http2 | Protocol::Grpc))
}

/// Tells another proxy who we are, in the first request of a connection.
fn describe_once(
    local: &Local,
    view: &View,
    chosen: &Chosen,
    connection: &crate::upstream::connection::Connection,
    head: &mut Parts,
) {
    let ours = chosen.endpoint.as_ref().is_some_and(|endpoint| endpoint.proxy == ProxyKind::Mesh);
    if !ours || connection.peer.is_none() || connection.described.replace(true) {
        return;
    }
    if let Some(description) = local.me(view).description {
        head.headers.insert(MESH_PEER, description);
    }
}
