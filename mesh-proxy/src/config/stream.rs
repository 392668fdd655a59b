//! One delta xDS stream: what is said on it, in which order.
//!
//! All types share one stream. On a new stream the first request of each type names everything subscribed to, and the
//! versions of everything held, so that a control plane that restarted sends only what differs. After that, requests
//! carry changes of the subscription (without a nonce) or answer a response (with its nonce): an acknowledgement, or a
//! rejection that lists exactly the resources that could not be used.

use std::collections::BTreeMap;

use mesh_api::proto::core::Node;
use mesh_api::proto::discovery::DeltaDiscoveryRequest;
use mesh_api::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_api::proto::discovery::{DeltaDiscoveryResponse, Resource};
use mesh_api::{Rejected, limits, type_url};
use mesh_core::config::{ResourceKind, ResourceName};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::store::{Incoming, Published, Store};
use crate::control_plane::{ControlError, ControlPlane};

/// Requests under way at most. The control plane reads as fast as it can; more means that it does not.
const REQUESTS_MAX: usize = 256;

/// A stream that is up.
pub(super) struct Stream {
    node: Node,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub(super) responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    /// Connects and opens the stream. Says nothing yet.
    pub(super) async fn open(control: &ControlPlane, node: Node) -> Result<Self, ControlError> {
        let channel = control.connect().await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(limits::RESPONSE_BYTES_MAX)
            .max_encoding_message_size(limits::REQUEST_BYTES_MAX);
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Self { node, requests, responses })
    }

    /// The first requests: one for each type, with all names and held versions.
    pub(super) async fn greet(&self, store: &Store) -> Result<(), Closed> {
        for kind in ResourceKind::ALL {
            let mut request = self.request(kind);
            request.resource_names_subscribe = names(kind, store.subscribed());
            if request.resource_names_subscribe.is_empty() {
                continue;
            }
            request.initial_resource_versions = versions(kind, store);
            self.send(request).await?;
        }
        Ok(())
    }

    /// Tells the control plane what is wanted now and was not, and the reverse.
    pub(super) async fn subscribe(&self, published: &Published) -> Result<(), Closed> {
        for kind in ResourceKind::ALL {
            let mut request = self.request(kind);
            request.resource_names_subscribe = names(kind, &published.subscribe);
            request.resource_names_unsubscribe = names(kind, &published.unsubscribe);
            if !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty() {
                self.send(request).await?;
            }
        }
        Ok(())
    }

    /// Answers a response: accepted, but for what is listed.
    pub(super) async fn answer(&self, type_url: String, nonce: String, rejected: &[Rejected]) -> Result<(), Closed> {
        self.send(DeltaDiscoveryRequest {
            node: Some(self.node.clone()),
            type_url,
            response_nonce: nonce,
            error_detail: (!rejected.is_empty()).then(|| Rejected::to_status(rejected)),
            ..DeltaDiscoveryRequest::default()
        })
        .await
    }

    fn request(&self, kind: ResourceKind) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            node: Some(self.node.clone()),
            type_url: type_url(kind).to_owned(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    async fn send(&self, request: DeltaDiscoveryRequest) -> Result<(), Closed> {
        self.requests.send(request).await.map_err(|_| Closed)
    }
}

/// The stream has ended; its end is read from the responses.
#[derive(Debug)]
pub(super) struct Closed;

/// What a response brings, for the store.
pub(super) fn incoming(resources: Vec<Resource>, removed: Vec<String>) -> Incoming {
    let resources = resources.into_iter().map(|r| (r.name, r.version, r.resource.unwrap_or_default())).collect();
    Incoming { resources, removed }
}

fn names<'n>(kind: ResourceKind, all: impl IntoIterator<Item = &'n ResourceName>) -> Vec<String> {
    all.into_iter().filter(|name| name.kind() == kind).map(ToString::to_string).collect()
}

fn versions(kind: ResourceKind, store: &Store) -> BTreeMap<String, String> {
    store
        .versions()
        .filter(|(name, _)| name.kind() == kind)
        .map(|(name, version)| (name.to_string(), version.to_owned()))
        .collect()
}
