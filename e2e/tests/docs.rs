//! The documentation is run: every command of its `console` blocks, with the output that the page shows.
//!
//! A page is a session: its commands run in order, in the repository's root, against one sandbox of bookinfo whose name
//! nobody else has (`MESH_SANDBOX`). In expected output `...` stands for any text, and a line of only `...` for any
//! number of lines; runs of blanks count as one, so that tables may be as wide as they like. A command whose output does
//! not match is repeated for a while, because some effects need a moment; one that shows none must succeed. Blocks of
//! `sh` are not run, but what they call must exist.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::sandbox::{self, Output, output, programs, root};

/// What the pages' sandbox is made of, where a page does not start its own.
const DIRECTORY: &str = "examples/bookinfo";
/// How long a command may take until its output is as the page says.
const PATIENCE: Duration = Duration::from_secs(10);
/// The port that the pages publish the example on; a run takes a free one instead.
const PUBLISHED: &str = "9080=9080";

fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let pages = pages().expect("docs/ can be read");
    let name = |page: &Path| {
        let name = page.strip_prefix(root()).unwrap_or(page).display().to_string();
        format!("{name} is true")
    };
    let chosen: Vec<_> = pages.iter().filter(|page| wanted.as_ref().is_none_or(|w| name(page).contains(w))).collect();
    if std::env::args().any(|argument| argument == "--list") {
        chosen.iter().for_each(|page| println!("{}: test", name(page)));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} pages", chosen.len());
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: network namespaces need root");
        return ExitCode::SUCCESS;
    }
    let begin = Instant::now();
    let mut failed = 0;
    for page in &chosen {
        let begin = Instant::now();
        let outcome = prove(page);
        let seconds = begin.elapsed().as_secs_f32();
        match outcome {
            Ok(commands) => println!("test {} ... ok ({commands} commands, {seconds:.1} s)", name(page)),
            Err(error) => {
                println!("test {} ... FAILED ({seconds:.1} s)\n{error:#}", name(page));
                failed += 1;
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {failed} failed; 0 ignored; finished in {:.1}s\n",
        chosen.len() - failed,
        begin.elapsed().as_secs_f32()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// README.md and the pages of docs/.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(root().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    pages.insert(0, root().join("README.md"));
    Ok(pages)
}

/// A command and what it must print.
#[derive(Debug, Default)]
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

/// The commands of a page: those that are run, and those that must only exist.
fn read(text: &str) -> (Vec<Step>, Vec<Step>) {
    let (mut run, mut exist) = (Vec::<Step>::new(), Vec::new());
    let mut block = None;
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        match (block, text.strip_prefix("```")) {
            (None, Some(language)) => block = Some(language.trim()),
            (Some(_), Some(_)) => block = None,
            (Some("console"), None) => match (text.strip_prefix("$ "), run.last_mut()) {
                (Some(command), _) => run.push(Step { line, command: command.to_owned(), expected: Vec::new() }),
                (None, Some(step)) => step.expected.push(text.trim_end().to_owned()),
                (None, None) => {}
            },
            (Some("sh"), None) if !text.trim().is_empty() => {
                exist.push(Step { line, command: text.trim().to_owned(), expected: Vec::new() });
            }
            _ => {}
        }
    }
    (run, exist)
}

/// Runs a page. The number of its commands, or what is not as it says.
fn prove(page: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(page)?;
    let (steps, exist) = read(&text);
    let file = page.strip_prefix(root()).unwrap_or(page).display();
    let mut wrong = Vec::new();
    let mut look = |step: &Step, outcome: Result<()>| {
        if let Err(error) = outcome {
            wrong.push(format!("    {file}:{}: $ {}\n      {error:#}", step.line, step.command));
        }
    };
    exist.iter().for_each(|step| look(step, exists(&step.command)));
    if !steps.is_empty() {
        run(&steps, &mut look)?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(steps.len() + exist.len())
}

/// Runs the commands of a page, all of them, in a sandbox of their own.
fn run(steps: &[Step], look: &mut impl FnMut(&Step, Result<()>)) -> Result<()> {
    let session = Session::new()?;
    if !steps[0].command.contains("sandbox up") {
        let up = format!("meshctl sandbox up {DIRECTORY}");
        session.run(&up)?.ok().context("the sandbox for the page did not come up")?;
    }
    steps.iter().for_each(|step| look(step, session.until_as_written(step)));
    Ok(())
}

/// Commands that share a sandbox; at the end it is taken down, whatever happened.
struct Session {
    name: String,
    path: std::ffi::OsString,
    port: u16,
}

impl Session {
    fn new() -> Result<Self> {
        let mut folders = vec![programs()?];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        Ok(Self {
            name: format!("docs-{}", std::process::id()),
            path: std::env::join_paths(folders)?,
            port: sandbox::free_port()?,
        })
    }

    fn run(&self, command: &str) -> Result<Output> {
        // A port of this machine may be taken; the page need not know.
        let command = command.replace(PUBLISHED, &format!("9080={}", self.port));
        let command = command.replace("127.0.0.1:9080", &format!("127.0.0.1:{}", self.port));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec 2>&1\n{command}")]).current_dir(root());
        shell.env("PATH", &self.path).env("MESH_SANDBOX", &self.name);
        output(&mut shell)
    }

    fn until_as_written(&self, step: &Step) -> Result<()> {
        let begin = Instant::now();
        loop {
            let said = self.run(&step.command)?;
            let text = said.stdout.replace(&self.port.to_string(), "9080");
            let lines: Vec<&str> = text.lines().collect();
            let silent = step.expected.is_empty();
            if silent && said.code == 0 || !silent && matches(&step.expected, &lines) {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                bail!("{}", difference(&step.expected, &lines, said.code));
            }
            e2e::wait::pause(Duration::from_millis(200));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        match self.run("meshctl sandbox down") {
            Ok(said) if said.code == 0 => {}
            other => println!("`meshctl sandbox down` of {} failed: {other:?}", self.name),
        }
    }
}

/// Whether lines are as written; empty ones do not count.
fn matches(expected: &[String], said: &[&str]) -> bool {
    let said: Vec<&str> = said.iter().copied().filter(|line| !line.trim().is_empty()).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).filter(|line| !line.trim().is_empty()).collect();
    lines_match(&expected, &said)
}

fn lines_match(expected: &[&str], said: &[&str]) -> bool {
    match expected.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first.trim() == "..." => (0..=said.len()).any(|skip| lines_match(rest, &said[skip..])),
        Some((first, rest)) => {
            said.split_first().is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others))
        }
    }
}

