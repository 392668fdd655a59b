//! A worker without capture: tests say where a connection was going, and two of them talk over loopback.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use mesh_api::Resource;
use mesh_core::identity::TrustDomain;
use mesh_tls::authority::Authority;
use mesh_tls::{ClientTls, Credentials, ServerTls, TrustBundle, alpn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::local::Local;
use crate::app::Worker;
use crate::bootstrap::{Bootstrap, Paths};
use crate::config::testing::{Key, held};
use crate::drain::Drain;
use crate::telemetry::Telemetry;

/// The authority of all tests.
static AUTHORITY: LazyLock<Arc<Authority>> =
    LazyLock::new(|| Arc::new(Authority::self_signed("mesh", SystemTime::now()).unwrap()));

/// One proxy.
pub(crate) struct Proxy {
    pub(crate) local: Rc<Local>,
    pub(crate) drain: Drain,
}

impl Proxy {
    /// A proxy with this identity that knows these resources.
    pub(crate) fn new(identity: &str, resources: &[Resource], keys: &[Key]) -> Self {
        let credentials = Credentials::new(TrustBundle::new(AUTHORITY.bundle().certificates().to_vec()).unwrap());
        credentials.install(Arc::new(crate::fake_control::certify(&AUTHORITY, identity)));
        let (views, discovery) = held(&[], resources, keys);
        let (drain, watch) = Drain::new();
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let get = |name: &'static str| {
            let value = match name {
                "INSTANCE_IP" => "10.244.0.5",
                "POD_NAME" | "POD_NAMESPACE" | "POD_UID" | "SERVICE_ACCOUNT" => "test",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let worker = Worker {
            index: 0,
            bootstrap: Arc::new(Bootstrap::parse(get, Default::default(), Paths::default()).unwrap()),
            views,
            discovery,
            client_tls: ClientTls::new(Arc::clone(&credentials)),
            server_tls: ServerTls::new(credentials, &[domain], alpn::SERVER_PREFERENCE),
            drain: watch,
        };
        let telemetry = Telemetry::start(1).unwrap();
        Self { local: Local::new(worker, &telemetry, Instant::now()), drain }
    }

    /// Captures what connects to the address that is returned, as if it had been going to `original`, on its way out.
    pub(crate) async fn capture_outbound(&self, original: SocketAddr) -> SocketAddr {
        let (listener, address) = listener().await;
        let local = Rc::clone(&self.local);
        tokio::task::spawn_local(async move {
            while let Ok((stream, remote)) = listener.accept().await {
                let serving = crate::outbound::serve_meant_for(Rc::clone(&local), stream, remote, original);
                tokio::task::spawn_local(serving);
            }
        });
        address
    }

    /// The same on its way in.
    pub(crate) async fn capture_inbound(&self, original: SocketAddr) -> SocketAddr {
        let (listener, address) = listener().await;
        let local = Rc::clone(&self.local);
        tokio::task::spawn_local(async move {
            while let Ok((stream, remote)) = listener.accept().await {
                let serving = crate::inbound::serve_meant_for(Rc::clone(&local), stream, remote, original);
                tokio::task::spawn_local(serving);
            }
        });
        address
    }

    /// All metrics as text.
    pub(crate) fn metrics(&self) -> String {
        self.local.report_open();
        let mut text = String::new();
        self.local.metrics.write(&mut text);
        text
    }

    /// The lines of a metric that have all of these.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Vec<String> {
        let begin = format!("{name}{{");
        let text = self.metrics();
        let lines =
            text.lines().filter(|line| line.starts_with(&begin) && labels.iter().all(|label| line.contains(label)));
        lines.map(str::to_owned).collect()
    }
}

/// A listener on loopback.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Runs a test's tasks on one thread.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test ends") });
}

/// Sends bytes, and reads until the other side closes.
pub(crate) async fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// An application: each connection gets this answer for each request head that it sends, and what it sent is kept.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Rc<RefCell<Vec<String>>>,
}

impl Application {
    /// Answers every head with `answer`. Bodies are not read: they must come with their head.
    pub(crate) async fn start(answer: &'static str) -> Self {
        let (listener, address) = listener().await;
        let seen = Rc::new(RefCell::new(Vec::new()));
        let heads = Rc::clone(&seen);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(answer_all(stream, answer, Rc::clone(&heads)));
            }
        });
        Self { address, seen }
    }
}

async fn answer_all(mut stream: TcpStream, answer: &'static str, heads: Rc<RefCell<Vec<String>>>) {
    let mut buffer = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(bytes) => buffer.extend_from_slice(&piece[..bytes]),
        }
        while let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = buffer.split_off(end + 4);
            heads.borrow_mut().push(String::from_utf8(std::mem::replace(&mut buffer, rest)).unwrap());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// What an HTTP/2 application received, and how it answers: it echoes the body, and ends with these trailers.
pub(crate) async fn grpc_echo() -> SocketAddr {
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::{Frame, Incoming};
    use hyper_util::rt::TokioIo;
    let (listener, address) = listener().await;
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: http::Request<Incoming>| async move {
                let mut body = request.into_body();
                let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<bytes::Bytes>, hyper::Error>>(1);
                tokio::task::spawn_local(async move {
                    let mut total = 0;
                    while let Some(frame) = body.frame().await {
                        let Ok(frame) = frame else { return };
                        if let Ok(data) = frame.into_data() {
                            total += data.len();
                            if sender.send(Ok(Frame::data(data))).await.is_err() {
                                return;
                            }
                        }
                    }
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    trailers.insert("x-total", http::HeaderValue::from(total));
                    trailers.insert("mesh-forged", http::HeaderValue::from_static("1"));
                    let _ = sender.send(Ok(Frame::trailers(trailers))).await;
                });
                let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
                    receiver.recv().await.map(|frame| (frame, receiver))
                });
                let mut response = http::Response::new(StreamBody::new(stream));
                response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
                Ok::<_, hyper::Error>(response)
            });
            let serving = hyper::server::conn::http2::Builder::new(crate::http::exec::LocalExec)
                .serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(async move {
                let _ = serving.await;
            });
        }
    });
    address
}

/// An HTTP/2 client with prior knowledge.
pub(crate) async fn http2_client<B>(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<B>
where
    B: http_body::Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<crate::http::body::BodyError>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let builder = hyper::client::conn::http2::Builder::new(crate::http::exec::LocalExec);
    let (sender, connection) = builder.handshake(io).await.unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

/// An application that gives each connection to this function.
pub(crate) async fn application<F: Future<Output = ()> + 'static>(
    serve: impl Fn(TcpStream) -> F + 'static,
) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(serve(stream));
        }
    });
    address
}
