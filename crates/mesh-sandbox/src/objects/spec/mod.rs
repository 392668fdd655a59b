//! The fields of a pod that the sandbox obeys, and the list of those that it does not.
//!
//! Every structure collects the keys it does not know. They are shown by `meshctl sandbox status`, so that nobody
//! believes that an affinity or a resource limit was honoured.

#![expect(missing_docs, reason = "fields have the names and the meaning of Kubernetes' API")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

mod action;
mod env;
mod volume;

pub use action::{Action, ExecAction, GrpcAction, HttpGet, HttpHeader, Lifecycle, Probe, SleepAction, TcpSocket};
pub use env::{EnvFrom, EnvSource, EnvVar, FieldRef, KeyRef, NameRef, ResourceFieldRef};
pub use volume::{
    ConfigMapVolume, DownwardItem, DownwardVolume, EmptyDir, HostPath, KeyToPath, ProjectedSource, ProjectedVolume,
    SecretVolume, TokenSource, Volume, VolumeMount,
};

/// Keys of an object that no field took.
pub type Rest = BTreeMap<String, Value>;

/// `Pod.spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub init_containers: Vec<Container>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    pub restart_policy: Option<String>,
    pub termination_grace_period_seconds: Option<u64>,
    pub service_account_name: Option<String>,
    pub service_account: Option<String>,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub node_name: Option<String>,
    pub security_context: SecurityContext,
    pub host_aliases: Vec<HostAlias>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// A container, of `containers` or of `initContainers`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    pub env: Vec<EnvVar>,
    pub env_from: Vec<EnvFrom>,
    pub ports: Vec<ContainerPort>,
    pub volume_mounts: Vec<VolumeMount>,
    pub startup_probe: Option<Probe>,
    pub liveness_probe: Option<Probe>,
    pub readiness_probe: Option<Probe>,
    pub lifecycle: Lifecycle,
    pub restart_policy: Option<String>,
    pub security_context: SecurityContext,
    pub resources: Resources,
    pub image_pull_policy: Option<String>,
    pub termination_message_path: Option<String>,
    pub termination_message_policy: Option<String>,
    #[serde(flatten)]
    pub rest: Rest,
}

impl Container {
    /// Whether this init container is a native sidecar: it starts in order and then runs for the pod's life.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

/// `resources`: not enforced, but readable through `resourceFieldRef`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub limits: BTreeMap<String, Value>,
    pub requests: BTreeMap<String, Value>,
    #[serde(flatten)]
    pub rest: Rest,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub name: Option<String>,
    pub container_port: u16,
    pub protocol: Option<String>,
    #[serde(flatten)]
    pub rest: Rest,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostAlias {
    pub ip: String,
    pub hostnames: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityContext {
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub run_as_non_root: Option<bool>,
    pub fs_group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    pub capabilities: Capabilities,
    pub privileged: bool,
    pub allow_privilege_escalation: Option<bool>,
    pub read_only_root_filesystem: bool,
    #[serde(flatten)]
    pub rest: Rest,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub add: Vec<String>,
    pub drop: Vec<String>,
}

impl PodSpec {
    /// The service account, `default` where none is named.
    pub fn account(&self) -> &str {
        let named = self.service_account_name.as_deref().or(self.service_account.as_deref());
        named.filter(|n| !n.is_empty()).unwrap_or("default")
    }

    /// All containers: init containers first, in order.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// The fields that were given and that the sandbox does not act on, as paths into the specification.
    pub fn ignored(&self) -> Vec<String> {
        // Given by default everywhere, and without meaning on one machine with local programs.
        const MEANINGLESS: &[&str] =
            &["dnsPolicy", "enableServiceLinks", "schedulerName", "automountServiceAccountToken"];
        let mut out = Vec::new();
        let mut note = |path: &str, rest: &Rest| {
            for key in rest.keys().filter(|k| !MEANINGLESS.contains(&k.as_str())) {
                out.push(format!("{path}{key}"));
            }
        };
        note("spec.", &self.rest);
        note("spec.securityContext.", &self.security_context.rest);
        for volume in &self.volumes {
            note(&format!("spec.volumes[{}].", volume.name), &volume.rest);
            for source in volume.projected.iter().flat_map(|p| &p.sources) {
                note(&format!("spec.volumes[{}].projected.", volume.name), &source.rest);
            }
        }
        // What the injector adds is the mesh's own business.
        let written = || self.all_containers().filter(|c| !matches!(c.name.as_str(), "mesh-init" | "mesh-proxy"));
        for container in written() {
            let at = format!("container {}: ", container.name);
            note(&at, &container.rest);
            note(&format!("{at}securityContext."), &container.security_context.rest);
            note(&format!("{at}lifecycle."), &container.lifecycle.rest);
            for mount in &container.volume_mounts {
                note(&format!("{at}volumeMounts[{}].", mount.name), &mount.rest);
            }
        }
        for container in written() {
            let given = &container.resources;
            if !given.limits.is_empty() || !given.requests.is_empty() {
                out.push(format!(
                    "container {}: resources (readable by resourceFieldRef, not enforced)",
                    container.name
                ));
            }
            for (name, probe) in container.probes() {
                if probe.action.grpc.is_some() {
                    out.push(format!("container {}: {name}.grpc (only the TCP connection is checked)", container.name));
                }
                if probe.action.http_get.as_ref().is_some_and(|h| h.scheme.as_deref() == Some("HTTPS")) {
                    out.push(format!(
                        "container {}: {name}.httpGet HTTPS (only the TCP connection is checked)",
                        container.name
                    ));
                }
            }
        }
        out
    }
}

impl Container {
    /// The probes that are set, with their field's name.
    pub fn probes(&self) -> impl Iterator<Item = (&'static str, &Probe)> {
        [
            ("startupProbe", self.startup_probe.as_ref()),
            ("livenessProbe", self.liveness_probe.as_ref()),
            ("readinessProbe", self.readiness_probe.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, probe)| probe.map(|p| (name, p)))
    }

    /// The number of a port that is given as number or by the name of one of this container's ports.
    pub fn port(&self, port: &Value) -> Option<u16> {
        if let Some(number) = port.as_u64() {
            return u16::try_from(number).ok();
        }
        let name = port.as_str()?;
        let named = self.ports.iter().find(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port);
        named.or_else(|| name.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_obeyed_is_listed() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "affinity": {}, "dnsPolicy": "ClusterFirst",
            "containers": [{"name": "a", "image": "i", "stdin": true, "resources": {"limits": {"cpu": "1"}},
                "livenessProbe": {"grpc": {"port": 1}}, "readinessProbe": {"httpGet": {"port": "http"}},
                "ports": [{"name": "http", "containerPort": 9080}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {}}],
        }))
        .unwrap();
        let ignored = spec.ignored();
        assert_eq!(ignored[..3], ["spec.affinity", "spec.volumes[v].persistentVolumeClaim", "container a: stdin"]);
        assert_eq!(ignored.len(), 5);
        assert_eq!(spec.containers[0].port(&"http".into()), Some(9080));
    }
}
