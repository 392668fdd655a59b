//! How this process was set up: everything that the injector wrote into its environment and files, parsed once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_core::identity::{SpiffeId, TrustDomain};

/// Where the service account's token for the certificate authority lies (audience `mesh-ca`).
const TOKEN_FILE: &str = "/var/run/secrets/tokens/mesh-token";
/// Where the trusted roots lie (ConfigMap `mesh-root-cert`).
const ROOTS_FILE: &str = "/var/run/secrets/mesh/root-cert.pem";
/// Where the pod's labels lie (downward API).
const LABELS_FILE: &str = "/etc/mesh/pod/labels";
/// The volume that only the proxy mounts, in memory.
const STATE_DIR: &str = "/var/lib/mesh";
/// The grace period of a pod that names none (Kubernetes' default), in seconds.
const GRACE_PERIOD_SECONDS: u64 = 30;
/// Workers without a CPU limit.
const WORKERS_WITHOUT_LIMIT: usize = 2;
/// Workers at most, whatever is asked for.
const WORKERS_MAX: usize = 256;

/// Settings of the process. Made once; nothing in it changes.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    /// The pod's name.
    pub(crate) pod_name: String,
    /// The pod's namespace.
    pub(crate) pod_namespace: String,
    /// The pod's uid: the name under which the control plane knows this workload.
    pub(crate) pod_uid: String,
    /// The pod's addresses, the primary one first.
    pub(crate) instance_ips: Vec<IpAddr>,
    /// Who we are.
    pub(crate) identity: SpiffeId,
    /// The mesh's trust domain.
    pub(crate) trust_domain: TrustDomain,
    /// Domain of cluster names, `cluster.local`.
    pub(crate) cluster_domain: String,
    /// The cluster's id, for telemetry.
    pub(crate) cluster_id: String,
    /// Name of the workload (owner), for telemetry.
    pub(crate) workload_name: String,
    /// Where the node runs, for telemetry.
    pub(crate) node_name: String,
    /// Host and port of the control plane.
    pub(crate) control: HostPort,
    /// Who the control plane must be.
    pub(crate) control_identity: SpiffeId,
    /// Containers of the pod's applications.
    pub(crate) app_containers: Vec<String>,
    /// JSON of `MESH_APP_PROBERS`, as written; read by health.
    pub(crate) app_probers: Option<String>,
    /// JSON of `MESH_PROMETHEUS`, as written; read by the merged metrics.
    pub(crate) prometheus: Option<String>,
    /// The pod's `terminationGracePeriodSeconds`.
    pub(crate) grace_period: Duration,
    /// Workers of the data path.
    pub(crate) workers: usize,
    /// Filter of the log, as `warn` or `mesh_proxy=debug,warn`.
    pub(crate) log_level: String,
    /// The pod's labels, until the own Inbound tells them.
    pub(crate) labels: BTreeMap<String, String>,
    /// Where things lie.
    pub(crate) paths: Paths,
}

/// Files and folders. Fixed in a pod; tests have their own.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The token for the certificate authority.
    pub(crate) token: PathBuf,
    /// The trusted roots.
    pub(crate) roots: PathBuf,
    /// What is kept over a restart of the container, and the control socket.
    pub(crate) state: PathBuf,
}

/// A name or address with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// Name or address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

/// A setting that is missing or makes no sense. The process does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    /// Not set, and there is no default.
    #[error("environment variable {0} is not set; the injector writes it")]
    Missing(&'static str),
    /// Set to something that cannot be used.
    #[error("environment variable {name} is {value:?}: {reason}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Default for Paths {
    fn default() -> Self {
        Self { token: TOKEN_FILE.into(), roots: ROOTS_FILE.into(), state: STATE_DIR.into() }
    }
}

impl Paths {
    /// The Unix socket through which `mesh-proxy drain` and `ready` reach the running proxy.
    pub(crate) fn socket(&self) -> PathBuf {
        self.state.join("proxy.sock")
    }
}

impl Bootstrap {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// The first variable that is missing or unusable.
    pub(crate) fn from_env() -> Result<Self, BootstrapError> {
        let labels = std::fs::read_to_string(LABELS_FILE).map(|text| parse_labels(&text)).unwrap_or_default();
        Self::parse(|name| std::env::var(name).ok(), labels, Paths::default())
    }

