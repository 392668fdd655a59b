//! The DNS server on the switch: UDP and TCP port 53 of the cluster DNS's address.
//!
//! It answers from a zone that the supervisor replaces as a whole; a question never waits for a change.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::Record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::zone::Zone;

/// What a client that says nothing can take over UDP (RFC 1035), and the most that we send to others, in bytes.
const UDP_BYTES_PLAIN: usize = 512;
/// See [`UDP_BYTES_PLAIN`].
const UDP_BYTES_MAX: usize = 4096;
/// TCP connections served at a time; further ones wait in the listener's queue.
const TCP_CONNECTIONS_MAX: usize = 64;
/// How long a TCP client may be silent.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// The zone that is served, replaced as a whole.
#[derive(Clone, Default)]
pub struct Served(Arc<RwLock<Arc<Zone>>>);

impl Served {
    /// Serves `zone` from now on.
    pub fn replace(&self, zone: Zone) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }

    fn current(&self) -> Arc<Zone> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Binds both sockets in the namespace of the runtime on which this runs, and serves until the runtime ends.
pub async fn start(address: SocketAddr, served: Served) -> anyhow::Result<()> {
    let udp = UdpSocket::bind(address).await.with_context(|| format!("cannot bind {address} for DNS"))?;
    let tcp = TcpListener::bind(address).await.with_context(|| format!("cannot bind {address} for DNS"))?;
    tokio::spawn(serve_udp(udp, served.clone()));
    tokio::spawn(serve_tcp(tcp, served));
    Ok(())
}

async fn serve_udp(socket: UdpSocket, served: Served) {
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue; // an ICMP error of an earlier answer
        };
        if let Some(answer) = respond(&buffer[..length], &served.current(), true)
            && let Err(err) = socket.send_to(&answer, from).await
        {
            tracing::debug!(%from, %err, "DNS answer not sent");
        }
    }
}

async fn serve_tcp(listener: TcpListener, served: Served) {
    let slots = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let served = served.clone();
        tokio::spawn(async move {
            // An error means that the client has gone, which is how connections end.
            let _ = serve_connection(stream, served).await;
            drop(slot);
        });
    }
}

async fn serve_connection(mut stream: TcpStream, served: Served) -> std::io::Result<()> {
    loop {
        let length = tokio::time::timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut question)).await??;
        let Some(answer) = respond(&question, &served.current(), false) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        stream.write_all(&framed).await?;
    }
}

/// The answer to a question's bytes; `None` for what is no question.
fn respond(question: &[u8], zone: &Zone, udp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(question).ok()?;
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true; // stub resolvers want it; outside names simply do not exist here
    response.metadata.authoritative = true;
    response.add_queries(request.queries.iter().cloned());
    match request.queries.as_slice() {
        _ if request.metadata.op_code != OpCode::Query => response.metadata.response_code = ResponseCode::NotImp,
        [query] => {
            let answer = zone.answer(query.name(), query.query_type());
            response.metadata.response_code = answer.code;
            response.add_answers(rotated(answer.records, request.metadata.id));
            response.add_authorities(answer.soa);
        }
        _ => response.metadata.response_code = ResponseCode::FormErr,
    }
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(u16::try_from(UDP_BYTES_MAX).unwrap_or(u16::MAX));
        response.set_edns(edns);
    }
    let bytes = response.to_vec().ok()?;
    let room = request
        .edns
        .as_ref()
        .map_or(UDP_BYTES_PLAIN, |e| usize::from(e.max_payload()).clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX));
    if udp && bytes.len() > room { response.truncate().to_vec().ok() } else { Some(bytes) }
}

/// Several addresses come in a different order each time, so that clients that take the first one spread out.
fn rotated(mut records: Vec<Record>, id: u16) -> Vec<Record> {
    if !records.is_empty() && records.iter().all(|r| r.record_type().is_ip_addr()) {
        let by = usize::from(id) % records.len();
        records.rotate_left(by);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};
    use std::str::FromStr as _;

    #[test]
    fn long_answers_are_cut_on_udp_only() {
        let mut zone = Zone::new("cluster.local");
        for n in 0..100 {
            zone.entry("many.a.svc.cluster.local").addresses.push(std::net::Ipv4Addr::new(10, 244, 1, n).into());
        }
        let mut request = Message::query();
        request.add_query(Query::query(Name::from_str("many.a.svc.cluster.local.").unwrap(), RecordType::A));
        let bytes = request.to_vec().unwrap();
        let udp = Message::from_vec(&respond(&bytes, &zone, true).unwrap()).unwrap();
        assert!(udp.metadata.truncation && udp.answers.is_empty());
        let tcp = Message::from_vec(&respond(&bytes, &zone, false).unwrap()).unwrap();
        assert_eq!(tcp.answers.len(), 100);
        assert!(respond(b"nonsense", &zone, true).is_none());
    }
}
