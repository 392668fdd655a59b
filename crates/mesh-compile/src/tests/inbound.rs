//! Inbound: ports, modes, telemetry.

use mesh_core::config::{MtlsMode, Protocol};

use super::{compiled, two_and};

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

/// The modes of a's port 8080 (`http` of its service), of 9000, and of others.
fn modes(text: &str) -> (MtlsMode, MtlsMode, MtlsMode) {
    let inbound = compiled!(Inbound, &two_and(text), "one", "inbound/uid-a");
    (inbound.ports[&8080].mtls, inbound.ports[&9000].mtls, inbound.mtls)
}

use MtlsMode::{Disable, Permissive, Strict};

#[test]
fn ports_come_from_the_services_by_target_port() {
    let inbound = compiled!(Inbound, &two_and(""), "one", "inbound/uid-a");
    assert_eq!(inbound.identity.as_str(), "spiffe://cluster.local/ns/one/sa/sa-a");
    assert_eq!(inbound.ports[&8080].protocol, Protocol::Http);
    assert_eq!(inbound.ports[&8080].service.as_ref().unwrap().1, 80);
    assert_eq!(inbound.ports[&9000].protocol, Protocol::Tcp);
    assert!(!inbound.draining);
}

#[test]
fn the_narrowest_peer_authentication_decides() {
    assert_eq!(modes(""), (Permissive, Permissive, Permissive));
    let mesh = policy("mesh-system", "default", "{mtls: {mode: STRICT}}");
    assert_eq!(modes(&mesh), (Strict, Strict, Strict));
    let namespace = policy("one", "default", "{mtls: {mode: PERMISSIVE}}");
    assert_eq!(modes(&(mesh.clone() + &namespace)), (Permissive, Permissive, Permissive));
    let unset = policy("one", "default", "{mtls: {mode: UNSET}}");
    assert_eq!(modes(&(mesh.clone() + &unset)), (Strict, Strict, Strict));
    let workload = policy(
        "one",
        "w",
        "{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: DISABLE}, 80: {mode: PERMISSIVE}}}",
    );
    assert_eq!(modes(&(mesh + &workload)), (Disable, Strict, Strict));
}

#[test]
fn port_levels_need_a_selector_and_the_root_namespace_has_no_selectors() {
    let text = policy("one", "n", "{mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}");
    assert_eq!(modes(&text), (Strict, Strict, Strict));
    let text = policy("mesh-system", "r", "{selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}}");
    assert_eq!(modes(&text), (Permissive, Permissive, Permissive));
}

#[test]
fn a_peer_authentication_that_cannot_be_read_is_strict() {
    for spec in ["{mtls: {mode: STRICTT}}", "{mtlss: {mode: STRICT}}", "{mtls: 5}", "{selectorr: {}}"] {
        assert_eq!(modes(&policy("one", "default", spec)), (Strict, Strict, Strict), "{spec}");
    }
    let selector = "{selector: {matchLabels: 5}, mtls: {mode: PERMISSIVE}}";
    assert_eq!(modes(&policy("one", "w", selector)), (Strict, Strict, Strict));
    assert_eq!(modes(&policy("mesh-system", "w", selector)), (Strict, Strict, Strict));
    let ports = "{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: OFF}, x: {mode: DISABLE}}}";
    assert_eq!(modes(&policy("one", "w", ports)), (Strict, Strict, Strict));
}

#[test]
fn telemetry_changes_the_access_log() {
    let log = |text: &str| compiled!(Inbound, &two_and(text), "one", "inbound/uid-a").access_log.clone();
    let telemetry = |namespace: &str, spec: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: t, namespace: {namespace}}}\nspec: {spec}\n---\n"
        )
    };
    assert_eq!(log(""), None);
    let on = telemetry("mesh-system", "{accessLogging: [{providers: [{name: envoy}]}]}");
    assert_eq!(log(&on).unwrap().unwrap().file, "/dev/stdout");
    let off = telemetry("one", "{selector: {matchLabels: {app: a}}, accessLogging: [{disabled: true}]}");
    assert_eq!(log(&(on + &off)), Some(None));
    assert_eq!(log(&telemetry("one", "{accessLogging: [{filter: {expression: 'true'}}]}")), None);
}
