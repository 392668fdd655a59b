//! Mesh settings.

use mesh_core::config::{AccessLogFormat, OutboundPolicy, PathNormalization};

use super::{compiled, two_and};

fn mesh(config: &str) -> String {
    let lines: String = config.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mesh, namespace: mesh-system}}\ndata:\n  mesh: |\n{lines}---\n"
    )
}

#[test]
fn defaults_without_a_config_map() {
    let settings = compiled!(MeshSettings, &two_and(""), "one", "settings");
    assert_eq!(settings.outbound_policy, OutboundPolicy::AllowAny);
    assert_eq!(settings.path_normalization, PathNormalization::Base);
    assert_eq!((settings.access_log, settings.hosts_without_addresses), (None, false));
    assert!(settings.mesh_prefixes.is_empty(), "private ranges are not listed");
}

#[test]
fn mesh_config_is_obeyed() {
    let text = mesh(
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\naccessLogFile: /dev/stdout\naccessLogEncoding: JSON\npathNormalization: {normalization: MERGE_SLASHES}",
    );
    let settings = compiled!(MeshSettings, &two_and(&text), "one", "settings");
    assert_eq!(settings.outbound_policy, OutboundPolicy::RegistryOnly);
    assert_eq!(settings.access_log.unwrap().format, AccessLogFormat::Json);
    assert_eq!(settings.path_normalization, PathNormalization::MergeSlashes);
}

#[test]
fn an_outbound_policy_that_cannot_be_read_refuses() {
    let policy = |config: &str| compiled!(MeshSettings, &two_and(&mesh(config)), "one", "settings").outbound_policy;
    assert_eq!(policy("outboundTrafficPolicy: {mode: REGISTRY}"), OutboundPolicy::RegistryOnly);
    assert_eq!(policy("outboundTrafficPolicy: {}"), OutboundPolicy::AllowAny);
    assert_eq!(policy("outboundTrafficPolicy: {mode: REGISTRY_ONLY"), OutboundPolicy::RegistryOnly, "no YAML at all");
}

#[test]
fn a_sidecar_overrides_the_outbound_policy_of_its_namespace() {
    let text = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: two}\nspec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n";
    let objects = two_and(text);
    assert_eq!(compiled!(MeshSettings, &objects, "two", "settings").outbound_policy, OutboundPolicy::RegistryOnly);
    assert_eq!(compiled!(MeshSettings, &objects, "one", "settings").outbound_policy, OutboundPolicy::AllowAny);
}

#[test]
fn public_addresses_are_listed_and_hosts_without_addresses_announced() {
    let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: one}
spec: {hosts: [a.example.com], addresses: [203.0.113.7, 198.51.100.0/25], ports: [{number: 80, name: http, protocol: HTTP}], exportTo: ['.']}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: f, namespace: one}
spec: {hosts: [b.example.com], ports: [{number: 80, name: http, protocol: HTTP}], exportTo: ['.'], resolution: DNS}
";
    let objects = two_and(text);
    let settings = compiled!(MeshSettings, &objects, "one", "settings");
    let prefixes: Vec<_> = settings.mesh_prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["198.51.100.0/24", "203.0.113.0/24"]);
    assert!(settings.hosts_without_addresses);
    assert!(!compiled!(MeshSettings, &objects, "two", "settings").hosts_without_addresses);
}
