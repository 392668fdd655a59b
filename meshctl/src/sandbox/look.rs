//! `sandbox exec` and `sandbox logs`.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_sandbox::client;
use mesh_sandbox::paths::StateDir;
use mesh_sandbox::protocol::{ContainerInfo, PodInfo, Request};

use crate::cli;
use crate::output;

/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

fn find(
    target: &cli::Target,
    namespace: Option<&String>,
    pod: &str,
    container: Option<&str>,
) -> anyhow::Result<(PodInfo, ContainerInfo)> {
    let dir = StateDir::new(&target.name)?;
    let request = Request::Pod { namespace: namespace.cloned(), name: pod.to_owned() };
    let info: PodInfo = client::ask(&dir, &request)?;
    let names = || info.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match container {
        // `proxy` is short for the mesh's sidecar.
        Some(name) => info.containers.iter().find(|c| c.name == name || name == "proxy" && c.name == "mesh-proxy"),
        None => info.containers.first(),
    };
    let found = found.with_context(|| {
        format!("pod {} has no container {:?}; it has {}", info.name, container.unwrap_or("-"), names())
    })?;
    let found = found.clone();
    Ok((info, found))
}

/// Becomes the command, in the container.
pub(crate) fn exec(args: &cli::Exec) -> anyhow::Result<ExitCode> {
    let (info, container) = find(&args.target, args.within.namespace.as_ref(), &args.pod, args.container.as_deref())?;
    ensure!(info.pid.is_some(), "pod {} does not run", info.name);
    let err = client::exec(&container, &args.command)?.exec();
    Err(err).context("cannot run the helper")
}

/// Prints a log.
pub(crate) fn logs(args: &cli::Logs) -> anyhow::Result<ExitCode> {
    let (info, container) = find(&args.target, args.within.namespace.as_ref(), &args.pod, args.container.as_deref())?;
    let mut file = match File::open(&container.log) {
        Ok(file) => file,
        Err(_) if !args.follow => {
            output::note(format_args!(
                "Container {} of pod {} has not written anything yet.",
                container.name, info.name
            ));
            return Ok(ExitCode::SUCCESS);
        }
        Err(err) => return Err(err).context("the container has not started yet"),
    };
    let mut out = std::io::stdout().lock();
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let from = args.tail.map_or(0, |lines| tail(&text, lines));
    if out.write_all(&text[from..]).and_then(|()| out.flush()).is_err() || !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    drop(text);
    let mut at = file.stream_position()?;
    loop {
        std::thread::park_timeout(FOLLOW);
        let length = file.metadata()?.len();
        if length < at {
            at = 0; // it was cut because it had grown too large
        }
        if length > at {
            file.seek(SeekFrom::Start(at))?;
            at += std::io::copy(&mut (&mut file).take(length - at), &mut out)?;
            out.flush()?;
        } else if !std::path::Path::new(&container.log).exists() {
            return Ok(ExitCode::SUCCESS); // the pod is gone
        }
    }
}

/// Where the last `lines` lines begin.
fn tail(text: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return text.len();
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut left = lines;
    for (at, byte) in body.iter().enumerate().rev() {
        if *byte == b'\n' {
            left = left.saturating_sub(1);
            if left == 0 {
                return at + 1;
            }
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_last_lines() {
        let text = b"a\nb\nc\n";
        assert_eq!([0, 1, 2, 3, 9].map(|n| tail(text, n)), [6, 4, 2, 0, 0]);
    }
}
