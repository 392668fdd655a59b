//! Steps in a row: each with its name and time, the first failure ends it with what to do next, and at the end stands
//! where the time went.
//!
//! A test that cannot run says `SKIPPED: why`. On a developer's machine that is repeated in the summary; in CI it is a
//! failure, because a test that silently does not run protects nobody.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// How a test says that it did not run.
const SKIPPED: &str = "SKIPPED:";
/// The one reason that CI accepts: samples that are no part of the repository.
const ACCEPTED: &str = "SKIPPED: ../shared is absent";

/// How long the outputs of a program that has ended are read on.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// A run of steps.
#[derive(Debug)]
pub(crate) struct Pipeline {
    begin: Instant,
    steps: Vec<(&'static str, Duration, bool)>,
    skipped: Vec<String>,
    /// Whether a skipped test is a failure.
    strict: bool,
}

impl Pipeline {
    /// A pipeline without steps yet; strict when `CI` is set to something but `false`.
    pub(crate) fn new() -> Pipeline {
        let strict = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false" && ci != "0");
        Pipeline { begin: Instant::now(), steps: Vec::new(), skipped: Vec::new(), strict }
    }

    /// Runs a step that is a function; `next` tells a person what to do when it fails.
    pub(crate) fn check(
        &mut self,
        name: &'static str,
        next: &str,
        check: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        eprintln!("\n━━ {name}");
        let begin = Instant::now();
        let result = check();
        let took = begin.elapsed();
        self.steps.push((name, took, result.is_ok()));
        let mark = if result.is_ok() { "ok" } else { "FAILED" };
        eprintln!("━━ {name}: {mark} in {}", human(took));
        result.with_context(|| format!("step `{name}` failed. What to do next: {next}"))
    }

    /// Runs a step that is a program.
    pub(crate) fn step(&mut self, name: &'static str, next: &str, command: &mut Command) -> anyhow::Result<()> {
        self.check(name, next, || {
            eprintln!("   {}", shown(command));
            let status = command.status().with_context(|| shown(command))?;
            if !status.success() {
                bail!("`{}` ended with {status}", shown(command));
            }
            Ok(())
        })
    }

    /// Runs a step whose output may say that tests were skipped.
    pub(crate) fn tests(&mut self, name: &'static str, next: &str, command: &mut Command) -> anyhow::Result<()> {
        let strict = self.strict;
        let mut skipped = Vec::new();
        let result = self.check(name, next, || {
            eprintln!("   {}", shown(command));
            skipped = run_watched(command)?;
            let refused = refused(&skipped, strict);
            ensure!(refused.is_empty(), "in CI every test must run, but:\n  {}", refused.join("\n  "));
            Ok(())
        });
        self.skipped.append(&mut skipped);
        result
    }

    /// Prints where the time went.
    pub(crate) fn summary(&self) {
        eprintln!("\n━━ summary");
        for (name, took, ok) in &self.steps {
            eprintln!("   {} {name:<24} {:>8}", if *ok { "✓" } else { "✗" }, human(*took));
        }
        eprintln!("     {:<24} {:>8}", "all", human(self.begin.elapsed()));
        for line in &self.skipped {
            eprintln!("   {line}");
        }
    }
}

/// Runs a command, passing its output on, and returns the lines that say that a test was skipped.
fn run_watched(command: &mut Command) -> anyhow::Result<Vec<String>> {
    let name = shown(command);
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| name.clone())?;
    let (sender, lines) = channel();
    let (stdout, stderr, errors) = (child.stdout.take(), child.stderr.take(), sender.clone());
    std::thread::spawn(move || pass_on(stdout, std::io::stdout(), &sender));
    std::thread::spawn(move || pass_on(stderr, std::io::stderr(), &errors));
    let status = child.wait()?;
    // The channel closes when both outputs have ended. A process that outlives the command may keep them open, and is
    // not waited for.
    let mut skipped = Vec::new();
    while let Ok(skip) = lines.recv_timeout(LAST_WORDS_MAX) {
        skipped.push(skip);
    }
    if !status.success() {
        bail!("`{name}` ended with {status}");
    }
    Ok(skipped)
}

/// Passes lines on as they come, also when nobody reads ours any more.
fn pass_on(from: Option<impl Read>, mut to: impl Write, skips: &Sender<String>) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let _ = to.write_all(&line).and_then(|()| to.flush());
        if let Some(skip) = skip(&String::from_utf8_lossy(&line)) {
            let _ = skips.send(skip);
        }
        line.clear();
    }
}

/// The reason that a line gives for a skipped test.
fn skip(line: &str) -> Option<String> {
    let line = line.trim();
    line.starts_with(SKIPPED).then(|| line.to_owned())
}

/// The skips that are a failure.
fn refused(skipped: &[String], strict: bool) -> Vec<&str> {
    skipped.iter().map(String::as_str).filter(|line| strict && !line.starts_with(ACCEPTED)).collect()
}

fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A time as people read it.
pub(crate) fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Nothing here prints a skip at a line's beginning: the pipeline that runs this test would believe it.
    #[test]
    fn a_skipped_test_fails_ci_and_is_told_elsewhere() {
        let said = ["  SKIPPED: no iptables\n", "SKIPPED: ../shared is absent", "test says SKIPPED: in the middle"];
        let skipped: Vec<_> = said.into_iter().filter_map(skip).collect();
        assert_eq!(skipped, ["SKIPPED: no iptables", "SKIPPED: ../shared is absent"]);
        assert_eq!(refused(&skipped, true), ["SKIPPED: no iptables"]);
        assert!(refused(&skipped, false).is_empty());
    }

    #[test]
    fn lines_of_a_program_are_watched() {
        let skips = run_watched(Command::new("sh").args(["-c", "echo watched; echo 'not SKIPPED: this' >&2"]));
        assert!(skips.is_ok_and(|skips| skips.is_empty()));
        assert!(run_watched(&mut Command::new("false")).is_err());
    }

    #[test]
    fn a_failing_step_says_what_to_do_next() {
        let mut pipeline = Pipeline::new();
        let error = pipeline.step("lint", "mend it", &mut Command::new("false")).unwrap_err();
        assert!(error.to_string().contains("What to do next: mend it"), "{error:#}");
    }
}
