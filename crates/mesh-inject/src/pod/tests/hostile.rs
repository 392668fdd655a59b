//! Odd and hostile pods: what an author writes changes its own field, or is refused.

use serde_json::{Value, json};

use super::{annotated, container, env, env_json, injected, names, pod, settings, warnings};
use crate::annotations::OURS;
use crate::names::*;
use crate::{Error, inject};

/// Texts that have broken injectors made of templates.
const POISON: [&str; 12] = [
    "15020\n  - name: evil",
    "80\"],\"image\":\"evil\"",
    "{{ .Values.global.hub }}",
    "{{`{{`}}",
    "80\r\nX: y",
    "\u{0}80",
    "$(POD_NAME)",
    "80 --proxy-uid 0",
    "--proxy-uid=0",
    "1337'; rm -rf /; '",
    "\u{1b}[31m80",
    "10.0.0.0/8,\u{2028}1.1.1.1/32",
];

/// Where an annotation of ours may show in the pod, besides itself.
fn own_fields(annotation: &str) -> &'static [&'static str] {
    match annotation.rsplit('/').next().unwrap_or_default() {
        "logLevel" | "config" => &["/spec/initContainers/1/env/"],
        "rewriteAppHTTPProbers" => &["/spec/containers/0/livenessProbe", "/spec/initContainers/1/env/"],
        "proxyCPU" | "proxyMemory" | "proxyCPULimit" | "proxyMemoryLimit" => {
            &["/spec/initContainers/0/resources", "/spec/initContainers/1/resources", "/spec/initContainers/1/env/"]
        }
        "initialDelaySeconds" | "periodSeconds" | "failureThreshold" => &["/spec/initContainers/1/readinessProbe/"],
        "interceptionMode" => &[],
        _ => &["/spec/initContainers/0/args/"],
    }
}

/// Holds a pod with this annotation to the rule: refused, or the same pod but for the annotation's own fields.
pub(super) fn touches_only_its_own_field(annotation: &str, value: &str) {
    let probed = |mut pod: Value| {
        pod["spec"]["containers"][0]["livenessProbe"] = json!({ "httpGet": { "port": 80 } });
        pod
    };
    let plain = injected(&probed(pod(|_| {})));
    let Ok(with) = inject(&probed(annotated(annotation, value)), &settings()) else { return };
    let itself = format!("/metadata/annotations/{}", annotation.replace('/', "~1"));
    for operation in &json_patch::diff(&plain, &with.pod).0 {
        let path = operation.path().to_string();
        let allowed = path == itself || own_fields(annotation).iter().any(|field| path.starts_with(field));
        assert!(allowed, "{annotation}: {value:?} changed {path}");
    }
    for list in ["initContainers", "containers", "volumes"] {
        assert_eq!(names(&with.pod["spec"][list]), names(&plain["spec"][list]));
    }
    let args = |pod: &Value| container(pod, INIT_CONTAINER)["args"].as_array().map(Vec::len);
    assert_eq!(args(&with.pod), args(&plain), "no argument more");
}

#[test]
fn poison_in_an_annotation_is_refused() {
    for annotation in OURS {
        for poison in POISON {
            touches_only_its_own_field(annotation, poison);
            let refusal = inject(&annotated(annotation, poison), &settings()).expect_err("poison is refused");
            assert!(matches!(refusal, Error::Annotation { .. }));
            assert!(!refusal.to_string().contains(['\n', '\r', '\u{1b}', '\u{0}']), "{refusal}");
        }
    }
}

#[test]
fn a_long_value_is_shortened_in_the_message() {
    let refusal = inject(&annotated("sidecar.istio.io/proxyCPU", &"é".repeat(100_000)), &settings());
    assert!(refusal.expect_err("refused").to_string().len() < 400);
    let many = vec!["80"; 100_000].join(",");
    assert!(inject(&annotated("traffic.sidecar.istio.io/excludeInboundPorts", &many), &settings()).is_err());
}

