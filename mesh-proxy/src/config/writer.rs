//! The task that owns the store: it waits for responses, questions and timers, and lets the store decide.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::proto::core::Node;
use mesh_api::proto::discovery::DeltaDiscoveryResponse;
use mesh_core::config::MeshSettings;
use mesh_tls::ServerTls;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::discovery::Ask;
use super::saved::{self, Snapshot};
use super::store::{Published, Store};
use super::stream::{self, Closed, Stream};
use super::{Discovery, Views};
use crate::backoff::Backoff;
use crate::bootstrap::Bootstrap;
use crate::control_plane::{ControlError, ControlPlane};
use crate::drain::Drain;
use crate::ready::Ready;

/// The first pause before a new attempt to reach the control plane.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a change waits at most until it is saved.
const SAVE_DELAY: Duration = Duration::from_secs(1);
/// How often unused keys are looked for.
const FORGET_INTERVAL: Duration = Duration::from_secs(15);
/// Questions taken at once before a view is made of them.
const ASKS_AT_ONCE: usize = 256;

/// Owns the configuration of the process.
pub(crate) struct Writer {
    store: Store,
    asks: mpsc::Receiver<Ask>,
    node: Node,
    state_dir: PathBuf,
    ready: Ready,
    drain: Drain,
    /// Is told which trust domains are ours.
    server_tls: Option<ServerTls>,
    /// The settings of which it was told.
    told: Option<Arc<MeshSettings>>,
    /// The stream is down, and it was said.
    is_down: bool,
    /// When what is held is to be saved.
    save_at: Option<Instant>,
    /// The save under way.
    saving: Option<JoinHandle<()>>,
    /// When to publish again though nothing came.
    publish_at: Option<Instant>,
    /// When to look for unused keys.
    forget_at: Instant,
}

/// What ended a stream.
enum Ended {
    Failed(ControlError),
    Closed,
}

impl Writer {
    /// Prepares the configuration of this process: reads the saved copy, if there is one, so that the first view is the
    /// last good one.
    pub(crate) fn new(bootstrap: &Bootstrap, ready: Ready, drain: Drain) -> (Self, Views, Discovery) {
        let now = Instant::now().into_std();
        let uid: Arc<str> = bootstrap.pod_uid.as_str().into();
        let mut store = Store::new(uid, bootstrap.labels.clone(), now);
        if let Some(incoming) = saved::read(&bootstrap.paths.state, &bootstrap.pod_uid) {
            store.restore(incoming, now);
        }
        let views = store.views();
        let (discovery, asks) = Discovery::new(views.clone());
        let node = Node {
            id: bootstrap.pod_uid.clone(),
            cluster: bootstrap.workload_name.clone(),
            user_agent_name: "mesh-proxy".to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let writer = Self {
            store,
            asks,
            node,
            state_dir: bootstrap.paths.state.clone(),
            ready,
            drain,
            server_tls: None,
            told: None,
            is_down: false,
            save_at: None,
            saving: None,
            publish_at: None,
            forget_at: Instant::now() + FORGET_INTERVAL,
        };
        writer.tell_ready();
        (writer, views, discovery)
    }

    /// Lets the mesh's settings say which trust domains our server side accepts.
    pub(crate) fn tells(mut self, server_tls: ServerTls) -> Self {
        self.server_tls = Some(server_tls);
        self
    }

    /// Runs until the process ends. `has_certificate` resolves once there is something to prove ourselves with.
    pub(crate) async fn run(mut self, control: ControlPlane, has_certificate: impl Future<Output = ()>) {
        // The first publication decides what is subscribed to.
        self.publish();
        tokio::pin!(has_certificate);
        while !self.wait(has_certificate.as_mut()).await {}
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_MAX);
        loop {
            let error = self.connected_once(&control, &mut backoff).await;
            self.store.set_connected(false);
            match self.is_down {
                false => {
                    tracing::info!(%error, "the stream to the control plane is down; configuration stays as it is")
                }
                true => tracing::debug!(%error, "the control plane is still out of reach"),
            }
            self.is_down = true;
            self.ready.stream(false, Some(error));
            let pause = tokio::time::sleep(backoff.next(fastrand::f64()));
            tokio::pin!(pause);
            while !self.wait(pause.as_mut()).await {}
        }
    }

    /// Opens a stream and serves it to its end, which it tells.
    async fn connected_once(&mut self, control: &ControlPlane, backoff: &mut Backoff) -> String {
        let open = Stream::open(control, self.node.clone());
        tokio::pin!(open);
        let opened = loop {
            // Questions and timers go on while we connect.
            tokio::select! {
                opened = &mut open => break opened,
                () = self.idle_step() => {}
            }
        };
        let stream = match opened {
            Ok(stream) => stream,
            Err(error) => return error.to_string(),
        };
        self.store.set_connected(true);
        self.ready.stream(true, None);
        self.is_down = false;
        match self.serve(stream, backoff).await {
            Ended::Failed(error) => error.to_string(),
            Ended::Closed => "the control plane ended the stream".to_owned(),
        }
    }

