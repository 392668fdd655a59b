//! Packet captures between pods: what an eavesdropper would see.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A running `tcpdump` in another network namespace.
pub struct Capture {
    tcpdump: Child,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Capture {
    /// Captures what `filter` selects in the network namespace at `namespace` (for example `/proc/123/ns/net`).
    ///
    /// # Errors
    /// Where `tcpdump` or `nsenter` is missing or the namespace is gone.
    pub fn start(namespace: &Path, filter: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("packets.pcap");
        let mut tcpdump = Command::new("nsenter")
            .arg(format!("--net={}", namespace.display()))
            .args(["tcpdump", "-i", "any", "-U", "-s", "0", "-Z", "root", "-w"])
            .arg(&file)
            .args(filter.split_whitespace())
            .stderr(Stdio::piped())
            .spawn()
            .context("tcpdump; install it: apt-get install tcpdump")?;
        // "listening on any" is said once packets are being captured.
        let mut said = String::new();
        let mut lines = BufReader::new(tcpdump.stderr.take().context("its standard error is piped")?);
        while !said.contains("listening on") {
            ensure!(lines.read_line(&mut said)? > 0, "tcpdump ended: {said}");
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(Self { tcpdump, file, _folder: folder })
    }

    /// Ends the capture: all captured bytes.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn finish(mut self) -> Result<Packets> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.tcpdump.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
        self.tcpdump.wait()?;
        Ok(Packets { bytes: std::fs::read(&self.file)? })
    }
}

/// What was captured.
pub struct Packets {
    bytes: Vec<u8>,
}

impl Packets {
    /// How often a text occurs in what crossed the wire.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        let needle = text.as_bytes();
        self.bytes.windows(needle.len()).filter(|window| *window == needle).count()
    }

    /// TLS records of application data (`17 03 03`), roughly: the byte pattern's count.
    #[must_use]
    pub fn tls_records(&self) -> usize {
        self.bytes.windows(3).filter(|window| *window == [0x17, 0x03, 0x03]).count()
    }

    /// Size of the capture in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was captured (a file header is always there).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= 24
    }
}