/// Whether a line is as written, `...` standing for any text.
fn line_matches(expected: &str, line: &str) -> bool {
    let (expected, line) = (one_blank(expected), one_blank(line));
    let parts: Vec<&str> = expected.split("...").collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if parts.len() == 1 {
        return expected == line;
    }
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in &parts[1..parts.len() - 1] {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn one_blank(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn difference(expected: &[String], said: &[&str], code: i32) -> String {
    let mut text = "expected:\n".to_owned();
    expected.iter().for_each(|line| writeln!(text, "        {line}").expect("a String takes everything"));
    writeln!(text, "      said (exit {code}):").expect("a String takes everything");
    said.iter().for_each(|line| writeln!(text, "        {line}").expect("a String takes everything"));
    text
}

/// Whether a line of an `sh` block calls something that is there: a subcommand of ours, as `--help` knows it.
fn exists(line: &str) -> Result<()> {
    let line = line.split(" #").next().unwrap_or_default().trim();
    let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with(['-', '#', '|', '<'])).collect();
    let Some((program, rest)) = words.split_first() else { return Ok(()) };
    let path = match *program {
        "meshctl" | "mesh-cni" | "mesh-control" | "mesh-proxy" | "example-apps" => programs()?.join(program),
        "cargo" if rest.first() == Some(&"xtask") => {
            let task = rest.get(1).copied().unwrap_or_default();
            let tasks = std::fs::read_to_string(root().join("xtask/src/main.rs"))?;
            ensure!(tasks.to_lowercase().contains(&format!("task::{task} ")), "xtask has no {task:?}");
            return Ok(());
        }
        _ => return Ok(()),
    };
    let takes = |words: &[&str]| -> Result<Output> { output(Command::new(&path).args(words).arg("--help")) };
    // How many words are subcommands is not known: those that `--help` lists of the words before are.
    let mut known: Vec<&str> = Vec::new();
    for word in rest {
        let help = takes(&known)?.ok()?.stdout;
        let Some((_, commands)) = help.split_once("\nCommands:\n") else { break };
        let listed = commands.lines().take_while(|line| !line.trim().is_empty());
        let listed: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
        ensure!(listed.contains(word), "{program} {} has no subcommand {word:?}, only {listed:?}", known.join(" "));
        known.push(word);
    }
    takes(&known)?.ok().map(drop)
}
