//! Network namespaces for the tests: one per thread, with the program under test and real connections in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, gettid, setfsgid, setfsuid};
use socket2::{Domain, SockRef, Socket, Type};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mesh-cni");
/// User of the proxy.
pub(crate) const PROXY: u32 = 1337;
/// Any other user.
pub(crate) const APP: u32 = 1000;
/// How long a connection may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
const POD_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 2))];
const CLIENT_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1))];

/// The namespace of the thread that runs the test.
pub(crate) struct Pod {
    pub(crate) addresses: [IpAddr; 2],
}

/// The other side: a thread that runs what it is sent in its own namespace.
pub(crate) struct Client {
    pub(crate) addresses: [IpAddr; 2],
    work: Sender<Box<dyn FnOnce() + Send>>,
}

/// A connection as its server sees it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Where it was going, if it was led here.
    pub(crate) original: Option<SocketAddr>,
    pub(crate) peer: SocketAddr,
}

/// Runs a test in a namespace of its own with only lo.
pub(crate) fn in_pod(test: impl FnOnce(&Pod) + Send + 'static) {
    in_namespace(move || {
        sh("ip link set lo up");
        test(&Pod { addresses: POD_ADDRESSES });
    });
}

/// Runs a test in a namespace that is connected with another.
pub(crate) fn in_two_pods(test: impl FnOnce(&Pod, &Client) + Send + 'static) {
    in_namespace(move || {
        sh("ip link set lo up");
        let (ready, thread_id) = mpsc::channel();
        let (work, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let client = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a second namespace, as the first");
            ready.send(gettid()).expect("the test waits");
            jobs.into_iter().for_each(|job| job());
        });
        let there = thread_id.recv().expect("the client thread runs");
        sh(&format!("ip link add eth0 type veth peer name eth0 netns {there}"));
        let up = |addresses: [IpAddr; 2]| {
            let [v4, v6] = addresses;
            format!(
                "ip link set lo up && ip addr add {v4}/24 dev eth0 && ip -6 addr add {v6}/64 dev eth0 nodad && ip link set eth0 up"
            )
        };
        sh(&up(POD_ADDRESSES));
        let other = Client { addresses: CLIENT_ADDRESSES, work };
        let commands = up(CLIENT_ADDRESSES);
        other.run(move || sh(&commands));
        test(&Pod { addresses: POD_ADDRESSES }, &other);
        drop(other);
        client.join().expect("the client thread ends");
    });
}

/// A thread with a new network namespace; says why if there cannot be one.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    for program in ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy", "ip"] {
        if Command::new(program).arg("-V").output().is_err() {
            println!("SKIPPED: the program {program} is missing (packages iptables and iproute2)");
            return;
        }
    }
    let outcome = thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("SKIPPED: cannot make a network namespace ({error}); run as root");
            return;
        }
        test();
    });
    if let Err(panic) = outcome.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Pod {
    /// Runs `mesh-cni init`, which must succeed.
    #[track_caller]
    pub(crate) fn init(&self, args: &[&str]) -> String {
        let (code, text) = self.try_init(args, |_| {});
        assert_eq!(code, 0, "mesh-cni init {args:?}: {text}");
        text
    }

    /// Runs `mesh-cni init` and returns its exit code and all that it printed.
    pub(crate) fn try_init(&self, args: &[&str], edit: impl FnOnce(&mut Command)) -> (i32, String) {
        // Whoever it runs as: the folder that it was built in may be one that only root can enter.
        let folder = tempfile::tempdir().expect("a folder for the program");
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).expect("our own folder");
        let program = folder.path().join("mesh-cni");
        std::fs::copy(PROGRAM, &program).expect("the program can be copied");
        let mut command = Command::new(&program);
        command.arg("init").args(args);
        edit(&mut command);
        let output = loop {
            match command.output() {
                // Another test's thread forked while the copy was being written, and has not called exec yet.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => thread::yield_now(),
                ended => break ended.expect("the program starts"),
            }
        };
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().expect("it ends by itself"), String::from_utf8_lossy(&text).into_owned())
    }

    /// All rules of a backend, without comments and counters.
    pub(crate) fn rules(&self, backend: &str) -> String {
        let text = sh(&format!("iptables-{backend}-save -t nat; ip6tables-{backend}-save -t nat"));
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
    }

    /// Connects as a user and returns what the server accepted.
    #[track_caller]
    pub(crate) fn connect_as(&self, uid: u32, to: SocketAddr, server: &TcpListener) -> Seen {
        self.connect_from(uid, None, to, server)
    }

    /// [`Pod::connect_as`] from a chosen source address.
    #[track_caller]
    pub(crate) fn connect_from(&self, uid: u32, from: Option<IpAddr>, to: SocketAddr, server: &TcpListener) -> Seen {
        setfsuid(Uid::from_raw(uid));
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None);
        setfsuid(Uid::from_raw(0));
        finish(socket.expect("a socket"), from, to, server)
    }

    /// Connects as a user of a group.
    #[track_caller]
    pub(crate) fn connect_as_group(&self, uid: u32, gid: u32, to: SocketAddr, server: &TcpListener) -> Seen {
        setfsgid(Gid::from_raw(gid));
        setfsuid(Uid::from_raw(uid));
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None);
        setfsuid(Uid::from_raw(0));
        setfsgid(Gid::from_raw(0));
        finish(socket.expect("a socket"), None, to, server)
    }
}

