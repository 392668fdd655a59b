//! The switch: one network namespace with a bridge, to which every pod is connected, and the cluster DNS's address.
//!
//! The namespace belongs to a thread of the supervisor and to nothing else, so it goes when the supervisor goes, however
//! that happens. The thread runs a small runtime: its sockets (the DNS server's, the network probes') are the "node's".

use anyhow::Context as _;
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::addresses::{DNS, NODE, NODE_V6, SERVICE_RANGE};
use super::netns::{self, Netns};

/// The bridge's name.
pub const BRIDGE: &str = "br0";

/// The bridge's own hardware address. Without one it would take a port's, and change it when that pod ends: all pods
/// would talk to a wall until they ask for the address again.
const BRIDGE_MAC: &str = "02:00:0a:f4:00:01";

/// The running switch. Dropping it ends the thread and, once no pod is left, the namespace.
pub struct Switch {
    /// The namespace.
    pub netns: Netns,
    /// Tasks that are spawned here have their sockets in the switch's namespace.
    pub runtime: Handle,
    /// Whether the kernel has IPv6.
    pub v6: bool,
    /// The id of the thread that holds the namespace; `/proc/<thread>/ns/net` is the way in for people and tests.
    pub thread: u32,
    _stop: oneshot::Sender<()>,
}

impl Switch {
    /// Makes the namespace, the bridge and the addresses.
    pub async fn start() -> anyhow::Result<Self> {
        let (ready, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("switch".into()).spawn(move || {
            let made = make().and_then(|(netns, v6)| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let thread = u32::try_from(nix::unistd::gettid().as_raw())?;
                Ok((netns, v6, thread, runtime))
            });
            match made {
                Ok((netns, v6, thread, runtime)) => {
                    if ready.send(Ok((netns, v6, thread, runtime.handle().clone()))).is_ok() {
                        // Ends when the sender is dropped; what it says does not matter.
                        let _ = runtime.block_on(stopped);
                    }
                }
                Err(err) => drop(ready.send(Err(err))),
            }
        })?;
        let (netns, v6, thread, runtime) = started.await.context("the switch's thread ended early")??;
        Ok(Self { netns, runtime, v6, thread, _stop: stop })
    }
}

fn make() -> anyhow::Result<(Netns, bool)> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace: is this root?")?;
    let v6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
    let mut batch = format!(
        "link set lo up\n\
         link add {BRIDGE} address {BRIDGE_MAC} type bridge forward_delay 0 mcast_snooping 0\n\
         addr add {NODE}/16 dev {BRIDGE}\n\
         addr add {DNS}/32 dev lo\n"
    );
    if v6 {
        batch.push_str(&format!("addr add {NODE_V6}/64 dev {BRIDGE} nodad\n"));
    }
    batch.push_str(&format!("link set {BRIDGE} up\nroute add unreachable {SERVICE_RANGE}\n"));
    netns::run("ip", &["-batch".into(), "-".into()], &batch)?;
    // Frames between pods are switched, not filtered; absent where the kernel has no bridge netfilter.
    for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let path = format!("/proc/sys/net/bridge/{name}");
        if std::path::Path::new(&path).exists() {
            std::fs::write(&path, "0").with_context(|| format!("cannot write {path}"))?;
        }
    }
    Ok((Netns::of_this_thread()?, v6))
}
