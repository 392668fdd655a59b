//! The composition root: what runs on which thread, and what each is handed.
//!
//! - The *control* thread (a `current_thread` runtime on the main thread) runs certificates, the configuration stream,
//!   admin, health and the control socket. None of it is on the path of a request.
//! - N *workers* (one thread and one single-threaded runtime each) run the data path, which is handed a [`Worker`]. A
//!   panic ends the connection in which it happened: the data path catches it per connection.
//!
//! Life: everything starts at once; the saved configuration is in use before the first packet. TERM ends outbound too:
//! workers get the grace period to finish, then the process exits.

use std::future::Future;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use mesh_tls::{ClientTls, ServerTls, alpn};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::admin;
use crate::bootstrap::{self, Bootstrap};
use crate::certs::Certificates;
use crate::config::{Discovery, Views, Writer};
use crate::control_plane::ControlPlane;
use crate::control_socket::{self, Controls};
use crate::drain::{Drain, DrainWatch};
use crate::listen;
use crate::ready::Ready;
use crate::telemetry::Telemetry;

/// What a worker of the data path is handed. Everything in it is shared and cheap to clone.
#[derive(Clone)]
pub(crate) struct Worker {
    /// Its number, from 0; workers never change while running.
    pub(crate) index: usize,
    /// How the process was set up.
    pub(crate) bootstrap: Arc<Bootstrap>,
    /// The configuration of now.
    pub(crate) views: Views,
    /// For what the view does not hold.
    pub(crate) discovery: Discovery,
    /// Makes configurations for mesh TLS to a peer whose identity is known.
    pub(crate) client_tls: ClientTls,
    /// Chooses the configuration for mesh TLS from a peer.
    pub(crate) server_tls: ServerTls,
    /// The end of life.
    pub(crate) drain: DrainWatch,
}

