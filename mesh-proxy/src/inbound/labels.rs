//! The series of what this pod receives.

use std::sync::Arc;

use super::peer::Client;
use super::port;
use crate::config::{InboundView, View};
use crate::listen::local::Local;
use crate::telemetry::labels::{Protocol, Reporter, Route, Security};
use crate::telemetry::peer::UNKNOWN;

/// What stands for a service where the port belongs to none.
const PASSTHROUGH: &str = "InboundPassthroughCluster";

/// The labels of a connection or request.
pub(super) fn route(local: &Local, view: &View, own: &InboundView, client: &Client, protocol: Protocol) -> Route {
    let port = client.facts.original.port();
    let (service, service_name, service_namespace) = port::service(own, port).unwrap_or_else(|| {
        let namespace: Arc<str> = match own.inbound.workload.namespace.as_str() {
            "" => UNKNOWN.into(),
            namespace => namespace.into(),
        };
        (PASSTHROUGH.into(), PASSTHROUGH.into(), namespace)
    });
    Route {
        reporter: Reporter::Destination,
        source: client.peer(),
        destination: local.me(view).peer,
        service,
        service_name,
        service_namespace,
        protocol,
        security: if client.verified.is_some() { Security::MutualTls } else { Security::None },
    }
}
