//! Opaque connections of the pod's application: bytes, and TLS of its own by its SNI.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::config::{Endpoint, Resolution, ServiceName};
use mesh_core::limits::{Guard, Limit};
use mesh_core::outlier;
use mesh_core::reason::Reason;
use mesh_core::route::{self, L4Decision, L4Head};
use smallvec::SmallVec;

use super::labels::{self, Destination};
use super::place::{Place, Way};
use super::{attempt, named};
use crate::config::{Cluster, View};
use crate::listen::local::Local;
use crate::telemetry::labels::Protocol;
use crate::telemetry::own::Direction;
use crate::telemetry::passed::Passed;
use crate::telemetry::record::{ClientFacts, Failure};
use crate::upstream::copy::both_ways;
use crate::upstream::dial::{DialFault, Dialled};
use crate::upstream::io::Io;
use crate::upstream::target::{Security, Speaks, Target};

/// Time to connect where nothing is configured.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle time of a connection where nothing is configured.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Endpoints that are tried for one connection: nothing was sent on one that did not come about.
const ATTEMPTS_MAX: usize = 3;

/// Where a connection goes.
enum To {
    Cluster(Arc<Cluster>),
    Direct(Arc<Cluster>, Arc<Endpoint>),
    DialledAs(Arc<Cluster>),
    Workload(Arc<Endpoint>),
    Dialled,
}

/// Passes one connection.
pub(super) async fn serve(
    local: &Rc<Local>,
    view: Arc<View>,
    client: Rc<ClientFacts>,
    place: &Place,
    mut io: Io,
) -> Result<(), Failure> {
    let (view, way) = match &client.sni {
        Some(sni) => named::find(local, view, place, sni, client.original.port()).await?,
        None => match &place.way {
            Way::ByNameOnly => return Err(Reason::RegistryOnly.into()),
            way => (view, way.clone()),
        },
    };
    let (stood_for, shown) = match &way {
        Way::Service { name, .. } => (Some(name.clone()), name.host.to_string()),
        Way::Workload(_) | Way::Hidden(_) | Way::Original | Way::ByNameOnly => {
            // Addresses name no series: there is no end of them.
            (None, client.sni.as_deref().unwrap_or_default().to_owned())
        }
    };
    let first = Destination {
        service: stood_for.as_ref(),
        instead: (labels::PASSTHROUGH, &shown),
        endpoint: None,
        mutual_tls: false,
    };
    let labels = local.tcp.route(labels::route(local, &view, &first, Protocol::Tcp));
    let mut passed = Passed::begin(local, &view, Direction::Outbound, &client, labels);
    let connected = match decide(local, &view, &client, way) {
        Ok(to) => connect(local, &view, &client, &to, &shown, &mut passed).await,
        Err(failure) => Err(failure),
    };
    let mut connected = match connected {
        Ok(connected) => connected,
        Err(failure) => {
            passed.explain(failure.reason, failure.detail.as_deref());
            local.count_refusal(Direction::Outbound, failure.reason);
            return Ok(());
        }
    };
    passed.opened(&io);
    let copying = both_ways(&mut io, &mut connected.server, connected.idle_timeout);
    let copied = match connected.life {
        None => copying.await,
        Some(life) => match tokio::time::timeout(life, copying).await {
            Ok(copied) => copied,
            Err(_) => {
                passed.explain(Reason::DurationTimeout, None);
                local.count_refusal(Direction::Outbound, Reason::DurationTimeout);
                return Ok(());
            }
        },
    };
    passed.ended(&copied);
    Ok(())
}

/// Asks the routes: by SNI for TLS, else those for TCP.
fn decide(local: &Local, view: &View, client: &ClientFacts, way: Way) -> Result<To, Failure> {
    let (name, port, direct) = match way {
        Way::Service { name, port, direct } => (name, port, direct),
        Way::Workload(endpoint) => return Ok(To::Workload(endpoint)),
        Way::Hidden(Some(endpoint)) => return Ok(To::Workload(endpoint)),
        Way::Hidden(None) | Way::Original => return Ok(To::Dialled),
        Way::ByNameOnly => return Err(Reason::RegistryOnly.into()),
    };
    let routes = view.routes(&name).ok_or_else(|| Failure::new(Reason::DestinationMissing, name.to_string()))?;
    let head = L4Head { destination: client.original.ip(), port, sni: client.sni.as_deref() };
    let decision = local.with_rng(|rng| match &client.sni {
        Some(_) if routes.compiled.has_tls_rules() => routes.compiled.decide_tls(&head, rng),
        Some(_) | None => routes.compiled.decide_tcp(&head, rng),
    });
    let (service, subset, port) = match decision {
        L4Decision::Implicit => (&name, None, port),
        L4Decision::Route(weighted, _) => {
            let destination = &weighted.destination;
            let ports = service_ports(view, &destination.service);
            let port = route::destination_port(destination, &ports, port);
            (&destination.service, destination.subset.as_deref(), port)
        }
        L4Decision::NotFound => return Err(Failure::new(Reason::NoRoute, name.to_string())),
    };
    let cluster = view.cluster(service, subset, port).cloned().ok_or_else(|| {
        Failure::new(Reason::DestinationMissing, labels::cluster_name(service, subset, port).to_string())
    })?;
    let resolution = view.service(service).and_then(|held| held.service.as_ref()).map(|service| &service.resolution);
    let as_dialled = matches!(resolution, Some(Resolution::OriginalDestination | Resolution::ExternalName(_)));
    Ok(match direct.filter(|_| *service == name && subset.is_none()) {
        Some(endpoint) => To::Direct(cluster, endpoint),
        None if as_dialled || cluster.balancer(false).is_passthrough() => To::DialledAs(cluster),
        None => To::Cluster(cluster),
    })
}

