//! What an injected pod looks like, whole (goldens) and in its parts.

use std::collections::BTreeMap;

use expect_test::{Expect, expect, expect_file};
use serde_json::{Value, json};

use crate::{Error, Settings, inject};

fn settings() -> Settings {
    Settings { proxy_image: "mesh-proxy:test".into(), init_image: "mesh-cni:test".into(), ..Settings::default() }
}

/// A pod with one container; `edit` makes it special.
fn pod(edit: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "web-0", "namespace": "shop", "labels": { "app": "web", "version": "v1" } },
        "spec": { "serviceAccountName": "web", "containers": [{ "name": "web", "image": "web:1" }] },
    });
    edit(&mut pod);
    pod
}

fn annotated(name: &str, value: &str) -> Value {
    pod(|pod| pod["metadata"]["annotations"][name] = value.into())
}

/// Injects, and holds every result to the laws: the patch leads there, and a second injection changes nothing.
#[track_caller]
fn injected(pod: &Value) -> Value {
    let first = inject(pod, &settings()).expect("the pod is injected");
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &first.patch).expect("the patch applies");
    assert_eq!(patched, first.pod, "the patch leads to the pod");
    let second = inject(&first.pod, &settings()).expect("the pod is injected again");
    assert_eq!(second.pod, first.pod, "the second injection changed something");
    assert!(second.patch.0.is_empty());
    first.pod
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
    lists.flatten().find(|container| container["name"] == name).expect("the container is there")
}

fn env<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let list = container(pod, "mesh-proxy")["env"].as_array()?;
    list.iter().find(|entry| entry["name"] == name)?["value"].as_str()
}

/// The argument that follows a flag of mesh-init.
fn argument<'a>(pod: &'a Value, flag: &str) -> &'a str {
    let args = container(pod, "mesh-init")["args"].as_array().expect("a list");
    let at = args.iter().position(|arg| arg == flag).expect("the flag is there");
    args[at + 1].as_str().expect("a string")
}

/// With the keys in order, whatever the features of serde_json are in this build.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(sorted).collect(),
        Value::Object(map) => {
            let ordered: BTreeMap<_, _> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        plain => plain.clone(),
    }
}

#[track_caller]
fn refused(pod: &Value, expect: Expect) {
    let error = inject(pod, &settings()).expect_err("the pod is refused");
    expect.assert_eq(&error.to_string());
}

#[test]
fn a_simple_pod_whole() {
    let pod = injected(&pod(|_| {}));
    let text = serde_json::to_string_pretty(&sorted(&pod)).expect("JSON");
    expect_file!["../../testdata/simple.json"].assert_eq(&format!("{text}\n"));
}

#[test]
fn the_order_is_rules_proxy_then_the_pods_own() {
    let pod = injected(&pod(|pod| pod["spec"]["initContainers"] = json!([{ "name": "migrate" }, { "name": "warm" }])));
    let names: Vec<_> = pod["spec"]["initContainers"].as_array().expect("a list").iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["mesh-init", "mesh-proxy", "migrate", "warm"]);
}

#[test]
fn host_network_is_refused() {
    let pod = pod(|pod| pod["spec"]["hostNetwork"] = true.into());
    assert_eq!(inject(&pod, &settings()), Err(Error::HostNetwork));
}
#[test]
fn annotations_reach_their_own_argument() {
    let args = |name: &str, value: &str, flag: &str| argument(&injected(&annotated(name, value)), flag).to_owned();
    let traffic = |name: &str, value: &str, flag: &str| args(&format!("traffic.sidecar.istio.io/{name}"), value, flag);
    assert_eq!(
        traffic("includeOutboundIPRanges", "10.1.2.3/8, fd00::1", "--include-outbound-ranges"),
        "10.0.0.0/8,fd00::1/128"
    );
    assert_eq!(traffic("includeOutboundIPRanges", "", "--include-outbound-ranges"), "");
    assert_eq!(traffic("includeOutboundIPRanges", "*", "--include-outbound-ranges"), "*");
    assert_eq!(traffic("excludeOutboundIPRanges", "1.1.1.1/32", "--exclude-outbound-ranges"), "1.1.1.1/32");
    assert_eq!(traffic("includeInboundPorts", "80,81", "--include-inbound-ports"), "80,81");
    assert_eq!(traffic("includeInboundPorts", "", "--include-inbound-ports"), "");
    assert_eq!(traffic("excludeInboundPorts", "22", "--exclude-inbound-ports"), "15020,15021,15090,22");
    assert_eq!(traffic("includeOutboundPorts", "25", "--include-outbound-ports"), "25");
    assert_eq!(traffic("excludeOutboundPorts", "3306,5432", "--exclude-outbound-ports"), "3306,5432");
    assert_eq!(traffic("excludeInterfaces", "eth1,net+", "--exclude-interfaces"), "eth1,net+");
}

#[test]
fn refusals_name_the_field_and_the_way_out() {
    refused(
        &annotated("sidecar.istio.io/interceptionMode", "TPROXY"),
        expect![[
            r#"invalid value "TPROXY" for annotation 'sidecar.istio.io/interceptionMode': this mode is not supported by this mesh: only REDIRECT is. Remove the annotation, or opt the pod out with the label sidecar.istio.io/inject: "false""#
        ]],
    );
}
