//! The ports as clients see them: real connections on loopback, a fake control plane, a small application.

mod app;
mod dumps;
mod fixtures;
mod paths;
mod probes;
mod scrapes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mesh_tls::authority::Authority;
use mesh_tls::{Credentials, TrustBundle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::ports::{Port, State, answer};
use super::{Admin, listen};
use crate::bootstrap::Bootstrap;
use crate::config::{Views, Writer};
use crate::drain::Drain;
use crate::fake_control::{CONTROL, FakeControl, certify};
use crate::ready::Ready;
use crate::telemetry::exposition::Metrics;

/// The ports of one proxy, on ports of the system's choice.
struct Ports {
    admin: SocketAddr,
    status: SocketAddr,
    health: SocketAddr,
    metrics: SocketAddr,
    ready: Ready,
    /// Dropping it ends all.
    _serving: JoinSet<()>,
}

impl Ports {
    /// Of a proxy that holds what `views` hold.
    async fn of(bootstrap: Bootstrap, views: Views, ready: Ready, credentials: Arc<Credentials>) -> Self {
        let (_, drain) = Drain::new();
        let metrics = Metrics::new(1, 10);
        let bootstrap = Arc::new(bootstrap);
        let admin =
            Admin { bootstrap, views, ready: ready.clone(), drain, credentials, metrics, begun: Instant::now() };
        let state = Arc::new(State::new(admin));
        let mut serving = JoinSet::new();
        let mut addresses = Vec::new();
        for port in [Port::Admin, Port::Status, Port::Health, Port::Metrics] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let state = Arc::clone(&state);
            serving.spawn(listen::serve(listener, move |request| answer(port, Arc::clone(&state), request)));
        }
        let [admin, status, health, metrics] = addresses[..] else { unreachable!("four were made") };
        Self { admin, status, health, metrics, ready, _serving: serving }
    }

    /// Of a proxy that holds nothing yet, set up as `change` says.
    async fn empty(change: impl FnOnce(&mut Bootstrap)) -> Self {
        let control = fake().await;
        let dir = tempfile::tempdir().unwrap();
        let mut bootstrap = control.bootstrap(dir.path());
        bootstrap.instance_ips = vec!["127.0.0.1".parse().unwrap()];
        change(&mut bootstrap);
        let ready = Ready::new();
        let (_, views, _) = Writer::new(&bootstrap, ready.clone(), Drain::new().0);
        Self::of(bootstrap, views, ready, Credentials::new(TrustBundle::nobody())).await
    }
}

async fn fake() -> FakeControl {
    let authority = Authority::self_signed("test", SystemTime::now()).unwrap();
    FakeControl::start(Arc::new(authority), CONTROL, "127.0.0.1:0").await
}

/// Sends a request head as it is, and reads the answer to its end.
async fn raw(to: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// GET of a path; gives status and body.
async fn get(to: SocketAddr, path: &str) -> (u16, String) {
    let answer = raw(to, &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