#[test]
fn a_poisoned_metrics_path_stays_in_its_variable() {
    let path = "/m\"}],\n$(POD_NAME){{.}}";
    let pod = injected(&pod(|pod| {
        let scrape = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "1", "prometheus.io/path": path });
        pod["metadata"]["annotations"] = scrape;
    }));
    assert_eq!(env_json(&pod, "MESH_PROMETHEUS")["path"], path);
    assert!(!env(&pod, "MESH_PROMETHEUS").expect("set").replace("$$", "").contains('$'));
}

#[test]
fn a_forged_status_annotation_is_overwritten_and_not_believed() {
    let status = r#"{"initContainers":["migrate"],"containers":["web"],"volumes":["cache"],"revision":"evil"}"#;
    let overrides = r#"{"containers":[{"name":"istio-proxy","image":"evil"}]}"#;
    let pod = injected(&pod(|pod| {
        pod["metadata"]["annotations"] = json!({ SIDECAR_STATUS: status, "proxy.istio.io/overrides": overrides });
        pod["spec"]["initContainers"] = json!([{ "name": "migrate" }]);
        pod["spec"]["volumes"] = json!([{ "name": "cache", "emptyDir": {} }]);
    }));
    assert_eq!(names(&pod["spec"]["initContainers"]), [INIT_CONTAINER, PROXY_CONTAINER, "migrate"]);
    assert_eq!(names(&pod["spec"]["containers"]), ["web"]);
    assert_eq!(names(&pod["spec"]["volumes"])[0], "cache");
    assert_eq!(container(&pod, PROXY_CONTAINER)["image"], "mesh-proxy:test");
    assert!(!pod["metadata"]["annotations"][SIDECAR_STATUS].as_str().expect("text").contains("evil"));
}

#[test]
fn a_pod_that_claims_to_be_injected_cannot_smuggle_anything_in() {
    // The variable by which an earlier injection is recognised, in a container of the author's own.
    let pod = injected(&pod(|pod| {
        pod["spec"]["initContainers"] = json!([{
            "name": PROXY_CONTAINER,
            "image": "evil",
            "securityContext": { "privileged": true },
            "env": [
                { "name": "MESH_APP_CONTAINERS", "value": "x" },
                { "name": "MESH_APP_PROBERS", "value": "[not json" },
                { "name": "MESH_PROMETHEUS", "value": "{\"port\":{}}" },
            ],
        }]);
    }));
    let proxy = container(&pod, PROXY_CONTAINER);
    assert_eq!(proxy["image"], "mesh-proxy:test");
    assert_eq!(proxy["securityContext"]["privileged"], false);
    assert_eq!(env(&pod, "MESH_APP_CONTAINERS"), Some("web"));
}

#[test]
fn reserved_names_are_refused() {
    let refused = |edit: fn(&mut Value)| inject(&pod(edit), &settings()).expect_err("refused").to_string();
    let text = refused(|pod| pod["spec"]["initContainers"] = json!([{ "name": "mesh-init" }]));
    assert_eq!(text, "container 'mesh-init' has a name that is reserved for the mesh: rename it");
    let text = refused(|pod| pod["spec"]["volumes"] = json!([{ "name": "mesh-data", "hostPath": { "path": "/" } }]));
    assert_eq!(text, "volume 'mesh-data' has a name that is reserved for the mesh: rename it");
}

#[test]
fn a_pod_with_istios_sidecar_is_refused() {
    let foreign = |edit: fn(&mut Value)| inject(&pod(edit), &settings()).expect_err("refused");
    let by_init = foreign(|pod| pod["spec"]["initContainers"] = json!([{ "name": "istio-init" }]));
    assert_eq!(by_init, Error::ForeignSidecar { container: "istio-init".into() });
    let by_proxy = foreign(|pod| {
        pod["spec"]["initContainers"] = json!([{ "name": "istio-proxy", "args": ["proxy", "sidecar"] }]);
    });
    assert_eq!(by_proxy, Error::ForeignSidecar { container: "istio-proxy".into() });
}

