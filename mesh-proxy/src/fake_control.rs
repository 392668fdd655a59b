//! A control plane for tests, in the same process: real TLS and gRPC on loopback, answers by the test's hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use mesh_api::Resource;
use mesh_api::proto::discovery as wire;
use mesh_api::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_api::proto::istio::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use mesh_api::proto::istio::auth::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_core::identity::{SpiffeId, TrustDomain};
use mesh_tls::authority::{Authority, WORKLOAD_VALIDITY};
use mesh_tls::key::WorkloadKey;
use mesh_tls::{Credentials, ServerTls, TrustBundle, WorkloadCertificate, alpn};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::bootstrap::{Bootstrap, Paths};

pub(crate) const CONTROL: &str = "spiffe://cluster.local/ns/mesh-system/sa/mesh-control";
const WAIT: Duration = Duration::from_secs(5);

/// The fake: where it listens, and the streams that were opened.
pub(crate) struct FakeControl {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    streams: mpsc::Receiver<FakeStream>,
    accepting: tokio::task::JoinHandle<()>,
    connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

/// One stream of configuration, seen from the control plane.
pub(crate) struct FakeStream {
    requests: Streaming<wire::DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<wire::DeltaDiscoveryResponse, Status>>,
    nonce: u64,
}

#[derive(Clone)]
struct Services {
    streams: mpsc::Sender<FakeStream>,
    authority: Arc<Authority>,
}

impl FakeControl {
    /// Listens as `identity`, certified by the authority.
    pub(crate) async fn start(authority: Arc<Authority>, identity: &str, address: &str) -> Self {
        let credentials = Credentials::new(TrustBundle::new(authority.bundle().certificates().to_vec()).unwrap());
        credentials.install(Arc::new(certify(&authority, identity)));
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let tls = ServerTls::with_optional_client(credentials, &[domain], &[alpn::H2]);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::channel(16);
        let services = Services { streams: sender, authority: Arc::clone(&authority) };
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, tls, services, Arc::clone(&connections)));
        Self { address, authority, streams, accepting, connections }
    }

    /// The next stream that a proxy opens.
    pub(crate) async fn stream(&mut self) -> FakeStream {
        tokio::time::timeout(WAIT, self.streams.recv()).await.expect("a stream is opened").unwrap()
    }

    /// Ends everything at once, as `kill -9` would.
    pub(crate) fn kill(self) -> SocketAddr {
        self.accepting.abort();
        self.connections.lock().unwrap().iter().for_each(tokio::task::AbortHandle::abort);
        self.address
    }

    /// Settings of a proxy that uses this control plane, with its files in `dir`.
    pub(crate) fn bootstrap(&self, dir: &Path) -> Bootstrap {
        let paths = Paths { token: dir.join("token"), roots: dir.join("root-cert.pem"), state: dir.to_owned() };
        std::fs::write(&paths.token, "good-token\n").unwrap();
        std::fs::write(&paths.roots, self.authority.bundle().to_pem()).unwrap();
        let address = self.address.to_string();
        let get = |name: &'static str| {
            let value = match name {
                "POD_NAME" => "web-1",
                "POD_NAMESPACE" => "shop",
                "POD_UID" => "uid-1",
                "SERVICE_ACCOUNT" => "web",
                "INSTANCE_IP" => "10.244.0.5",
                "MESH_CONTROL_ADDRESS" => address.as_str(),
                _ => return None,
            };
            Some(value.to_owned())
        };
        Bootstrap::parse(get, Default::default(), paths).unwrap()
    }
}

impl FakeStream {
    /// The next request.
    pub(crate) async fn request(&mut self) -> wire::DeltaDiscoveryRequest {
        let request = tokio::time::timeout(WAIT, self.requests.message()).await.expect("a request comes");
        request.unwrap().expect("the stream is open")
    }

    /// The next request that subscribes to this name.
    pub(crate) async fn subscription(&mut self, name: &str) -> wire::DeltaDiscoveryRequest {
        loop {
            let request = self.request().await;
            if request.resource_names_subscribe.iter().any(|subscribed| subscribed == name) {
                return request;
            }
        }
    }

    /// Sends resources of one kind, and names of others that do not exist; gives the nonce.
    pub(crate) async fn send(&mut self, resources: &[Resource], removed: &[&str]) -> String {
        let encoded: Vec<_> = resources.iter().map(mesh_api::encode).collect();
        let type_url = encoded.first().map(|first| first.type_url.to_string()).unwrap_or_default();
        self.send_raw(type_url, encoded.iter().map(mesh_api::Encoded::to_wire).collect(), removed).await
    }

    pub(crate) async fn send_raw(
        &mut self,
        type_url: String,
        resources: Vec<wire::Resource>,
        removed: &[&str],
    ) -> String {
        self.nonce += 1;
        let response = wire::DeltaDiscoveryResponse {
            type_url,
            nonce: self.nonce.to_string(),
            resources,
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        self.responses.send(Ok(response)).await.unwrap();
        self.nonce.to_string()
    }

    /// The proxy's answer to the response with this nonce.
    pub(crate) async fn answer(&mut self, nonce: &str) -> wire::DeltaDiscoveryRequest {
        loop {
            let request = self.request().await;
            if request.response_nonce == nonce {
                return request;
            }
        }
    }
}

/// A certificate for anybody.
pub(crate) fn certify(authority: &Authority, identity: &str) -> WorkloadCertificate {
    let identity: SpiffeId = identity.parse().unwrap();
    let key = WorkloadKey::generate().unwrap();
    let request = key.signing_request(&identity).unwrap();
    let issued = authority.issue(request.as_bytes(), &identity, WORKLOAD_VALIDITY, SystemTime::now()).unwrap();
    WorkloadCertificate::new(issued.chain, Arc::new(key)).unwrap()
}

async fn accept(
    listener: TcpListener,
    tls: ServerTls,
    services: Services,
    connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (tls, services) = (tls.clone(), services.clone());
        let serving = tokio::spawn(async move {
            let Ok(start) = tokio_rustls::LazyConfigAcceptor::new(Default::default(), tcp).await else { return };
            let config = tls.for_hello(&start.client_hello());
            let Ok(stream) = start.into_stream(config).await else { return };
            let routes = tonic::service::Routes::new(AggregatedDiscoveryServiceServer::new(services.clone()))
                .add_service(IstioCertificateServiceServer::new(services));
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.prepare()))
                .await;
        });
        connections.lock().unwrap().push(serving.abort_handle());
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Services {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<wire::DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<wire::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, receiver) = mpsc::channel(64);
        let stream = FakeStream { requests: request.into_inner(), responses, nonce: 0 };
        self.streams.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Services {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let token = request.metadata().get("authorization").map(|value| value.to_str().unwrap_or_default());
        let identity: SpiffeId = match token {
            Some("Bearer good-token") => "spiffe://cluster.local/ns/shop/sa/web",
            Some("Bearer other-token") => "spiffe://cluster.local/ns/shop/sa/other",
            _ => return Err(Status::unauthenticated("the token is not good")),
        }
        .parse()
        .unwrap();
        let csr = request.into_inner().csr;
        let issued = self
            .authority
            .issue(csr.as_bytes(), &identity, WORKLOAD_VALIDITY, SystemTime::now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let root = self.authority.bundle().to_pem();
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![issued.chain_pem(), root] }))
    }
}
