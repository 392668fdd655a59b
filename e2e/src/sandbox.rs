//! A sandbox for tests: `meshctl` as a person calls it, plus looks into the pods' namespaces.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::until;

/// What a command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; 128 + signal where it was ended by one.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON.
    ///
    /// # Errors
    /// Where it is not JSON; the error shows both outputs.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("not JSON (exit {}): {}\n{}", self.code, self.stdout, self.stderr))
    }

    /// The output, if the command succeeded.
    ///
    /// # Errors
    /// Where it did not; the error shows both outputs.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "exit {}\n{}\n{}", self.code, self.stdout.trim_end(), self.stderr.trim_end());
        Ok(self)
    }
}

/// Runs a command to its end.
///
/// # Errors
/// Where it cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let code = done
        .status
        .code()
        .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&done.status).unwrap_or_default());
    Ok(Output {
        code,
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the repository").to_owned()
}

/// The folder of built programs: `MESH_PROGRAMS`, else the folder two above the running test.
///
/// # Errors
/// Where `meshctl` is not there; says how to build it.
pub fn programs() -> Result<PathBuf> {
    let folder = match std::env::var_os("MESH_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let test = std::env::current_exe()?;
            test.ancestors().nth(2).context("a test lies in target/…/deps")?.to_owned()
        }
    };
    ensure!(
        folder.join("meshctl").exists(),
        "{} has no meshctl; build the programs first: cargo build --workspace --bins",
        folder.display()
    );
    Ok(folder)
}

/// A running sandbox; dropped, it is taken down.
pub struct Sandbox {
    name: String,
    programs: PathBuf,
    keep: AtomicBool,
}

impl Sandbox {
    /// Starts a sandbox from a directory below the repository's root, with further arguments of `meshctl sandbox up`.
    ///
    /// # Errors
    /// What `meshctl sandbox up` said.
    pub fn up_named(directory: &str, name: &str, more: &[&str]) -> Result<Self> {
        let sandbox = Self { name: name.to_owned(), programs: programs()?, keep: AtomicBool::new(false) };
        let path = root().join(directory);
        let mut arguments = vec!["sandbox", "up", path.to_str().context("the path is text")?];
        arguments.extend(["--programs", sandbox.programs.to_str().context("the path is text")?]);
        arguments.extend(more);
        sandbox.meshctl(&arguments)?.ok()?;
        Ok(sandbox)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leave it running at the end.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    /// A command `meshctl … --name <this sandbox>`.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("meshctl"));
        let (own, rest) = match arguments.iter().position(|argument| *argument == "--") {
            Some(at) => arguments.split_at(at),
            None => (arguments, &[] as &[&str]),
        };
        command.args(own).args(["--name", &self.name]).args(rest).current_dir(root());
        command
    }

