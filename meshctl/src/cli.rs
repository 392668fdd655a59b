//! The command line: what can be typed, and what `--help` says about it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed, and standard error says why and what to do; 2 the command line was not understood. \
`exec` ends as the command did. Colour is used on terminals only, and never when NO_COLOR is set.";

const UP_HELP: &str = "\
DIR/images.yaml says which local program stands for an image; the tag does not matter, the first word is a program of the \
programs folder or of PATH, and `*` at an end of a name is a wildcard:

  images:
    my-registry/shop: [shop-server, --port, \"8080\"]
    'test-*': [sleep, infinity]

Examples:
  meshctl sandbox up examples/bookinfo --publish productpage:9080
  meshctl sandbox up examples/echo --name second

State is kept in /run/mesh-sandbox/NAME; agent.log there is the supervisor's log.";

const GET_HELP: &str = "\
Examples:
  meshctl sandbox get pods
  meshctl sandbox get vs -n bookinfo
  meshctl sandbox get virtualservice reviews -n bookinfo -o yaml";

const EXEC_HELP: &str = "\
Examples:
  meshctl sandbox exec productpage-v1 -n bookinfo -- curl -s http://reviews:9080/reviews/0
  meshctl sandbox exec productpage-v1 -n bookinfo -c mesh-proxy -- mesh-proxy ready --explain";

const LOGS_HELP: &str = "\
Examples:
  meshctl sandbox logs productpage-v1 -n bookinfo -f
  meshctl sandbox logs productpage-v1 -n bookinfo -c proxy --tail 20";

const APPLY_HELP: &str = "\
Examples:
  meshctl sandbox apply -f examples/bookinfo/routing/reviews-75-25.yaml
  meshctl sandbox apply -f app/ --wait
  kubectl get virtualservice -o yaml | meshctl sandbox apply -f -";

const DELETE_HELP: &str = "\
Examples:
  meshctl sandbox delete -f examples/bookinfo/routing/reviews-75-25.yaml
  meshctl sandbox delete deployment/reviews-v3 -n bookinfo";

const INJECT_HELP: &str = "\
Example:
  meshctl inject -f app.yaml | kubectl apply -f -";

const PROXY_CONFIG_HELP: &str = "\
Examples:
  meshctl proxy-config routes productpage-v1
  meshctl proxy-config endpoints reviews-v1 -o json";

/// People's tool for the mesh.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run Kubernetes manifests with the mesh on this machine, without Kubernetes
    #[command(subcommand)]
    Sandbox(Box<Sandbox>),
    /// Add the sidecar to the pods of manifests
    ///
    /// The same injector as the webhook and the sandbox use. Labels and annotations of the pods are honoured; the
    /// namespace's label is not asked. Objects without pods pass unchanged.
    #[command(after_long_help = INJECT_HELP)]
    Inject(Inject),
    /// Show which proxies are connected to the control plane and whether they are in sync
    ProxyStatus(ProxyStatus),
    /// Show the configuration that a pod's proxy works with
    ///
    /// Asks the proxy itself. Keys are never shown.
    #[command(after_long_help = PROXY_CONFIG_HELP)]
    ProxyConfig(ProxyConfig),
    /// Show the versions of this program and of the mesh in a sandbox
    Version(Version),
    /// Print a completion script: `source <(meshctl completion bash)`
    Completion {
        /// The shell that the script is for
        shell: clap_complete::Shell,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences for people
    Text,
    /// JSON, for programs; stable field names
    Json,
    /// YAML
    Yaml,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// The sandbox; several can be up at the same time
    #[arg(long, default_value = mesh_sandbox::paths::DEFAULT_NAME, env = "MESH_SANDBOX", value_name = "NAME")]
    pub(crate) name: String,
    /// How to print the result
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct InNamespace {
    /// The namespace to look in (default: all of them)
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sandbox {
    /// Start a sandbox with the manifests of a directory
    ///
    /// Runs the Deployments and Pods of DIR (*.yaml, *.yml, *.json; not those in sub-folders) as processes in namespaces
    /// of their own, with Services, cluster DNS, probes and restarts. Pods of namespaces labelled
    /// `mesh-injection=enabled` get the mesh's sidecar, and mesh resources (VirtualService, PeerAuthentication, …) act.
    ///
    /// Nothing of it touches the network of this machine, and `meshctl sandbox down` leaves nothing behind. Needs root,
    /// iproute2 and iptables.
    #[command(after_long_help = UP_HELP)]
    Up(Up),
    /// End a sandbox: its pods in order, then everything that belongs to it
    ///
    /// Works as well after a crash: whatever is left of the sandbox is found and removed.
    Down(Down),
    /// Show pods, published Services, and what is wrong or ignored
    Status {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        within: InNamespace,
    },
    /// Show objects of a kind: pods, services, deployments, endpointslices, virtualservices, …
    ///
    /// For the mesh's kinds, ACCEPTED and PROBLEMS are what the control plane says about each object.
    #[command(after_long_help = GET_HELP)]
    Get(Get),
    /// Run a command in a container of a running pod, with its user, environment and files
    ///
    /// POD is a pod's name, the beginning of it, or the name of its Deployment.
    #[command(after_long_help = EXEC_HELP)]
    Exec(Exec),
    /// Print the log of a container
    ///
    /// Standard output and standard error, of all runs of the container. A log that has grown over 16 MiB is begun anew.
    #[command(after_long_help = LOGS_HELP)]
    Logs(Logs),
    /// Create or change objects
    ///
    /// Says right away what the control plane thinks of mesh resources, with file and line. A changed Deployment is rolled
    /// out without having fewer ready pods than it wants; a changed Pod is replaced.
    #[command(after_long_help = APPLY_HELP)]
    Apply(Apply),
    /// Delete objects
    #[command(after_long_help = DELETE_HELP)]
    Delete(Delete),
    /// List the sandboxes of this machine
    List {
        /// How to print the result
        #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
        output: Format,
    },
    /// The supervisor of a sandbox; started by `up`
    #[command(hide = true)]
    Agent {
        #[arg(long)]
        name: String,
        #[arg(long)]
        programs: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The directory with manifests and images.yaml
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Where the programs of images are looked for first (default: the folder of meshctl); PATH comes second
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,
    /// Make a Service reachable on 127.0.0.1, through a meshed pod: SERVICE[.NAMESPACE]:PORT[=LOCALPORT]
    #[arg(long, value_name = "SERVICE:PORT")]
    pub(crate) publish: Vec<String>,
    /// How long to wait until all pods are ready, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    pub(crate) namespace: String,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The longest grace period of a pod, in seconds; shorter ones of the pods' own are kept
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub(crate) grace: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The kind, as in kubectl: singular, plural or short
    pub(crate) kind: String,
    /// One object's name
    pub(crate) object: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) within: InNamespace,
    /// All namespaces (the default; for fingers that know kubectl)
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The pod
    pub(crate) pod: String,
    /// The container (default: the first application container)
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) within: InNamespace,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The pod
    pub(crate) pod: String,
    /// The container (default: the first application container)
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// Go on printing what is added
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) within: InNamespace,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Files or directories with manifests; `-` is standard input
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    pub(crate) namespace: String,
    /// Wait until all pods are ready again, at most so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60")]
    pub(crate) wait: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Objects as KIND/NAME; a Deployment's pod is replaced by a new one
    #[arg(value_name = "KIND/NAME", required_unless_present = "files")]
    pub(crate) objects: Vec<String>,
    /// Files or directories with manifests whose objects are deleted; `-` is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    pub(crate) namespace: String,
    /// The grace period of pods, in seconds, instead of their own
    #[arg(long, value_name = "SECONDS")]
    pub(crate) grace: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Inject {
    /// The manifests; `-` is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Settings of the injection, as YAML
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value = "yaml", value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyStatus {
    /// Only this pod
    pub(crate) pod: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// A part of a proxy's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Destinations that it knows, with their policies
    Services,
    /// Rules for requests, per host
    Routes,
    /// Workloads behind the services, and their state
    Endpoints,
    /// Policies for what comes in
    Inbound,
    /// Certificates: names and lifetimes, never keys
    Secrets,
    /// What holds for the whole mesh, and how the proxy was started
    Settings,
    /// Everything
    All,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyConfig {
    /// What to show
    #[arg(value_enum)]
    pub(crate) part: Part,
    /// The pod: its name, the beginning of it, or its Deployment's
    pub(crate) pod: String,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) within: InNamespace,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    #[command(flatten)]
    pub(crate) target: Target,
}
