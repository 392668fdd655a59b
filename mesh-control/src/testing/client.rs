//! A proxy's side of port 15012, small enough to show every message.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use mesh_api::proto::core::Node;
use mesh_api::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_api::proto::istio::auth::IstioCertificateRequest;
use mesh_api::proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_api::{Rejected, Resource, decode, type_url};
use mesh_core::config::ResourceKind;
use mesh_tls::key::WorkloadKey;
use mesh_tls::{ClientTls, Credentials, TrustBundle, WorkloadCertificate, alpn, pem};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::LONG;

/// A connection to the control plane.
pub(crate) struct Client {
    channel: Channel,
    token: Option<String>,
}

struct Connector {
    address: SocketAddr,
    tls: ClientTls,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let expected = Arc::from([super::identity("mesh-system", "mesh-control")]);
        let (address, config) = (self.address, self.tls.config(expected, &[alpn::H2]));
        Box::pin(async move {
            let socket = TcpStream::connect(address).await?;
            Ok(TokioIo::new(TlsConnector::from(config).connect(ClientTls::no_name(), socket).await?))
        })
    }
}

pub(super) fn certificate(chain: &[String], key: Arc<WorkloadKey>) -> WorkloadCertificate {
    let certificates = pem::certificates(chain.concat().as_bytes()).unwrap();
    WorkloadCertificate::new(certificates, key).unwrap()
}

impl Client {
    pub(super) async fn connect(
        address: SocketAddr,
        root: &[u8],
        token: Option<&str>,
        certificate: Option<WorkloadCertificate>,
    ) -> Self {
        let credentials = Credentials::new(TrustBundle::from_pem(root).unwrap());
        if let Some(certificate) = certificate {
            credentials.install(Arc::new(certificate));
        }
        let connector = Connector { address, tls: ClientTls::new(credentials) };
        let channel = Endpoint::from_static("http://mesh-control").connect_with_connector(connector).await.unwrap();
        Self { channel, token: token.map(str::to_owned) }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }

    /// Asks for a certificate.
    pub(crate) async fn sign(&self, csr: &str, seconds: i64) -> Result<Vec<String>, Status> {
        let message = IstioCertificateRequest { csr: csr.to_owned(), validity_duration: seconds };
        let mut client = IstioCertificateServiceClient::new(self.channel.clone());
        Ok(client.create_certificate(self.request(message)).await?.into_inner().cert_chain)
    }

    /// Opens a stream.
    pub(crate) async fn try_stream(&self, uid: &str) -> Result<Stream, Status> {
        let (requests, receiver) = mpsc::channel(64);
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone())
            .max_decoding_message_size(mesh_api::limits::RESPONSE_BYTES_MAX);
        let node = Node { id: uid.to_owned(), user_agent_version: "1.2.3".to_owned(), ..Default::default() };
        let answer = client.delta_aggregated_resources(self.request(ReceiverStream::new(receiver)));
        let responses = answer.await?.into_inner();
        Ok(Stream { requests, responses, node: Some(node), _channel: self.channel.clone() })
    }

    pub(crate) async fn stream(&self, uid: &str) -> Stream {
        self.try_stream(uid).await.unwrap()
    }
}

/// A stream of configuration.
pub(crate) struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    node: Option<Node>,
    _channel: Channel,
}

impl Stream {
    pub(crate) async fn send(&mut self, mut request: DeltaDiscoveryRequest) {
        if let Some(node) = self.node.take() {
            request.node = Some(node);
        }
        self.requests.send(request).await.unwrap();
    }

    /// Subscribes, saying what is held already.
    pub(crate) async fn subscribe_holding(
        &mut self,
        kind: ResourceKind,
        names: &[&str],
        held: &BTreeMap<String, String>,
    ) {
        self.send(DeltaDiscoveryRequest {
            type_url: type_url(kind).to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            initial_resource_versions: held.clone(),
            ..Default::default()
        })
        .await;
    }

    pub(crate) async fn subscribe(&mut self, kind: ResourceKind, names: &[&str]) {
        self.subscribe_holding(kind, names, &BTreeMap::new()).await;
    }

    pub(crate) async fn unsubscribe(&mut self, kind: ResourceKind, names: &[&str]) {
        self.send(DeltaDiscoveryRequest {
            type_url: type_url(kind).to_owned(),
            resource_names_unsubscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        })
        .await;
    }

    /// The next response, not acknowledged.
    pub(crate) async fn receive(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let message = tokio::time::timeout(LONG, self.responses.message()).await.expect("no response came");
        Ok(message?.expect("the stream has ended"))
    }

    /// The next response, acknowledged.
    pub(crate) async fn next(&mut self) -> DeltaDiscoveryResponse {
        let response = self.receive().await.unwrap();
        self.acknowledge(&response, &[]).await;
        response
    }

    /// Acknowledges, or rejects these.
    pub(crate) async fn acknowledge(&mut self, response: &DeltaDiscoveryResponse, rejected: &[Rejected]) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: (!rejected.is_empty()).then(|| Rejected::to_status(rejected)),
            ..Default::default()
        })
        .await;
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_silent(&mut self, wait: std::time::Duration) -> bool {
        tokio::time::timeout(wait, self.responses.message()).await.is_err()
    }
}

/// What a response says, in a form that reads well: names that are set, then `-name` for what is removed.
pub(crate) fn said(response: &DeltaDiscoveryResponse) -> Vec<String> {
    let set = response.resources.iter().map(|resource| resource.name.clone());
    set.chain(response.removed_resources.iter().map(|name| format!("-{name}"))).collect()
}

/// The versions in a response, as a proxy would say them after a reconnection.
pub(crate) fn versions(response: &DeltaDiscoveryResponse) -> BTreeMap<String, String> {
    response.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
}

pub(crate) fn values(response: &DeltaDiscoveryResponse) -> Vec<Resource> {
    let value = |resource: &mesh_api::proto::discovery::Resource| {
        decode(&resource.name, resource.resource.as_ref().unwrap()).unwrap()
    };
    response.resources.iter().map(value).collect()
}

/// A plain GET over HTTP/1.1.
pub(super) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