fn service_ports(view: &View, name: &ServiceName) -> SmallVec<[u16; 4]> {
    let service = view.service(name).and_then(|held| held.service.as_ref());
    service.map(|service| service.ports.keys().copied().collect()).unwrap_or_default()
}

struct Connected {
    server: Io,
    idle_timeout: Option<Duration>,
    life: Option<Duration>,
    _connection: Option<Guard>,
    _active: Option<outlier::Active>,
}

/// Connects to an endpoint, to another one where that fails.
async fn connect(
    local: &Rc<Local>,
    view: &Arc<View>,
    client: &ClientFacts,
    to: &To,
    shown: &str,
    passed: &mut Passed,
) -> Result<Connected, Failure> {
    let cluster = to.cluster();
    let place = match cluster {
        Some(cluster) => {
            passed.cluster = Some(labels::cluster_name(&cluster.service, cluster.subset.as_deref(), cluster.port));
            let place = cluster.circuit.enter(Limit::Connections, &cluster.policy.pool.limits);
            Some(place.ok_or(Reason::Overflow)?)
        }
        None => {
            passed.cluster = Some(labels::PASSTHROUGH.into());
            None
        }
    };
    let pool = cluster.map(|cluster| &cluster.policy.pool);
    let limit = pool.map_or(CONNECT_TIMEOUT, |pool| pool.connect_timeout);
    let mut tried: SmallVec<[u32; ATTEMPTS_MAX]> = SmallVec::new();
    loop {
        let chosen = choose(local, client, to, &tried).await?;
        let target = chosen.target(cluster)?;
        let mutual_tls = matches!(target.security, Security::Mesh { .. });
        let destination = Destination {
            service: cluster.map(|cluster| &cluster.service),
            instead: (labels::PASSTHROUGH, shown),
            endpoint: chosen.endpoint.as_deref(),
            mutual_tls,
        };
        passed.relabel(local.tcp.route(labels::route(local, view, &destination, Protocol::Tcp)));
        passed.upstream_host = Some(chosen.address);
        match local.pool.dial(&target, limit).await {
            Ok(Dialled { io, .. }) => {
                observe(local, cluster, &chosen, outlier::Outcome::Done);
                passed.upstream_local = io.local_address();
                let idle = pool.map_or(IDLE_TIMEOUT, |pool| pool.tcp_idle_timeout);
                return Ok(Connected {
                    server: io,
                    idle_timeout: (!idle.is_zero()).then_some(idle),
                    life: pool.and_then(|pool| pool.max_connection_duration),
                    _connection: place,
                    _active: chosen.state.as_ref().map(outlier::EndpointState::begin),
                });
            }
            Err(fault) => {
                observe(local, cluster, &chosen, outlier::Outcome::LocalFailure);
                let failure = dial_failure(&fault, chosen.address);
                tried.extend(chosen.index);
                if chosen.index.is_none() || tried.len() >= ATTEMPTS_MAX {
                    return Err(failure);
                }
            }
        }
    }
}

fn dial_failure(fault: &DialFault, address: SocketAddr) -> Failure {
    Failure::new(attempt::dial_reason(fault), format!("{address}: {fault}"))
}

struct Chosen {
    address: SocketAddr,
    endpoint: Option<Arc<Endpoint>>,
    index: Option<u32>,
    state: Option<Arc<outlier::EndpointState>>,
}

impl Chosen {
    fn target(&self, cluster: Option<&Arc<Cluster>>) -> Result<Target, Failure> {
        let tls = cluster.map(|cluster| cluster.policy.tls.clone()).unwrap_or_default();
        let security = attempt::security(&tls, self.endpoint.as_deref(), self.address.port())?;
        Ok(Target { address: self.address, security, speaks: Speaks::Opaque, source: None })
    }
}

async fn choose(local: &Local, client: &ClientFacts, to: &To, tried: &[u32]) -> Result<Chosen, Failure> {
    let dialled = |endpoint| Chosen { address: client.original, endpoint, index: None, state: None };
    let cluster = match to {
        To::Cluster(cluster) => cluster,
        To::Direct(_, endpoint) | To::Workload(endpoint) => return Ok(dialled(Some(Arc::clone(endpoint)))),
        To::DialledAs(_) | To::Dialled => return Ok(dialled(None)),
    };
    let hash = super::plan::hash(cluster, None, client);
    let balancer = cluster.balancer(client.original.is_ipv6());
    let picked = local.with_rng(|rng| balancer.pick(hash, tried, local.now(), rng));
    let shown = || labels::cluster_name(&cluster.service, cluster.subset.as_deref(), cluster.port).to_string();
    let picked = picked.map_err(|none| Failure::new(none.reason(), shown()))?;
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

fn observe(local: &Local, cluster: Option<&Arc<Cluster>>, chosen: &Chosen, outcome: outlier::Outcome) {
    let (Some(cluster), Some(state)) = (cluster, &chosen.state) else { return };
    let Some(config) = &cluster.policy.outlier else { return };
    let balancer = cluster.balancer(false);
    let _ = outlier::observe(config, state, balancer.pool(), outcome, balancer.members().len(), local.now());
}

impl To {
    fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::Cluster(cluster) | Self::Direct(cluster, _) | Self::DialledAs(cluster) => Some(cluster),
            Self::Workload(_) | Self::Dialled => None,
        }
    }
}
