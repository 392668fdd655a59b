//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use mesh_crd::names;

/// The control plane of the mesh: reads configuration, compiles it, serves it to proxies, and signs their certificates.
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 120)]
pub(crate) struct Args {
    /// Directory of Kubernetes objects (*.yaml, *.yml, *.json), watched for changes.
    #[arg(long, value_name = "DIR")]
    pub(crate) config_dir: PathBuf,
    /// Directory for what must survive a restart: the root of trust, and the last good content of files.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
    /// Namespace of mesh-wide policy and settings.
    #[arg(long, default_value = names::MESH_NAMESPACE)]
    pub(crate) root_namespace: String,
    /// Trust domain of all identities.
    #[arg(long, default_value = names::TRUST_DOMAIN)]
    pub(crate) trust_domain: String,
    /// DNS domain of the cluster.
    #[arg(long, default_value = names::CLUSTER_DOMAIN)]
    pub(crate) cluster_domain: String,
    /// Name of the cluster, for telemetry.
    #[arg(long, default_value = names::CLUSTER_ID)]
    pub(crate) cluster_id: String,
    /// Where proxies get configuration and certificates (TLS).
    #[arg(long, default_value = "[::]:15012")]
    pub(crate) listen: SocketAddr,
    /// Readiness and metrics.
    #[arg(long, default_value = "[::]:15014")]
    pub(crate) monitoring: SocketAddr,
    /// The control API that meshctl asks.
    #[arg(long, default_value = "127.0.0.1:15016")]
    pub(crate) control_api: SocketAddr,
    /// Public keys (JSON Web Key Set, ES256) of whoever signs the proxies' tokens.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_keys: Option<PathBuf>,
    /// The issuer that tokens must name.
    #[arg(long, value_name = "ISS", requires = "token_keys")]
    pub(crate) token_issuer: Option<String>,
    /// Folder with Istio's `cacerts` files, instead of a self-signed root.
    #[arg(long, value_name = "DIR")]
    pub(crate) ca_certs: Option<PathBuf>,
    /// What is logged: a level, or tracing's filter directives.
    #[arg(long, default_value = "info")]
    pub(crate) log_level: String,
}
