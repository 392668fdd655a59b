//! `meshctl sandbox` with real namespaces and programs that every Debian machine has (sh, perl).
//!
//! Needs root, iproute2 and iptables; says SKIPPED where it cannot run. Every test has a sandbox of its own, and takes it
//! down whatever happens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// An HTTP server that answers its pod's name.
const WEB: &str = r#"use IO::Socket::INET; $| = 1; $SIG{TERM} = sub { exit 0 };
my $l = IO::Socket::INET->new(LocalPort => 8080, Listen => 50, ReuseAddr => 1) or die "listen: $!"; print "up\n";
while (1) { my $c = $l->accept or next; while (my $x = <$c>) { last if $x eq "\r\n" }
my $b = "$ENV{HOSTNAME} $ENV{VERSION}"; print $c "HTTP/1.0 200 OK\r\nContent-Length: " . length($b) . "\r\n\r\n$b"; close $c }"#;

/// Asks `host:port` and prints the last line of the answer.
const ASK: &str = r#"my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], Timeout => 3) or die "$ARGV[0]: $!\n";
print $s "GET / HTTP/1.0\r\n\r\n"; my @l = <$s>; print "$l[-1]\n""#;

struct Sandbox {
    name: String,
    dir: tempfile::TempDir,
}

impl Sandbox {
    /// A sandbox with a manifest, or `None` where none can run.
    fn up(test: &str, manifest: &str) -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            println!("SKIPPED: needs root");
            return None;
        }
        if Command::new("iptables-restore").arg("--version").output().is_err() {
            println!("SKIPPED: iptables is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let images = serde_json::json!({"images": {"web": ["perl", "-e", WEB], "sh": ["sh", "-c"], "sleep": ["sleep", "infinity"]}});
        std::fs::write(dir.path().join("images.yaml"), images.to_string()).unwrap();
        std::fs::write(dir.path().join("all.yaml"), manifest).unwrap();
        let sandbox = Self { name: format!("t-{test}-{}", std::process::id()), dir };
        let said = sandbox.run(&["up", sandbox.dir.path().to_str().unwrap(), "--programs", "/bin", "--timeout", "30"]);
        assert!(said.status.success(), "up: {}\n{}", text(&said.stdout), text(&said.stderr));
        Some(sandbox)
    }

    /// `meshctl sandbox …` on this sandbox; what stands behind `--` stays behind it.
    fn run(&self, args: &[&str]) -> Output {
        let at = args.iter().position(|a| *a == "--").unwrap_or(args.len());
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshctl"));
        command.arg("sandbox").args(&args[..at]).args(["--name", &self.name]).args(&args[at..]);
        command.output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert!(said.status.success(), "{args:?}: {}\n{}", text(&said.stdout), text(&said.stderr));
        text(&said.stdout)
    }

    fn ask(&self, host: &str) -> String {
        self.ok(&["exec", "client", "--", "perl", "-MIO::Socket::INET", "-e", ASK, host]).trim().to_owned()
    }

    fn apply(&self, manifest: &str) {
        let file = self.dir.path().join("more.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.ok(&["apply", "-f", file.to_str().unwrap(), "--wait", "30"]);
    }

    fn pods(&self, prefix: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.ok(&["get", "pods", "-o", "json"])).unwrap();
        let all = list["items"].as_array().unwrap().iter();
        all.filter(|p| p["metadata"]["name"].as_str().unwrap().starts_with(prefix)).cloned().collect()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "-o", "json"])).unwrap()
    }

    fn folder(&self) -> String {
        format!("/run/mesh-sandbox/{}", self.name)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let said = self.run(&["down", "--grace", "2"]);
        if std::thread::panicking() {
            println!("down: {}", text(&said.stdout));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A web Deployment with a Service, and a pod to call it from.
fn web(replicas: u32, version: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: v1
kind: Service
metadata: {{name: bare}}
spec:
  clusterIP: None
  selector: {{app: web}}
  ports: [{{port: 8080}}]
---
apiVersion: v1
kind: Service
metadata: {{name: elsewhere}}
spec: {{type: ExternalName, externalName: web.default.svc.cluster.local}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{greeting: "{version}"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      affinity: {{}}
      containers:
      - name: web
        image: web:1
        env: [{{name: VERSION, value: "{version}"}}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, labels: {{app: client}}}}
spec:
  securityContext: {{runAsUser: 4711}}
  containers:
  - name: client
    image: sleep
    env: [{{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}]
    volumeMounts:
    - {{name: settings, mountPath: /etc/settings}}
    - {{name: tokens, mountPath: /var/run/secrets/tokens}}
  volumes:
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: tokens, projected: {{sources: [{{serviceAccountToken: {{audience: mesh-ca, path: token}}}}]}}}}
"#
    )
}

#[test]
fn services_scale_and_roll_out() {
    let Some(sandbox) = Sandbox::up("services", &web(2, "v1")) else { return };
    for host in ["web:80", "web.default:80", "web.default.svc.cluster.local:80", "bare:8080", "elsewhere:80"] {
        let said = sandbox.ask(host);
        assert!(said.starts_with("web-") && said.ends_with(" v1"), "{host}: {said}");
    }
    let names: std::collections::BTreeSet<String> = (0..40).map(|_| sandbox.ask("web:80")).collect();
    assert_eq!(names.len(), 2, "both pods answer: {names:?}");
    let ignored = sandbox.status()["ignored"].to_string();
    assert!(ignored.contains("deployment/web: spec.affinity"), "{ignored}");

    sandbox.apply(&web(3, "v1"));
    assert_eq!(sandbox.pods("web-").len(), 3);
    sandbox.apply(&web(1, "v2"));
    until("the old pods are gone", || sandbox.pods("web-").len() == 1);
    assert!(sandbox.ask("web:80").ends_with(" v2"));
    until("the ConfigMap is updated in the volume", || {
        sandbox.ok(&["exec", "client", "--", "cat", "/etc/settings/greeting"]) == "v2"
    });

    sandbox.apply(&web(0, "v2"));
    until("no pod is left", || sandbox.pods("web-").is_empty());
    let said = sandbox.run(&["exec", "client", "--", "perl", "-MIO::Socket::INET", "-e", ASK, "web:80"]);
    assert!(text(&said.stderr).contains("refused"), "{}", text(&said.stderr));
}

#[test]
fn exec_logs_and_restart() {
    let Some(sandbox) = Sandbox::up("exec", &web(1, "v1")) else { return };
    let said = sandbox.run(&["exec", "client", "--", "sh", "-c", "id -u; echo $POD_IP; hostname; exit 7"]);
    assert_eq!(said.status.code(), Some(7));
    let lines = text(&said.stdout);
    let address = sandbox.pods("client")[0]["status"]["podIP"].as_str().unwrap().to_owned();
    assert_eq!(lines.lines().collect::<Vec<_>>(), ["4711", &address, "client"]);
    let token = sandbox.ok(&[
        "exec",
        "client",
        "--",
        "sh",
        "-c",
        "cat /var/run/secrets/tokens/token; stat -c ' %a %u' /var/run/secrets/tokens/token",
    ]);
    assert_eq!(token.split('.').count(), 3);
    assert!(token.trim().ends_with(" 600 4711"), "{token}");
    assert_eq!(sandbox.ok(&["logs", "web"]), "up\n");

    let before = sandbox.pods("web-")[0].clone();
    let web = before["metadata"]["name"].as_str().unwrap();
    sandbox.ok(&["exec", web, "--", "pkill", "perl"]);
    until("the container runs again", || {
        sandbox.pods("web-")[0]["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    until("it is ready again", || sandbox.status()["settled"] == true);
    assert_eq!(sandbox.pods("web-")[0]["metadata"]["uid"], before["metadata"]["uid"], "it is the same pod");
    assert!(sandbox.ask("web:80").ends_with(" v1"));
}

/// Init container, native sidecar with a startup probe, application: each writes what it does into one file.
fn ordered(record: &Path) -> String {
    let say = |what: &str| format!("echo {what} >> /record/order");
    let life = |name: &str| {
        format!(
            "trap '{}; exit 0' TERM; {}; while :; do sleep 0.1; done",
            say(&format!("{name}-term")),
            say(&format!("{name}-start"))
        )
    };
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ordered"},
        "spec": {
            "terminationGracePeriodSeconds": 10,
            "initContainers": [
                {"name": "first", "image": "sh", "command": ["sh", "-c", say("init")], "volumeMounts": [{"name": "record", "mountPath": "/record"}]},
                {"name": "side", "image": "sh", "restartPolicy": "Always",
                 "command": ["sh", "-c", format!("sleep 0.3; touch /tmp/up; {}", life("side"))],
                 "startupProbe": {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1},
                 "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", say("side-hook")]}}},
                 "volumeMounts": [{"name": "record", "mountPath": "/record"}]},
                {"name": "second", "image": "sh", "command": ["sh", "-c", format!("sleep 0.2; {}", say("init2"))], "volumeMounts": [{"name": "record", "mountPath": "/record"}]},
            ],
            "containers": [{"name": "app", "image": "sh", "command": ["sh", "-c", life("app")],
                "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", format!("sleep 0.5; {}", say("app-hook"))]}}},
                "volumeMounts": [{"name": "record", "mountPath": "/record"}]}],
            "volumes": [{"name": "record", "hostPath": {"path": record}}],
        },
    })
    .to_string()
}