impl Client {
    /// Runs something in the client's namespace.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = move || done.send(job()).expect("the test waits");
        self.work.send(Box::new(job)).expect("the client thread runs");
        result.recv().expect("the client's job succeeded")
    }

    /// Listens in the client's namespace, one listener per family.
    pub(crate) fn listen(&self, port: u16) -> [TcpListener; 2] {
        self.run(move || listeners(port))
    }

    /// Connects from the client and returns what the server accepted.
    #[track_caller]
    pub(crate) fn connect_to(&self, to: SocketAddr, server: &TcpListener) -> Seen {
        let server = server.try_clone().expect("a second handle");
        self.run(move || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
            finish(socket, None, to, &server)
        })
    }
}

#[track_caller]
fn finish(socket: Socket, from: Option<IpAddr>, to: SocketAddr, server: &TcpListener) -> Seen {
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into()).expect("the source address is local");
    }
    socket.connect_timeout(&to.into(), PATIENCE).unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"));
    let stream = TcpStream::from(socket);
    let (accepted, peer) =
        server.accept().unwrap_or_else(|error| panic!("the connection to {to} arrived elsewhere: {error}"));
    assert_eq!(peer, stream.local_addr().expect("connected"), "this is the connection");
    let option = SockRef::from(&accepted);
    let original = if to.is_ipv4() { option.original_dst_v4() } else { option.original_dst_v6() };
    // Without a redirect it is the address itself.
    let local = accepted.local_addr().expect("connected");
    let original = original.ok().and_then(|address| address.as_socket()).filter(|address| *address != local);
    Seen { original, peer }
}

/// A listener per family, on all addresses of this thread's namespace.
pub(crate) fn listeners(port: u16) -> [TcpListener; 2] {
    [(Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)), (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED))].map(
        |(domain, address)| {
            let socket = Socket::new(domain, Type::STREAM, None).expect("a socket");
            if domain == Domain::IPV6 {
                socket.set_only_v6(true).expect("an option");
            }
            socket.set_reuse_address(true).expect("an option");
            socket.set_read_timeout(Some(PATIENCE)).expect("an option");
            socket.bind(&SocketAddr::new(address, port).into()).expect("the port is free");
            socket.listen(16).expect("a listener");
            socket.into()
        },
    )
}

/// 127.0.0.1 or ::1.
pub(crate) fn loopback(family: usize) -> IpAddr {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)][family]
}

/// The inbound proxy's source address.
pub(crate) fn passthrough(family: usize) -> IpAddr {
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))][family]
}

/// Runs a shell command in the namespace of this thread, which must succeed.
#[track_caller]
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("a shell");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
