//! The composition root: makes every part, connects them, owns their tasks, and ends them in order.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use mesh_compile::Options;
use mesh_core::identity::{SpiffeId, TrustDomain};
use mesh_tls::{ServerTls, alpn};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Port};
use crate::args::Args;
use crate::authn::{Authenticator, Authn, ClientCertificate, TokenKeys, TokenSettings};
use crate::ca::{Ca, CertificateService, OwnCertificate, write_root};
use crate::index::{self, Index};
use crate::metrics::Metrics;
use crate::serve::{self, Ads, Proxies};
use crate::watch::{BARRIERS_MAX, BATCHES_MAX, Files, Source};

/// How long streams may take to end.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// The authority's end is warned of this long before.
const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 24 * 3600);

/// A control plane that runs.
pub(crate) struct App {
    /// Where it listens for proxies.
    pub(crate) listen: SocketAddr,
    /// Where it is asked for readiness and metrics.
    pub(crate) monitoring: SocketAddr,
    /// Where its control API is.
    pub(crate) control_api: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Begins to log, to standard error.
pub(crate) fn log(level: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(level).context("--log-level")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

impl App {
    /// Starts everything. Returns when it listens; it is ready when `/ready` says so.
    pub(crate) async fn start(args: Args) -> anyhow::Result<Self> {
        let trust_domain = TrustDomain::parse(&args.trust_domain).context("--trust-domain")?;
        std::fs::create_dir_all(&args.state_dir)
            .with_context(|| format!("--state-dir {}", args.state_dir.display()))?;
        // A folder that comes later would look like an order to forget everything.
        std::fs::read_dir(&args.config_dir).with_context(|| format!("--config-dir {}", args.config_dir.display()))?;
        let ca = Arc::new(Ca::open(&args.state_dir, args.ca_certs.as_deref(), &args.trust_domain)?);
        write_root(&args.state_dir, &ca.authority().bundle().to_pem())?;
        let identity = SpiffeId::new(&trust_domain, &args.root_namespace, mesh_crd::names::MESH_CONTROL)
            .context("--root-namespace")?;
        let own = OwnCertificate::new(ca.clone(), identity)?;
        let authn = authenticators(&args, &trust_domain)?;
        let metrics = Arc::new(Metrics::default());
        watch_expiry(&ca, &metrics);
        let options = Options {
            trust_domain: trust_domain.clone(),
            cluster_domain: args.cluster_domain.clone(),
            cluster_id: args.cluster_id.clone(),
            root_namespace: args.root_namespace.clone(),
        };
        let index = Index::new(options, metrics.clone());
        let proxies = Proxies::new(metrics.clone());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());

        let (listener, listen) = bind("--listen", args.listen).await?;
        let (monitoring_listener, monitoring) = bind("--monitoring", args.monitoring).await?;
        let (api_listener, control_api) = bind("--control-api", args.control_api).await?;

        let (events, batches) = mpsc::channel(BATCHES_MAX);
        let (barriers, asked) = mpsc::channel(BARRIERS_MAX);
        let source: Box<dyn Source> = Box::new(Files::new(&args.config_dir, &args.state_dir));
        until(&tasks, &stop, source.run(events, asked));
        until(&tasks, &stop, index::run(index.clone(), batches));
        let tls = ServerTls::with_optional_client(own.credentials(), &[trust_domain], &[alpn::H2]);
        until(&tasks, &stop, own.keep());
        let state = Arc::new(admin::State {
            index: index.clone(),
            proxies: proxies.clone(),
            ca: ca.clone(),
            metrics: metrics.clone(),
            barriers,
        });
        tasks.spawn(admin::serve(monitoring_listener, Port::Monitoring, state.clone(), stop.clone()));
        tasks.spawn(admin::serve(api_listener, Port::Control, state, stop.clone()));

        let certificates = CertificateService { ca, authn: authn.clone(), metrics: metrics.clone() };
        let ads = Ads::new(index, authn, proxies, metrics.clone(), tasks.clone(), stop.clone());
        let (ended, stopped) = (stop.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = serve::serve(listener, tls, ads, certificates, metrics, stopped).await {
                tracing::error!(%error, "serving proxies ended; the control plane stops so that it is restarted");
                ended.cancel();
            }
        });
        Ok(Self { listen, monitoring, control_api, stop, tasks })
    }

    /// Runs until a signal, or until a part fails.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let failed = tokio::select! {
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
            () = self.stop.cancelled() => true,
        };
        self.stop().await;
        anyhow::ensure!(!failed, "a part of the control plane failed; the log says which");
        Ok(())
    }

    /// Ends every task.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_WAIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some streams did not end in time");
        }
    }
}

/// Says when the authority ends, loudly if that is near.
fn watch_expiry(ca: &Ca, metrics: &Metrics) {
    let end = ca.authority().not_after();
    metrics.ca_expiry.set(end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    if left < EXPIRY_WARNING {
        let days = left.as_secs() / (24 * 3600);
        tracing::error!(days, "the certificate authority ends soon; then nothing can connect: replace it now");
    }
}

/// Runs a part until `stop`; it is dropped then.
fn until(tasks: &TaskTracker, stop: &CancellationToken, part: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tasks.spawn(async move {
        let _ = stop.run_until_cancelled_owned(part).await;
    });
}

fn authenticators(args: &Args, trust_domain: &TrustDomain) -> anyhow::Result<Authn> {
    let mut ways: Vec<Box<dyn Authenticator>> = vec![Box::new(ClientCertificate)];
    match &args.token_keys {
        Some(keys) => ways.push(Box::new(TokenKeys::load(TokenSettings {
            keys: keys.clone(),
            issuer: args.token_issuer.clone(),
            trust_domain: trust_domain.clone(),
        })?)),
        None => tracing::warn!("no --token-keys: a new proxy cannot prove who it is and gets no certificate"),
    }
    Ok(Authn::new(ways))
}

async fn bind(option: &str, address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let mut listener = TcpListener::bind(address).await;
    // `[::]` means every address; where the kernel has no IPv6, those are IPv4's.
    if listener.is_err() && address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        let ipv4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
        listener = ipv4.or(listener);
    }
    let listener = listener.with_context(|| format!("{option} {address}"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}
