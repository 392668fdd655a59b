//! A pod's place in the network: a pair of interfaces between its namespace and the switch, addresses, routes.

use std::net::IpAddr;

use super::addresses::{NODE, NODE_V6};
use super::netns::Netns;
use super::switch::BRIDGE;

/// Connects the pod with process `pid` and the given addresses to the switch. `uid` names the switch's end.
///
/// Nothing needs to be undone: both ends go with the pod's namespace.
pub async fn connect(switch: &Netns, pod: &Netns, pid: u32, uid: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
    let port = format!("v{}", uid.replace('-', "").chars().take(12).collect::<String>());
    let outside = format!("link add name {port} up master {BRIDGE} type veth peer name eth0 netns {pid}\n");
    switch.command("ip", &["-batch", "-"], outside).await?;
    let mut inside = String::from("link set lo up\n");
    for address in addresses {
        inside.push_str(&match address {
            IpAddr::V4(v4) => format!("addr add {v4}/16 dev eth0\n"),
            IpAddr::V6(v6) => format!("addr add {v6}/64 dev eth0 nodad\n"),
        });
    }
    inside.push_str("link set eth0 up\n");
    inside.push_str(&format!("route add default via {NODE}\n"));
    if addresses.iter().any(IpAddr::is_ipv6) {
        inside.push_str(&format!("route add ::/0 via {NODE_V6}\n"));
    }
    pod.command("ip", &["-batch", "-"], inside).await
}
