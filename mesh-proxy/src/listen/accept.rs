//! Takes connections: bounded in number, and without spinning when the system has no more to give.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_core::reason::Reason;
use tokio::net::{TcpListener, TcpStream};
use tracing::{error, warn};

use super::local::Local;
use crate::telemetry::own::Direction;

/// Client connections of the whole process in each direction. They count apart, so that whoever opens many to the pod
/// does not stop what the pod asks of others. Fewer where the system gives few descriptors: see [`connections_max`].
const CONNECTIONS_MAX: u64 = 8_192;
/// Descriptors that one connection costs with its other half, in both directions, and the pools' share.
const DESCRIPTORS_PER_CONNECTION: u64 = 5;
/// Pause after a failure to accept that will not be over at once (no descriptors, no memory).
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// Client connections in each direction, for so many descriptors. Reaching this limit sheds the newest connection;
/// running out of descriptors would stop everything, requests on open connections included.
pub(crate) fn connections_max(descriptors: u64) -> u64 {
    CONNECTIONS_MAX.min(descriptors / DESCRIPTORS_PER_CONNECTION)
}

/// Asks for as many descriptors as the process may have, and says how many it has.
pub(crate) fn raise_descriptors() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// Accepts until the future is dropped, and serves each connection in a task of its own.
pub(crate) async fn accept<F>(
    local: Rc<Local>,
    listener: TcpListener,
    direction: Direction,
    serve: impl Fn(Rc<Local>, TcpStream, SocketAddr) -> F + Copy + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, client)) => begin(&local, stream, client, direction, serve),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                let before = local.metrics.own.accept_errors.fetch_add(1, Ordering::Relaxed);
                if before.is_power_of_two() || before == 0 {
                    warn!(%error, "connections cannot be accepted; raise the limit of open files if it is that");
                }
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

fn begin<F>(
    local: &Rc<Local>,
    stream: TcpStream,
    client: SocketAddr,
    direction: Direction,
    serve: impl Fn(Rc<Local>, TcpStream, SocketAddr) -> F + Copy + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    let own = &local.metrics.own;
    own.accepted[direction as usize].fetch_add(1, Ordering::Relaxed);
    if own.open[direction as usize].load(Ordering::Relaxed) >= local.connections_max {
        own.shed.fetch_add(1, Ordering::Relaxed);
        local.refuse(direction, Reason::ProxyOverloaded, client, None, "too many connections");
        return;
    }
    let open = Open::new(Rc::clone(local), direction);
    let local = Rc::clone(local);
    crate::upstream::dial::tune(&stream);
    tokio::task::spawn_local(async move {
        let open = open;
        serve(local, stream, client).await;
        drop(open);
    });
}

/// Counts an open connection. Also sees a panic in its task, which ends that connection and nothing else: the runtime
/// catches it at the task's border.
struct Open {
    local: Rc<Local>,
    direction: Direction,
}

impl Open {
    fn new(local: Rc<Local>, direction: Direction) -> Self {
        local.metrics.own.open[direction as usize].fetch_add(1, Ordering::Relaxed);
        Self { local, direction }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.local.metrics.own.open[self.direction as usize].fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            self.local.metrics.own.panics.fetch_add(1, Ordering::Relaxed);
            error!(direction = self.direction.as_str(), "a connection ended by a bug of the proxy; please report it");
        }
    }
}

/// The number of open client connections.
pub(crate) fn open_connections(open: &[AtomicU64; 2]) -> u64 {
    open.iter().map(|open| open.load(Ordering::Relaxed)).sum()
}

/// Failures that say nothing about the next connection (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::testing::{Proxy, listener, run, talk};

    #[test]
    fn a_flood_in_one_direction_does_not_close_the_other() {
        run(async {
            let proxy = Proxy::new("spiffe://cluster.local/ns/shop/sa/web", &[], &[]);
            let max = proxy.local.connections_max;
            proxy.local.metrics.own.open[Direction::Inbound as usize].store(max, Ordering::Relaxed);
            for (direction, answer) in [(Direction::Inbound, ""), (Direction::Outbound, "served")] {
                let (listener, address) = listener().await;
                let serve = |_, mut stream: TcpStream, _| async move {
                    let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"served").await;
                };
                tokio::task::spawn_local(accept(Rc::clone(&proxy.local), listener, direction, serve));
                assert_eq!(talk(address, "").await, answer);
            }
        });
    }

    #[test]
    fn descriptors_bound_connections() {
        assert_eq!((connections_max(1024), connections_max(u64::MAX)), (204, CONNECTIONS_MAX));
    }
}
