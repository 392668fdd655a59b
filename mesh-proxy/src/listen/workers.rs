//! The worker threads: started once, never changed while running, ended by the drain.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tracing::info;

use super::accept::{accept, open_connections};
use super::local::Local;
use super::socket;
use crate::app::Worker;
use crate::telemetry::Telemetry;
use crate::telemetry::own::Direction;
use crate::telemetry::sink::FLUSH_INTERVAL;

/// Time without a new connection after which a stopping worker believes that its queues are empty.
const QUIET_BEFORE_END: Duration = Duration::from_secs(1);
/// Time between looks at idle pooled connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Time between looks at what is still open, while stopping.
const END_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The running workers.
#[derive(Debug)]
pub(crate) struct Workers(Vec<JoinHandle<()>>);

/// Starts `count` workers and returns once all of them listen on the outbound and inbound ports.
///
/// # Errors
/// If a thread or a port cannot be had. Those that were started end with the process.
pub(crate) fn start(template: &Worker, count: usize, telemetry: &Telemetry) -> io::Result<Workers> {
    let (started, starting) = mpsc::channel();
    let begun = Instant::now();
    let mut threads = Vec::with_capacity(count);
    for index in 0..count {
        let worker = Worker { index, ..template.clone() };
        let (telemetry, started) = (telemetry.clone(), started.clone());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || run(worker, &telemetry, begun, &started))?;
        threads.push(thread);
    }
    drop(started);
    for _ in 0..count {
        starting.recv().map_err(|_| io::Error::other("a worker ended before it listened"))??;
    }
    Ok(Workers(threads))
}

impl Workers {
    /// Waits until all have ended: after TERM, when nothing is in flight or at the deadline.
    pub(crate) fn join(self) {
        for thread in self.0 {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Listeners {
    outbound: Vec<TcpListener>,
    inbound: Vec<TcpListener>,
}

fn run(worker: Worker, telemetry: &Telemetry, begun: Instant, started: &mpsc::Sender<io::Result<()>>) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let listeners = match open_listeners() {
            Ok(listeners) => listeners,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(Ok(()));
        serve(Local::new(worker, telemetry, begun), listeners).await;
    });
}

fn open_listeners() -> io::Result<Listeners> {
    Ok(Listeners {
        outbound: listen_all(&socket::outbound_addresses())?,
        inbound: listen_all(&socket::inbound_addresses())?,
    })
}

fn listen_all(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        match socket::listen(*address).and_then(TcpListener::from_std) {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.is_ipv6() && socket::is_without_family(&error) => {
                info!(%address, "no IPv6 here");
            }
            Err(error) => return Err(io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))),
        }
    }
    Ok(listeners)
}

async fn serve(local: Rc<Local>, listeners: Listeners) {
    for listener in listeners.outbound {
        let accepting = accept(Rc::clone(&local), listener, Direction::Outbound, crate::outbound::serve);
        tokio::task::spawn_local(accepting);
    }
    for listener in listeners.inbound {
        let accepting = accept(Rc::clone(&local), listener, Direction::Inbound, crate::inbound::serve);
        tokio::task::spawn_local(accepting);
    }
    let chores = tokio::task::spawn_local(chores(Rc::clone(&local)));
    let deadline = local.worker.drain.clone().stopping().await;
    // Whatever waits in the listeners' queues is still served.
    end(&local, deadline).await;
    chores.abort();
    local.log.flush();
}

/// What must be done from time to time.
async fn chores(local: Rc<Local>) {
    let mut flush = tokio::time::interval(FLUSH_INTERVAL);
    let mut swept = Instant::now();
    loop {
        flush.tick().await;
        local.log.flush();
        if swept.elapsed() >= SWEEP_INTERVAL {
            swept = Instant::now();
            local.pool.sweep(swept);
            if local.worker.index == 0 {
                local.worker.views.load().sweep_outliers(local.now());
            }
            local.report_open();
        }
    }
}

/// After TERM: ends when nothing is open any more and nothing new has come for a while, at the latest at the deadline.
async fn end(local: &Rc<Local>, deadline: tokio::time::Instant) {
    let own = &local.metrics.own;
    let accepted = || open_connections(&own.accepted);
    let mut seen = (accepted(), Instant::now());
    while tokio::time::Instant::now() < deadline {
        if accepted() != seen.0 {
            seen = (accepted(), Instant::now());
        }
        local.pool.close_idle();
        if open_connections(&own.open) == 0 && seen.1.elapsed() >= QUIET_BEFORE_END {
            return;
        }
        tokio::time::sleep(END_POLL_INTERVAL).await;
    }
}