    /// Runs `meshctl`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn meshctl(&self, arguments: &[&str]) -> Result<Output> {
        output(&mut self.command(arguments))
    }

    /// Runs a command in a pod (`namespace/name`, the name may be a Deployment's).
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn exec(&self, pod: &str, words: &[&str]) -> Result<Output> {
        let (namespace, name) = pod.split_once('/').context("namespace/name")?;
        let mut arguments = vec!["sandbox", "exec", name, "-n", namespace, "--"];
        arguments.extend(words);
        self.meshctl(&arguments)
    }

    /// Starts a command in a pod.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(&self, pod: &str, words: &[&str]) -> Result<Child> {
        let (namespace, name) = pod.split_once('/').context("namespace/name")?;
        let mut arguments = vec!["sandbox", "exec", name, "-n", namespace, "--"];
        arguments.extend(words);
        let mut command = self.command(&arguments);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// What `meshctl sandbox apply` said.
    pub fn apply(&self, manifests: &str) -> Result<Output> {
        self.with_file(manifests, |file| self.meshctl(&["sandbox", "apply", "-f", file])?.ok())
    }

    /// Deletes what manifests name.
    ///
    /// # Errors
    /// What `meshctl sandbox delete` said.
    pub fn delete(&self, manifests: &str) -> Result<Output> {
        self.with_file(manifests, |file| self.meshctl(&["sandbox", "delete", "-f", file])?.ok())
    }

    /// Applies manifests, proves something, and deletes them again whatever came out.
    ///
    /// # Errors
    /// The first that went wrong.
    pub fn with(&self, manifests: &str, prove: impl FnOnce() -> Result<()>) -> Result<()> {
        self.apply(manifests)?;
        let outcome = prove();
        let cleaned = self.delete(manifests);
        outcome?;
        cleaned.map(drop)
    }

    fn with_file<T>(&self, text: &str, act: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(file.path(), text)?;
        act(file.path().to_str().context("the path is text")?)
    }

    /// The pods of a namespace, as `meshctl sandbox get pods -o json` shows them.
    ///
    /// # Errors
    /// Where the command fails.
    pub fn pods(&self, namespace: &str) -> Result<Vec<Pod>> {
        let list = self.meshctl(&["sandbox", "get", "pods", "-n", namespace, "-o", "json"])?.ok()?.json()?;
        let items = list.get("items").unwrap_or(&list).as_array().context("a list of pods")?.clone();
        items.iter().map(Pod::read).collect()
    }

    /// The first pod whose name begins with `prefix` and that is not ending.
    ///
    /// # Errors
    /// Where there is none.
    pub fn pod(&self, namespace: &str, prefix: &str) -> Result<Pod> {
        let pods = self.pods(namespace)?;
        let found = pods.into_iter().find(|pod| pod.name.starts_with(prefix) && !pod.ending);
        found.with_context(|| format!("no pod {namespace}/{prefix}*"))
    }

    /// A GET on a loopback port inside a pod: status and body.
    ///
    /// # Errors
    /// Where the pod cannot be entered or does not answer.
    pub fn get_inside(&self, pod: &str, url: &str) -> Result<Output> {
        self.exec(pod, &["example-apps", "fetch", url])
    }

    /// The sum of a metric's samples that have all of `labels` (`name="value"` texts), at the proxy of a pod.
    ///
    /// # Errors
    /// Where the proxy does not answer.
    pub fn proxy_metric(&self, pod: &str, name: &str, labels: &[&str]) -> Result<f64> {
        let said = self.get_inside(pod, "http://127.0.0.1:15090/stats/prometheus")?.ok()?.json()?;
        Ok(sum_of(said["body"].as_str().context("a body")?, name, labels))
    }

    /// Problems of an object, as `meshctl sandbox status -o json` or the control plane shows them.
    ///
    /// # Errors
    /// Where the command fails.
    pub fn status_of(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let list = self.meshctl(&["sandbox", "get", kind, "-n", namespace, "-o", "json"])?.ok()?.json()?;
        let items = list.get("items").unwrap_or(&list).as_array().context("a list")?.clone();
        Ok(items.into_iter().find(|item| item.pointer("/metadata/name").and_then(Value::as_str) == Some(name)))
    }

    /// The processes in the network namespace of a pod (`namespace/name`, a prefix is enough) whose command line
    /// contains `command`, as the machine numbers them.
    ///
    /// # Errors
    /// Where the pod is not there.
    pub fn processes(&self, pod: &str, command: &str) -> Result<Vec<i32>> {
        let init = self.first_process(pod)?.to_string();
        let said = output(Command::new("pgrep").args(["--ns", &init, "--nslist", "net", "-f", command]))?;
        Ok(said.stdout.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// The network namespace of a pod (`namespace/name`, a prefix is enough).
    ///
    /// # Errors
    /// Where the pod is not there.
    pub fn namespace_of(&self, pod: &str) -> Result<PathBuf> {
        Ok(Path::new("/proc").join(self.first_process(pod)?.to_string()).join("ns/net"))
    }

    fn first_process(&self, pod: &str) -> Result<i64> {
        let status = self.meshctl(&["sandbox", "status", "-o", "json"])?.ok()?.json()?;
        let path = |p: &Value| {
            format!("{}/{}", p["namespace"].as_str().unwrap_or_default(), p["name"].as_str().unwrap_or_default())
        };
        let pods = status["pods"].as_array().context("pods in status")?;
        let found = pods.iter().find(|p| path(p).starts_with(pod));
        found.and_then(|p| p["pid"].as_i64()).with_context(|| format!("{pod} has no process"))
    }

    /// The network namespace of the switch that all pods hang on.
    ///
    /// # Errors
    /// Where the sandbox is not up.
    pub fn switch(&self) -> Result<PathBuf> {
        let status = self.meshctl(&["sandbox", "status", "-o", "json"])?.ok()?.json()?;
        let pid = status.pointer("/network/pid").and_then(Value::as_u64).context("the switch's process in status")?;
        Ok(Path::new("/proc").join(pid.to_string()).join("ns/net"))
    }

    /// Shows what a person would look at first after a failure.
    pub fn explain(&self) {
        for arguments in [&["sandbox", "status"][..], &["proxy-status"]] {
            if let Ok(said) = self.meshctl(arguments) {
                println!("--- meshctl {}\n{}{}", arguments.join(" "), said.stdout, said.stderr);
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.keep.load(Ordering::Relaxed) {
            return;
        }
        match self.meshctl(&["sandbox", "down"]) {
            Ok(said) if said.code == 0 => {}
            other => println!("`meshctl sandbox down` of {} failed: {other:?}", self.name),
        }
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its first address.
    pub address: String,
    /// Its uid.
    pub uid: String,
    /// Whether all its containers are ready.
    pub ready: bool,
    /// Whether it has a `deletionTimestamp`.
    pub ending: bool,
}

impl Pod {
    fn read(object: &Value) -> Result<Self> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let ready = conditions.iter().any(|c| {
            c.get("type").and_then(Value::as_str) == Some("Ready")
                && c.get("status").and_then(Value::as_str) == Some("True")
        });
        let name = text("/metadata/name");
        if name.is_empty() {
            bail!("a pod without a name: {object}");
        }
        Ok(Self {
            namespace: text("/metadata/namespace"),
            name,
            address: text("/status/podIP"),
            uid: text("/metadata/uid"),
            ready,
            ending: object.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null()),
        })
    }

    /// `namespace/name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The sum of the samples of a metric that have all of the labels.
#[must_use]
pub fn sum_of(exposition: &str, name: &str, labels: &[&str]) -> f64 {
    let of_metric = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|l| line.contains(l))
    };
    exposition.lines().filter(of_metric).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A loopback port that is free now.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Ends processes at once, as `kill -9` does; those that are already gone are as good.
pub fn kill(pids: &[i32]) {
    for pid in pids {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// The most memory that a process has had, in KiB.
///
/// # Errors
/// Where the process is gone.
pub fn peak_memory_kib(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Waits until every pod of a namespace is ready and none is ending.
///
/// # Errors
/// Where that takes more than 60 s.
pub fn settled(sandbox: &Sandbox, namespace: &str) -> Result<()> {
    until(&format!("all pods of {namespace} ready"), Duration::from_secs(60), || {
        let pods = sandbox.pods(namespace)?;
        Ok((!pods.is_empty() && pods.iter().all(|pod| pod.ready && !pod.ending)).then_some(()))
    })
}