    async fn serve(&mut self, mut stream: Stream, backoff: &mut Backoff) -> Ended {
        self.publish();
        if stream.greet(&self.store).await.is_err() {
            return Ended::Closed;
        }
        loop {
            let step = tokio::select! {
                response = stream.responses.message() => match response {
                    Ok(Some(response)) => {
                        backoff.reset();
                        self.take(&stream, response).await
                    }
                    Ok(None) => return Ended::Closed,
                    Err(status) => return Ended::Failed(status.into()),
                },
                published = self.step() => stream.subscribe(&published).await,
            };
            if let Err(Closed) = step {
                // Why it ended is told by the side that reads.
                return match stream.responses.message().await {
                    Err(status) => Ended::Failed(status.into()),
                    Ok(_) => Ended::Closed,
                };
            }
        }
    }

    /// Takes a response in and answers it. What it leads to is asked for before it is acknowledged, so that the control
    /// plane can already look.
    async fn take(&mut self, stream: &Stream, response: DeltaDiscoveryResponse) -> Result<(), Closed> {
        let DeltaDiscoveryResponse { resources, removed_resources, type_url, nonce, .. } = response;
        tracing::debug!(type_url, resources = resources.len(), removed = removed_resources.len(), "configuration came");
        let now = Instant::now().into_std();
        let rejected = self.store.apply(stream::incoming(resources, removed_resources), now);
        for rejected in &rejected {
            tracing::warn!(
                name = rejected.name,
                reason = rejected.reason,
                "configuration rejected; the last good stays"
            );
        }
        let published = self.publish();
        stream.subscribe(&published).await?;
        stream.answer(type_url, nonce, &rejected).await
    }

    /// Waits for `until`, serving questions and timers meanwhile. `true` once it came.
    async fn wait(&mut self, until: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::select! {
            () = until => true,
            () = self.idle_step() => false,
        }
    }

    /// A step without a stream: changed subscriptions are told when there is one.
    async fn idle_step(&mut self) {
        self.step().await;
    }

    /// Waits for the next question or timer and publishes what it changes. Dropping it loses nothing.
    async fn step(&mut self) -> Published {
        tokio::select! {
            ask = self.asks.recv() => {
                let now = Instant::now().into_std();
                // Those that came together get one view together.
                let more = std::iter::from_fn(|| self.asks.try_recv().ok()).take(ASKS_AT_ONCE);
                for Ask { key, answered } in ask.into_iter().chain(more) {
                    self.store.ask(key, answered, now);
                }
            }
            () = at(self.save_at) => self.save(),
            () = at(self.publish_at) => {}
            () = tokio::time::sleep_until(self.forget_at) => {
                self.forget_at = Instant::now() + FORGET_INTERVAL;
                self.store.forget_unused(Instant::now().into_std());
            }
        }
        self.publish()
    }

    fn publish(&mut self) -> Published {
        let published = self.store.publish(Instant::now().into_std());
        if published.save && self.save_at.is_none() {
            self.save_at = Some(Instant::now() + SAVE_DELAY);
        }
        self.publish_at = published.again_at.map(Into::into);
        self.tell_ready();
        self.tell_trust_domains();
        if self.store.is_draining() && self.drain.begin() {
            tracing::info!("the control plane says that this pod is ending: inbound drains");
        }
        published
    }

    fn tell_trust_domains(&mut self) {
        let Some(settings) = self.store.view().settings() else { return };
        if self.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, settings)) {
            return;
        }
        let ours = std::iter::once(&settings.trust_domain).chain(&settings.trust_domain_aliases);
        if let Some(server_tls) = &self.server_tls {
            server_tls.accept_trust_domains(ours.cloned().collect());
        }
        self.told = Some(Arc::clone(settings));
    }

    fn tell_ready(&self) {
        let view = self.store.view();
        self.ready.configuration(view.settings().is_some(), view.inbound().is_some(), self.store.saved_keys_missing());
    }

    /// Begins to save what is held, unless a save is still under way.
    fn save(&mut self) {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            self.save_at = Some(Instant::now() + SAVE_DELAY);
            return;
        }
        self.save_at = None;
        let snapshot = Snapshot { uid: self.node.id.clone(), incoming: self.store.snapshot() };
        let dir = self.state_dir.clone();
        self.saving = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = saved::write(&dir, snapshot) {
                tracing::warn!(%error, dir = %dir.display(), "the configuration could not be saved; a restart of this container would wait for the control plane");
            }
        }));
    }
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
