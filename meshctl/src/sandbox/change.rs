//! `sandbox apply` and `sandbox delete`.

use std::process::ExitCode;
use std::time::Duration;

use mesh_sandbox::client;
use mesh_sandbox::paths::StateDir;
use mesh_sandbox::protocol::{Applied, Request};

use super::{show, up};
use crate::cli::{self, Format};
use crate::output::{self, BAD, WAITING};

/// Creates or changes objects.
pub(crate) fn apply(args: &cli::Apply) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(&args.target.name)?;
    let files = client::read_files(&args.files)?;
    let applied: Applied =
        client::ask(&dir, &Request::Apply { files, namespace: args.namespace.clone(), images: None })?;
    let mut code = report(&applied, args.target.output)?;
    if let Some(seconds) = args.wait {
        let text = args.target.output == Format::Text;
        let (status, well) = up::wait(&dir, Duration::from_secs(seconds), text)?;
        if !well {
            up::explain(&dir, &status, seconds);
            code = ExitCode::from(output::EXIT_FAILED);
        }
    }
    Ok(code)
}

/// Deletes objects.
pub(crate) fn delete(args: &cli::Delete) -> anyhow::Result<ExitCode> {
    let dir = StateDir::new(&args.target.name)?;
    let files = client::read_files(&args.files)?;
    let request =
        Request::Delete { files, namespace: args.namespace.clone(), names: args.objects.clone(), grace: args.grace };
    let applied: Applied = client::ask(&dir, &request)?;
    report(&applied, args.target.output)
}

/// One line per object; documents that were not understood make the command fail, the others were done all the same.
fn report(applied: &Applied, format: Format) -> anyhow::Result<ExitCode> {
    if !output::structured(format, applied)? {
        for (object, done) in &applied.done {
            output::line(format_args!("{object} {done}"));
        }
        for finding in &applied.findings {
            output::note(show::finding(finding));
        }
        for warning in &applied.warnings {
            output::note(format_args!("{WAITING}warning:{WAITING:#} {warning}"));
        }
    }
    for mistake in &applied.mistakes {
        output::note(format_args!("{BAD}error:{BAD:#} {mistake}"));
    }
    Ok(if applied.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(output::EXIT_FAILED) })
}
