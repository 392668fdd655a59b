//! The README's first command: bookinfo in a sandbox, up to the answering page.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::machine;
use crate::workspace::{Workspace, cargo, root};

/// The port of the page on 127.0.0.1.
pub(crate) const PORT: u16 = 9080;

/// What the demo consists of, below the root.
const EXAMPLE: &str = "examples/bookinfo";
/// The programs that the demo runs, by package.
const PACKAGES: [&str; 5] = ["meshctl", "mesh-control", "mesh-proxy", "mesh-cni", "example-apps"];
/// How long the page may take after the sandbox is up.
const PAGE_TIME_MAX: Duration = Duration::from_secs(60);
/// Time between two looks at the page, and for one look.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of the page that are read.
const PAGE_MAX: u64 = 256 * 1024;
/// What the page says in the place of a part that did not come.
const MISSING_PART: &str = "currently unavailable";

/// Builds, starts, waits for the page, and says where it is.
pub(crate) fn run(port: u16) -> anyhow::Result<()> {
    let sudo = "run it as root, for example: sudo --preserve-env=PATH,HOME cargo xtask demo";
    ensure!(machine::is_root(), "the sandbox makes network namespaces; {sudo}");
    machine::provide()?;

    let packages: Vec<_> = PACKAGES.iter().flat_map(|name| ["-p", name]).collect();
    let mut build = cargo(&[&["build", "--locked", "--bins"], packages.as_slice()].concat());
    ensure!(build.status().context("cargo build")?.success(), "the programs do not build; see above");

    let meshctl = Workspace::load()?.programs_folder("debug").join("meshctl");
    let published = format!("productpage:{PORT}={port}");
    let published = if port == PORT { format!("productpage:{PORT}") } else { published };
    let mut up = Command::new(&meshctl);
    up.args(["sandbox", "up", EXAMPLE, "--publish", &published]).current_dir(root());
    ensure!(up.status().with_context(|| meshctl.display().to_string())?.success(), "the sandbox did not come up");

    wait_for_page(port)?;
    eprintln!("\nThe page answers: http://127.0.0.1:{port}/productpage");
    Ok(())
}

fn wait_for_page(port: u16) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let look = Instant::now();
        let why = match page(port) {
            Ok(page) if page.contains(MISSING_PART) => "a part of the page is missing".to_owned(),
            Ok(_) => return Ok(()),
            Err(error) => format!("{error:#}"),
        };
        if begin.elapsed() > PAGE_TIME_MAX {
            bail!("no whole page within {PAGE_TIME_MAX:?}: {why}; look at `meshctl sandbox status`");
        }
        pause(LOOK.saturating_sub(look.elapsed()));
    }
}

#[expect(clippy::disallowed_methods, reason = "one thread that polls another process; nothing else runs on it")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn page(port: u16) -> anyhow::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LOOK)?;
    stream.set_read_timeout(Some(PAGE_TIME_MAX))?;
    write!(stream, "GET /productpage HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut page = Vec::new();
    stream.take(PAGE_MAX).read_to_end(&mut page)?;
    let page = String::from_utf8_lossy(&page).into_owned();
    let status = page.lines().next().unwrap_or("an empty answer").to_owned();
    ensure!(status.split(' ').nth(1) == Some("200"), "{status}");
    Ok(page)
}