#[test]
fn pods_start_and_end_in_order() {
    let record = tempfile::tempdir().unwrap();
    let Some(sandbox) = Sandbox::up("order", &ordered(record.path())) else { return };
    let order = || {
        std::fs::read_to_string(record.path().join("order"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    until("the application has started", || order().len() == 4);
    assert_eq!(order(), ["init", "side-start", "init2", "app-start"]);
    sandbox.ok(&["delete", "pod/ordered"]);
    until("the pod is gone", || sandbox.pods("ordered").is_empty());
    assert_eq!(order()[4..], ["side-hook", "app-hook", "app-term", "side-term"]);
}

#[test]
fn nothing_stays_and_the_machine_is_not_touched() {
    let facts = || {
        ["ip -o link", "ip rule", "ip route show table all", "iptables-save", "cat /proc/self/mounts"].map(|words| {
            let said = Command::new("sh").args(["-c", words]).output().unwrap();
            let lines: Vec<String> =
                text(&said.stdout).lines().filter(|l| !l.starts_with(['#', ':'])).map(str::to_owned).collect();
            lines
        })
    };
    let before = facts();
    let Some(first) = Sandbox::up("one", &web(1, "v1")) else { return };
    let second = Sandbox::up("two", &web(1, "v2")).unwrap();
    assert_eq!(first.pods("client")[0]["status"]["podIP"], second.pods("client")[0]["status"]["podIP"]);
    assert!(first.ask("web:80").ends_with(" v1") && second.ask("web:80").ends_with(" v2"));
    assert_eq!(before, facts(), "the machine's network and mounts are as they were");

    let said = first.run(&["up", first.dir.path().to_str().unwrap()]);
    assert!(!said.status.success() && text(&said.stderr).contains("is up already"), "{}", text(&said.stderr));
    first.ok(&["down"]);
    assert!(!Path::new(&first.folder()).exists());
    assert!(second.ask("web:80").ends_with(" v2"), "the other one still runs");

    let supervisor: i32 = std::fs::read_to_string(format!("{}/agent.pid", second.folder())).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL).unwrap();
    second.ok(&["down"]);
    assert!(!Path::new(&second.folder()).exists());
    let ours = |line: &str| line.contains(&first.name) || line.contains(&second.name);
    let processes = Command::new("ps").args(["-eo", "args"]).output().unwrap();
    assert_eq!(text(&processes.stdout).lines().filter(|l| ours(l)).count(), 0);
}

#[test]
fn mistakes_are_named() {
    let Some(sandbox) = Sandbox::up("mistakes", &web(1, "v1")) else { return };
    let file = sandbox.dir.path().join("bad.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fine}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: [\n").unwrap();
    let said = sandbox.run(&["apply", "-f", file.to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    assert!(text(&said.stderr).contains("bad.yaml:"), "{}", text(&said.stderr));
    assert!(text(&said.stdout).contains("configmap/fine created"), "the other document is used");

    let broken = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "broken"}, "spec": {"containers": [{"name": "a", "image": "unknown"}]}}"#;
    std::fs::write(&file, broken).unwrap();
    let said = sandbox.run(&["apply", "-f", file.to_str().unwrap(), "--wait", "10"]);
    assert_eq!(said.status.code(), Some(1));
    let words = text(&said.stderr);
    assert!(
        words.contains("pod default/broken") && words.contains("container a") && words.contains("images.yaml"),
        "{words}"
    );
}
