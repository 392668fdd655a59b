//! The iptables programs: which there are, and running them with bounds on time and output.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;
use crate::rules::Family;
use crate::saved::{self, Saved};

/// How long a program may take, in seconds. It waits for the lock at most [`LOCK_SECONDS`].
const PROGRAM_SECONDS: u64 = 30;
/// How long a program waits for the lock that all iptables programs share, in seconds.
const LOCK_SECONDS: &str = "--wait=10";
/// Longest output that is read, in bytes: about a hundred thousand rules.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// The lock of the legacy programs, and the place for it where the root file system is read-only.
const LOCK_FILE: &str = "/run/xtables.lock";
const LOCK_FILE_INSTEAD: &str = "/dev/shm/mesh-xtables.lock";

/// Which part of the kernel keeps the rules. Rules of the two do not see each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// nf_tables.
    Nft,
    /// x_tables, the older.
    Legacy,
}

impl Backend {
    /// Both; the first is preferred where nothing speaks for the other.
    pub(crate) const ALL: [Backend; 2] = [Backend::Nft, Backend::Legacy];

    /// As people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Backend::Nft => "nf_tables",
            Backend::Legacy => "legacy",
        }
    }
}

/// The programs of one backend and family.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    save: String,
    restore: String,
}

impl Programs {
    /// Finds the programs. Distributions that ship one backend only may have it under the plain names.
    pub(crate) fn find(backend: Backend, family: Family) -> Result<Programs, Error> {
        let stem = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let variant = match backend {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        };
        let named = Programs { save: format!("{stem}-{variant}-save"), restore: format!("{stem}-{variant}-restore") };
        let plain = Programs { save: format!("{stem}-save"), restore: format!("{stem}-restore") };
        if named.version()?.is_some() {
            return Ok(named);
        }
        match plain.version()? {
            // Before 1.8 there was one backend, and it was not named.
            Some(version) if (backend == Backend::Nft) == version.contains("nf_tables") => Ok(plain),
            _ => Err(Error::ProgramMissing {
                programs: format!("{} (or {} of that kind)", named.restore, plain.restore),
            }),
        }
    }

    fn version(&self) -> Result<Option<String>, Error> {
        match run(&self.restore, &["--version"], "") {
            Ok(version) => Ok(Some(version)),
            Err(Error::ProgramMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The rules that are there. With a table's name the table is made if it is not there, which shows whether the
    /// kernel can do it; without, nothing is touched.
    pub(crate) fn save(&self, table: Option<&str>) -> Result<Saved, Error> {
        let args: Vec<&str> = table.map(|table| vec!["-t", table]).unwrap_or_default();
        run(&self.save, &args, "").map(|text| saved::parse(&text))
    }

    /// Writes rules: each table in one step, or not at all.
    pub(crate) fn restore(&self, text: &str) -> Result<(), Error> {
        run(&self.restore, &["--noflush", LOCK_SECONDS], text).map(drop)
    }
}

/// Runs a program to its end and returns what it printed.
fn run(program: &str, args: &[&str], input: &str) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !can_lock() {
        command.env("XTABLES_LOCKFILE", LOCK_FILE_INSTEAD);
    }
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::ProgramMissing { programs: program.to_owned() },
        _ => Error::Io { what: format!("cannot run {program}"), source },
    })?;
    let failed = |source| Error::Io { what: format!("cannot talk to {program}"), source };
    let id = Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive"));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (done, finished) = mpsc::channel();
    let input = input.to_owned();
    // One thread feeds and waits, so that this one can give up.
    thread::spawn(move || {
        let reader = thread::spawn(move || read(stderr));
        if let Some(mut stdin) = stdin {
            // A program that ends early says why on its standard error; that is the better message.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = read(stdout);
        let complaint = reader.join().unwrap_or_default();
        let _ = done.send((child.wait(), output, complaint));
    });
    let Ok((status, output, complaint)) = finished.recv_timeout(Duration::from_secs(PROGRAM_SECONDS)) else {
        // It has not been waited for, so the id is still its own.
        let _ = kill(id, Signal::SIGKILL);
        return Err(Error::ProgramHangs { program: program.to_owned(), seconds: PROGRAM_SECONDS });
    };
    match status.map_err(failed)?.success() {
        true => Ok(output),
        false => Err(Error::of_program(program, &complaint)),
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before a failure is still worth showing.
        let _ = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the usual lock file can be opened: not on a read-only root file system.
fn can_lock() -> bool {
    OpenOptions::new().create(true).append(true).open(LOCK_FILE).is_ok()
}