    /// Reads settings from `get`; an empty value counts as not set.
    pub(crate) fn parse(
        get: impl Fn(&'static str) -> Option<String>,
        labels: BTreeMap<String, String>,
        paths: Paths,
    ) -> Result<Self, BootstrapError> {
        let get = |name: &'static str| get(name).filter(|value| !value.is_empty());
        let required = |name: &'static str| get(name).ok_or(BootstrapError::Missing(name));
        let or = |name: &'static str, default: &str| get(name).unwrap_or_else(|| default.to_owned());
        let trust_domain = typed("MESH_TRUST_DOMAIN", or("MESH_TRUST_DOMAIN", "cluster.local"), |text| {
            TrustDomain::parse(text).map_err(|error| error.to_string())
        })?;
        let pod_namespace = required("POD_NAMESPACE")?;
        let pod_name = required("POD_NAME")?;
        let service_account = required("SERVICE_ACCOUNT")?;
        let identity = SpiffeId::new(&trust_domain, &pod_namespace, &service_account)
            .map_err(|error| invalid("SERVICE_ACCOUNT", &service_account, &error.to_string()))?;
        let control_identity = typed(
            "MESH_CONTROL_IDENTITY",
            or("MESH_CONTROL_IDENTITY", &format!("spiffe://{trust_domain}/ns/mesh-system/sa/mesh-control")),
            |text| text.parse().map_err(|error: mesh_core::identity::IdentityError| error.to_string()),
        )?;
        let control = typed(
            "MESH_CONTROL_ADDRESS",
            or("MESH_CONTROL_ADDRESS", "mesh-control.mesh-system.svc.cluster.local:15012"),
            HostPort::parse,
        )?;
        let grace = typed(
            "MESH_GRACE_PERIOD_SECONDS",
            or("MESH_GRACE_PERIOD_SECONDS", &GRACE_PERIOD_SECONDS.to_string()),
            |text| text.parse::<u64>().map_err(|error| error.to_string()),
        )?;
        Ok(Self {
            instance_ips: addresses(&get)?,
            pod_uid: required("POD_UID")?,
            cluster_domain: or("MESH_CLUSTER_DOMAIN", "cluster.local"),
            cluster_id: or("MESH_CLUSTER_ID", "Kubernetes"),
            workload_name: or("MESH_WORKLOAD_NAME", &pod_name),
            node_name: or("NODE_NAME", ""),
            app_containers: csv(&or("MESH_APP_CONTAINERS", "")),
            app_probers: get("MESH_APP_PROBERS"),
            prometheus: get("MESH_PROMETHEUS"),
            grace_period: Duration::from_secs(grace),
            workers: workers(get("MESH_CONCURRENCY"), get("MESH_CPU_LIMIT"))?,
            log_level: or("MESH_LOG_LEVEL", "warn"),
            pod_name,
            pod_namespace,
            identity,
            trust_domain,
            control,
            control_identity,
            labels,
            paths,
        })
    }
}

impl HostPort {
    /// `host:port`, where the host may be an address (IPv6 in brackets).
    fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or("expected host:port")?;
        let port = port.parse().map_err(|_| "the port is not a number up to 65535".to_owned())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err("the host is empty".to_owned());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Workers: what is asked for (0 is one per CPU), else the CPU limit rounded up, else two.
fn workers(concurrency: Option<String>, cpu_limit: Option<String>) -> Result<usize, BootstrapError> {
    let cpus = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let asked = match (concurrency, cpu_limit) {
        (Some(text), _) => match typed("MESH_CONCURRENCY", text, |t| t.parse::<usize>().map_err(|e| e.to_string()))? {
            0 => cpus(),
            asked => asked,
        },
        (None, Some(text)) => typed("MESH_CPU_LIMIT", text, parse_cpus)?,
        (None, None) => WORKERS_WITHOUT_LIMIT,
    };
    Ok(asked.clamp(1, WORKERS_MAX))
}

/// CPUs, rounded up: `2`, `0.5` or Kubernetes' `500m`.
fn parse_cpus(text: &str) -> Result<usize, String> {
    let (number, scale) = text.strip_suffix('m').map_or((text, 1.0), |milli| (milli, 1000.0));
    let cpus = number.parse::<f64>().map_err(|_| "not a number of CPUs".to_owned())? / scale;
    Ok(cpus.ceil().clamp(0.0, WORKERS_MAX as f64) as usize)
}

fn addresses(get: &impl Fn(&'static str) -> Option<String>) -> Result<Vec<IpAddr>, BootstrapError> {
    let mut all: Vec<IpAddr> = Vec::new();
    for name in ["INSTANCE_IP", "INSTANCE_IPS"] {
        for text in csv(&get(name).unwrap_or_default()) {
            let address = typed(name, text, |text| text.parse().map_err(|_| "not an address".to_owned()))?;
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
    if all.is_empty() { Err(BootstrapError::Missing("INSTANCE_IP")) } else { Ok(all) }
}

fn csv(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn typed<T>(
    name: &'static str,
    value: String,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, BootstrapError> {
    parse(&value).map_err(|reason| invalid(name, &value, &reason))
}

fn invalid(name: &'static str, value: &str, reason: &str) -> BootstrapError {
    BootstrapError::Invalid { name, value: value.to_owned(), reason: reason.to_owned() }
}

/// The downward API's form of labels: `key="value"` a line, Go-quoted.
fn parse_labels(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (key, value) = line.split_once('=')?;
        // Label values have no character that Go's quoting would escape.
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Whether a path can be written by this process: said once at start, since everything kept depends on it.
pub(crate) fn is_writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[(&str, &str)]) -> Result<Bootstrap, BootstrapError> {
        let mut env: BTreeMap<&str, &str> = BTreeMap::from([
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("POD_UID", "uid-1"),
            ("SERVICE_ACCOUNT", "web"),
            ("INSTANCE_IP", "10.244.0.5"),
            ("INSTANCE_IPS", "10.244.0.5,fd00:10:244::5"),
        ]);
        env.extend(extra.iter().copied());
        Bootstrap::parse(|name| env.get(name).map(|v| (*v).to_owned()), BTreeMap::new(), Paths::default())
    }

    #[test]
    fn what_is_not_set_has_the_documented_default() {
        let bootstrap = parse(&[]).unwrap();
        assert_eq!(bootstrap.identity.as_str(), "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(bootstrap.control_identity.as_str(), "spiffe://cluster.local/ns/mesh-system/sa/mesh-control");
        assert_eq!(bootstrap.control.host, "mesh-control.mesh-system.svc.cluster.local");
        assert_eq!(bootstrap.control.port, 15012);
        assert_eq!((bootstrap.workers, bootstrap.log_level.as_str()), (2, "warn"));
        assert_eq!(bootstrap.instance_ips.len(), 2);
    }

    #[test]
    fn workers_follow_concurrency_then_the_cpu_limit() {
        let workers = |extra: &[(&str, &str)]| parse(extra).unwrap().workers;
        assert_eq!(workers(&[("MESH_CONCURRENCY", "4"), ("MESH_CPU_LIMIT", "1")]), 4);
        assert_eq!(workers(&[("MESH_CPU_LIMIT", "500m")]), 1);
        assert_eq!(workers(&[("MESH_CPU_LIMIT", "2.5")]), 3);
        assert_eq!(workers(&[("MESH_CPU_LIMIT", "")]), 2);
        assert!(workers(&[("MESH_CONCURRENCY", "0")]) >= 1);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (name, value, expected) in [
            ("MESH_CONTROL_ADDRESS", "nowhere", "expected host:port"),
            ("MESH_TRUST_DOMAIN", "UPPER", "trust domain"),
            ("INSTANCE_IP", "10.0.0", "not an address"),
            ("SERVICE_ACCOUNT", "a/b", "SERVICE_ACCOUNT"),
            ("POD_UID", "", "POD_UID is not set"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        assert_eq!(HostPort::parse("[fd00::1]:15012").unwrap().host, "fd00::1");
    }

    #[test]
    fn labels_are_read_as_the_downward_api_writes_them() {
        let labels = parse_labels("app=\"reviews\"\nversion=\"v1\"\nbroken\n");
        assert_eq!(labels, BTreeMap::from([("app".into(), "reviews".into()), ("version".into(), "v1".into())]));
    }
}
