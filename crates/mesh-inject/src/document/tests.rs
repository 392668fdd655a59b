//! Manifests of every kind that owns pods, and those that do not.

use serde_json::json;

use super::*;

fn manifest(kind: &str) -> Value {
    let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web" }] } });
    let spec = match kind {
        "CronJob" => json!({ "schedule": "* * * * *", "jobTemplate": { "spec": { "template": template } } }),
        _ => json!({ "template": template }),
    };
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": "web", "namespace": "shop" }, "spec": spec })
}

fn proxy_env(pod: &Value, name: &str) -> Option<String> {
    let env = pod["spec"]["initContainers"][1]["env"].as_array()?;
    Some(env.iter().find(|entry| entry["name"] == name)?["value"].as_str()?.to_owned())
}

#[test]
fn every_owner_of_a_template_is_injected_and_named() {
    for (kind, path) in TEMPLATES {
        let document = manifest(kind);
        let injected = inject_document_explained(&document, &Settings::default()).expect("injected").expect("has pods");
        let template = injected.pod.pointer(path).expect("the template");
        let owner = format!("kubernetes://apis/apps/v1/namespaces/shop/{}s/web", kind.to_ascii_lowercase());
        assert_eq!(proxy_env(template, "MESH_OWNER"), Some(owner));
        assert_eq!(proxy_env(template, "MESH_WORKLOAD_NAME").as_deref(), Some("web"));
        assert_eq!(template["metadata"].get("namespace"), None, "a template has no namespace");
        let mut patched = document.clone();
        json_patch::patch(&mut patched, &injected.patch).expect("the patch applies");
        assert_eq!(patched, injected.pod);
        let again = inject_document(&injected.pod, &Settings::default()).expect("injected again");
        assert_eq!(again, Some(injected.pod));
    }
}

#[test]
fn other_manifests_and_opted_out_pods_are_not_touched() {
    let settings = Settings::default();
    let untouched = |document: Value| assert_eq!(inject_document(&document, &settings), Ok(None), "{document}");
    untouched(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" }, "spec": {} }));
    untouched(json!(null));
    untouched(json!([1]));
    untouched(json!({ "kind": "Deployment", "spec": {} }));
    let mut out = manifest("Deployment");
    out["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = "false".into();
    untouched(out);
    let mut node = manifest("DaemonSet");
    node["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    untouched(node);
    let mut system = manifest("Deployment");
    system["metadata"]["namespace"] = "kube-system".into();
    untouched(system);
}

#[test]
fn lists_are_injected_item_by_item_and_not_without_end() {
    let list = json!({ "kind": "List", "items": [{ "kind": "Service" }, manifest("Deployment")] });
    let injected = inject_document(&list, &Settings::default()).expect("injected").expect("has pods");
    assert_eq!(injected["items"][0], json!({ "kind": "Service" }));
    assert!(injected["items"][1].pointer("/spec/template/spec/initContainers/1").is_some());
    let deep = (0..100).fold(manifest("Deployment"), |inner, _| json!({ "kind": "List", "items": [inner] }));
    assert_eq!(inject_document(&deep, &Settings::default()), Ok(None));
}

#[test]
fn a_revision_is_written_and_does_not_select() {
    let settings = Settings { revision: "canary".into(), ..Settings::default() };
    let injected = inject_document(&manifest("Deployment"), &settings).expect("injected").expect("has pods");
    let annotation = injected.pointer("/spec/template/metadata/annotations/istio.io~1rev");
    assert_eq!(annotation, Some(&json!("canary")));
}

#[test]
fn an_error_names_the_field() {
    let mut broken = manifest("Deployment");
    broken["spec"]["template"]["spec"]["volumes"] = json!([{ "name": "mesh-data" }]);
    assert!(inject_document(&broken, &Settings::default()).is_err());
}
