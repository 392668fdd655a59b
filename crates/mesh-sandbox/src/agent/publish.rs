//! Published Services: a listener on the machine's 127.0.0.1 whose connections leave from inside a meshed pod.
//!
//! The outgoing socket is made in the network namespace of the pod `sandbox-gateway`, by a user who is not the proxy's,
//! so that it is captured like any application's: a browser reaches the page under STRICT, and policy sees the gateway's
//! identity.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::world::{Published, World};
use super::{Agent, endpoints, mesh};
use crate::objects::manifest::Key;

/// Connections of one published Service that are open at a time.
const CONNECTIONS_MAX: usize = 512;
/// How long connecting from the gateway may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes a Service, starting the gateway if it does not run yet.
pub(crate) async fn publish(agent: &Arc<Agent>, published: Published) -> anyhow::Result<Published> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, published.local_port));
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}: choose another port with --publish {}:{}=PORT",
            published.service, published.port
        )
    })?;
    {
        let mut world = agent.world();
        let key = Key::of("", "Service", &published.namespace, &published.service);
        let Some(service) = world.objects.get(&key) else {
            bail!("there is no Service {:?} in namespace {:?}", published.service, published.namespace);
        };
        let ports: Vec<String> =
            service.value["spec"]["ports"].as_array().into_iter().flatten().map(|p| p["port"].to_string()).collect();
        if !ports.contains(&published.port.to_string()) {
            bail!("the Service {:?} has no port {}; it has {}", published.service, published.port, ports.join(", "));
        }
        let with_mesh = world.mesh;
        for object in mesh::gateway(with_mesh) {
            world.apply(object);
        }
        world.published.push(published.clone());
    }
    agent.ring();
    tokio::spawn(serve(agent.clone(), listener, published.clone()));
    Ok(published)
}

async fn serve(agent: Arc<Agent>, listener: TcpListener, published: Published) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else { continue };
        let (agent, published) = (agent.clone(), published.clone());
        tokio::spawn(async move {
            if let Err(why) = connection(&agent, client, &published).await {
                tracing::warn!(
                    service = published.service,
                    error = format!("{why:#}"),
                    "a published connection failed"
                );
            }
            drop(slot);
        });
    }
}

async fn connection(agent: &Agent, mut client: TcpStream, published: &Published) -> anyhow::Result<()> {
    let (target, netns) = {
        let world = agent.world();
        let gateway = world
            .pods
            .values()
            .find(|p| p.available() && p.owner.as_ref().is_some_and(|(key, _)| key.name == mesh::GATEWAY));
        let netns = gateway.and_then(|p| p.netns.clone()).context("the pod sandbox-gateway is not ready")?;
        (target(&world, published).context("the Service has no endpoint")?, netns)
    };
    let socket = netns.run(|| Ok(TcpSocket::new_v4()?)).await?;
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(target)).await;
    let mut server = connected.with_context(|| format!("no connection to {target}"))??;
    // Small writes of interactive pages should not wait for each other.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // Its error is the peers' business: one of them has gone.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    Ok(())
}

/// The Service's virtual address, or an endpoint of a headless one.
fn target(world: &World, published: &Published) -> Option<SocketAddr> {
    let service = world.objects.get(&Key::of("", "Service", &published.namespace, &published.service))?;
    match World::service_address(service) {
        Some(address) => Some((address, published.port).into()),
        None => endpoints::any_endpoint(world, service, published.port).map(SocketAddr::V4),
    }
}