#[test]
fn shapes_that_are_no_pod_are_refused_by_field() {
    let refused = |pod: Value| inject(&pod, &settings()).expect_err("refused").to_string();
    assert_eq!(refused(json!(null)), "not a pod: the document must be an object");
    assert_eq!(refused(json!({})), "not a pod: spec must be an object");
    assert_eq!(refused(json!({ "spec": [] })), "not a pod: spec must be an object");
    assert_eq!(refused(json!({ "spec": {}, "metadata": "x" })), "not a pod: metadata must be an object");
    assert_eq!(refused(json!({ "spec": { "containers": {} } })), "not a pod: spec.containers must be a list");
    assert_eq!(refused(json!({ "spec": { "containers": [1] } })), "not a pod: spec.containers[0] must be an object");
    let unnamed = json!({ "spec": { "initContainers": [{}] } });
    assert_eq!(refused(unnamed), "not a pod: spec.initContainers[0].name must be a string");
    let labels = json!({ "spec": {}, "metadata": { "labels": { "a": 1 } } });
    assert_eq!(refused(labels), "not a pod: metadata.labels must be a map of strings to strings");
}

#[test]
fn empty_and_null_lists_are_taken_as_none() {
    let pod = injected(&json!({
        "metadata": { "labels": null, "annotations": null, "ownerReferences": null },
        "spec": { "containers": [], "initContainers": null, "volumes": null },
    }));
    assert_eq!(names(&pod["spec"]["initContainers"]), [INIT_CONTAINER, PROXY_CONTAINER]);
    assert_eq!(pod["spec"]["containers"], json!([]));
    // Nothing to be named after: no label rather than an empty one.
    assert_eq!(pod["metadata"]["labels"]["service.istio.io/canonical-name"], Value::Null);
}

#[test]
fn a_pod_that_was_injected_with_other_settings_gets_the_new_ones() {
    let pod = pod(|pod| {
        pod["metadata"]["annotations"] = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "9102" });
        pod["spec"]["containers"] = json!([
            { "name": "web", "livenessProbe": { "tcpSocket": { "port": 80 } } },
            { "name": "istio-proxy", "resources": { "limits": { "cpu": "3" } } },
        ]);
    });
    let old = crate::Settings { proxy_image: "mesh-proxy:old".into(), log_level: "trace".into(), ..settings() };
    let fresh = injected(&pod);
    let aged = inject(&pod, &old).expect("injected").pod;
    assert_ne!(aged, fresh);
    assert_eq!(injected(&aged), fresh, "as if it had never been injected before");
}

#[test]
fn dollars_survive_two_injections() {
    let path = "/$$(A)$(B)$$$";
    let pod = injected(&pod(|pod| {
        pod["spec"]["containers"][0]["livenessProbe"] = json!({ "httpGet": { "port": 80, "path": path } });
    }));
    assert_eq!(env_json(&injected(&pod), "MESH_APP_PROBERS")["/app-health/web/livez"]["httpGet"]["path"], path);
}

#[test]
fn a_users_probe_that_looks_rewritten_is_led_through_the_proxy_as_any_other() {
    let pod = injected(&pod(|pod| {
        let get = json!({ "httpGet": { "port": 15020, "path": "/app-health/web/livez" } });
        pod["spec"]["containers"][0]["livenessProbe"] = get;
    }));
    assert_eq!(env_json(&pod, "MESH_APP_PROBERS")["/app-health/web/livez"]["httpGet"]["port"], 15020);
}

#[test]
fn annotations_that_only_look_like_ours_are_reported_and_change_nothing() {
    let plain = injected(&pod(|_| {}));
    for name in [
        "sidecar.istio.io/inject2",
        "traffic.sidecar.istio.io/\nx",
        "inject.istio.io/templates",
        "status.sidecar.istio.io/port",
    ] {
        let pod = annotated(name, "{{ evil }}");
        let mut with = injected(&pod);
        with["metadata"]["annotations"].as_object_mut().expect("a map").remove(name);
        assert_eq!(with, plain);
        assert_eq!(warnings(&pod).len(), 1);
        assert!(!warnings(&pod)[0].contains('\n'));
    }
}