/// Runs the proxy of a pod until TERM.
pub(crate) fn sidecar() -> ExitCode {
    let bootstrap = match Bootstrap::from_env() {
        Ok(bootstrap) => Arc::new(bootstrap),
        Err(error) => {
            eprintln!("mesh-proxy cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let log_level = start_log(&bootstrap.log_level);
    let ended = control_runtime().and_then(|runtime| {
        let ended = runtime.block_on(run(bootstrap, log_level));
        // A worker that did not end in time must not keep the process from ending.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "mesh-proxy cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// Runs one of the short commands.
pub(crate) fn command(command: impl Future<Output = ExitCode>) -> ExitCode {
    match control_runtime() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            eprintln!("mesh-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn control_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Changes what is logged while running.
type LogLevel = reload::Handle<EnvFilter, Registry>;

/// What is logged at a level. h2 warns of what peers do, on the worker and once per hostile connection: whoever wants
/// to see that asks for it (`warn,h2=warn`).
fn log_filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("h2=error,{level}")).map_err(|error| error.to_string())
}

/// Logs go to stderr, a line per fact.
fn start_log(level: &str) -> LogLevel {
    let (filter, bad) = match log_filter(level) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("warn"), Some(error)),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    if let Some(error) = bad {
        tracing::warn!(level, %error, "MESH_LOG_LEVEL cannot be used; logging warnings");
    }
    handle
}

fn set_log_level(handle: &LogLevel, level: &str) -> Result<(), String> {
    handle.reload(log_filter(level)?).map_err(|error| error.to_string())
}

async fn run(bootstrap: Arc<Bootstrap>, log_level: LogLevel) -> std::io::Result<()> {
    if !bootstrap::is_writable(&bootstrap.paths.state) {
        tracing::warn!(
            dir = %bootstrap.paths.state.display(),
            "the state folder cannot be written: neither configuration nor certificate survive a restart of this container"
        );
    }
    let telemetry = Telemetry::start(bootstrap.workers)?;
    let ready = Ready::new();
    let (drain, drain_watch) = Drain::new();
    let certificates = Certificates::new(Arc::clone(&bootstrap), ready.clone());
    let credentials = certificates.credentials();
    let client_tls = ClientTls::new(Arc::clone(&credentials));
    let control = ControlPlane::new(bootstrap.control.clone(), client_tls.clone(), bootstrap.control_identity.clone());
    let server_tls = ServerTls::new(
        Arc::clone(&credentials),
        std::slice::from_ref(&bootstrap.trust_domain),
        alpn::SERVER_PREFERENCE,
    );
    let (writer, views, discovery) = Writer::new(&bootstrap, ready.clone(), drain.clone());
    let writer = writer.tells(server_tls.clone());

    let worker = Worker {
        index: 0,
        bootstrap: Arc::clone(&bootstrap),
        views,
        discovery,
        client_tls,
        server_tls,
        drain: drain_watch,
    };

    let mut issued = certificates.issued();
    let has_certificate = async move {
        // The sender lives as long as the task below.
        let _ = issued.wait_for(|issued| *issued).await;
    };
    let certificates = tokio::spawn(certificates.run(control.clone()));
    let configuration = tokio::spawn(writer.run(control, has_certificate));
    let socket = bootstrap.paths.socket();
    let controls = Controls {
        ready: ready.clone(),
        drain: drain.clone(),
        set_log_level: Box::new(move |level| set_log_level(&log_level, level)),
    };
    tokio::spawn(async move {
        if let Err(error) = control_socket::serve(&socket, controls).await {
            tracing::error!(%error, path = %socket.display(), "the control socket cannot be made: drain and ready do not work");
        }
    });
    tokio::spawn(admin::run(admin::Admin {
        bootstrap: Arc::clone(&bootstrap),
        views: worker.views.clone(),
        ready: ready.clone(),
        drain: worker.drain.clone(),
        credentials,
        metrics: Arc::clone(&telemetry.metrics),
        begun: std::time::Instant::now(),
    }));
    // Only when all workers listen may traffic come.
    let workers = listen::workers::start(&worker, bootstrap.workers, &telemetry)?;
    ready.listening();

    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ending = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        broken = must_go_on("certificates", certificates) => Err(broken),
        broken = must_go_on("configuration", configuration) => Err(broken),
    };
    match &ending {
        Ok(()) => tracing::info!("TERM: ending what is in flight"),
        Err(error) => tracing::error!(%error, "ending, so that the container is started anew"),
    }
    drain.stop(bootstrap.grace_period, tokio::time::Instant::now());
    // The control thread goes on meanwhile: what is in flight may still need its configuration. The workers keep the
    // drain's deadline themselves; the whole grace period is for one that hangs.
    let joining = tokio::task::spawn_blocking(|| workers.join());
    if tokio::time::timeout(bootstrap.grace_period, joining).await.is_err() {
        tracing::error!("a worker did not end within the grace period");
    }
    ending
}

/// Waits for the end of a task that must not end. A proxy without it would seem well, and never again learn of a policy
/// or renew its certificate.
async fn must_go_on(part: &str, task: tokio::task::JoinHandle<()>) -> std::io::Error {
    let how = match task.await {
        Ok(()) => "ended",
        Err(_) => "ended by a bug of the proxy; please report it",
    };
    std::io::Error::other(format!("the part that keeps {part} {how}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn peers_do_not_fill_the_log_through_h2_unless_asked() {
        assert_eq!(super::log_filter("warn").unwrap().to_string(), "h2=error,warn");
        assert_eq!(super::log_filter("warn,h2=debug").unwrap().to_string(), "h2=debug,warn");
        assert!(super::log_filter("loud=very").is_err());
    }

    #[tokio::test]
    async fn a_part_that_must_not_end_is_told_when_it_does() {
        let broken = tokio::spawn(async { panic!("on purpose") });
        let told = super::must_go_on("configuration", broken).await.to_string();
        assert!(told.contains("configuration") && told.contains("bug"), "{told}");
    }
}
