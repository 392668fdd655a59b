//! The side of `meshctl`: talking to a supervisor, starting one, ending one, reading manifests.

mod down;
mod manifests;
mod start;

pub use down::{Leftovers, down, sweep};
pub use manifests::{read_directory, read_files};
pub use start::{Start, start};

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;

use crate::paths::StateDir;
use crate::protocol::{ContainerInfo, LINE_BYTES_MAX, Reply, Request};

/// Asks the supervisor of `dir`.
///
/// The error of a sandbox that is not up says so, and how to start it.
pub fn ask<T: DeserializeOwned>(dir: &StateDir, request: &Request) -> anyhow::Result<T> {
    let mut stream = UnixStream::connect(dir.socket()).map_err(|_| not_up(dir))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).context("the supervisor closed the connection")?;
    let mut answer = String::new();
    BufReader::new(stream).take(LINE_BYTES_MAX).read_line(&mut answer).context("the supervisor gave no answer")?;
    if answer.is_empty() {
        bail!("the supervisor ended while it was asked; its log is {}", dir.log().display());
    }
    match serde_json::from_str(&answer)
        .context("the supervisor's answer is not understood: is it of another version?")?
    {
        Reply::Ok(value) => Ok(serde_json::from_value(value)?),
        Reply::Error(why) => bail!(why),
    }
}

/// Whether a supervisor answers.
pub fn is_up(dir: &StateDir) -> bool {
    UnixStream::connect(dir.socket()).is_ok()
}

fn not_up(dir: &StateDir) -> anyhow::Error {
    let name = dir.name();
    let others: Vec<String> = StateDir::all_names().into_iter().filter(|n| n != name).collect();
    if !nix::unistd::Uid::effective().is_root() {
        return anyhow::anyhow!("the sandbox needs root: use sudo");
    }
    if dir.root().exists() {
        return anyhow::anyhow!(
            "the sandbox {name:?} is not running, but something of it is left: `meshctl sandbox down --name {name}` cleans up"
        );
    }
    match others.as_slice() {
        [] => anyhow::anyhow!("no sandbox {name:?} is up: start one with `meshctl sandbox up DIR`"),
        others => anyhow::anyhow!("no sandbox {name:?} is up, but {}: use --name", others.join(", ")),
    }
}

/// A command that runs `argv` inside a running container, with the caller's terminal.
pub fn exec(container: &ContainerInfo, argv: &[String]) -> anyhow::Result<Command> {
    let pid = container.pid.with_context(|| format!("container {} does not run", container.name))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(crate::pod::helper::ENTER).arg("--join").arg(pid.to_string()).arg(&container.spec).arg("--").args(argv);
    Ok(command)
}
