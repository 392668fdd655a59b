//! What an injected pod looks like: whole (a golden) and in its parts.

use std::collections::BTreeMap;

use expect_test::{Expect, expect, expect_file};
use serde_json::{Value, json};

use crate::{Error, Settings, inject};

mod hostile;
mod laws;

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

#[track_caller]
fn warnings(pod: &Value) -> Vec<String> {
    inject(pod, &settings()).expect("the pod is injected").warnings
}

#[track_caller]
fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
    lists.flatten().find(|container| container["name"] == name).expect("the container is there")
}

fn env<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let list = container(pod, "mesh-proxy")["env"].as_array()?;
    list.iter().find(|entry| entry["name"] == name)?["value"].as_str()
}

/// A variable of the proxy that is JSON, as the proxy will see it after Kubernetes' expansion.
fn env_json(pod: &Value, name: &str) -> Value {
    let text = env(pod, name).expect("the variable is set").replace("$$", "$");
    serde_json::from_str(&text).expect("JSON")
}

/// The argument that follows a flag of mesh-init.
#[track_caller]
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

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
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
    let pod = injected(&pod(|pod| {
        pod["spec"]["initContainers"] = json!([{ "name": "migrate" }, { "name": "logger", "restartPolicy": "Always" }]);
        pod["spec"]["volumes"] = json!([{ "name": "cache", "emptyDir": {} }]);
    }));
    assert_eq!(names(&pod["spec"]["initContainers"]), ["mesh-init", "mesh-proxy", "migrate", "logger"]);
    assert_eq!(names(&pod["spec"]["containers"]), ["web"]);
    let volumes = ["cache", "mesh-data", "mesh-token", "mesh-root-cert", "mesh-podinfo"];
    assert_eq!(names(&pod["spec"]["volumes"]), volumes);
}

#[test]
fn annotations_reach_their_own_argument() {
    let traffic = |name: &str, value: &str, flag: &str| {
        argument(&injected(&annotated(&format!("traffic.sidecar.istio.io/{name}"), value)), flag).to_owned()
    };
    let ranges = traffic("includeOutboundIPRanges", "10.1.2.3/8, fd00::1", "--include-outbound-ranges");
    assert_eq!(ranges, "10.0.0.0/8,fd00::1/128");
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
fn resources_are_all_or_nothing() {
    let pod = injected(&annotated("sidecar.istio.io/proxyCPULimit", "2500m"));
    for name in ["mesh-init", "mesh-proxy"] {
        assert_eq!(container(&pod, name)["resources"], json!({ "limits": { "cpu": "2500m" } }));
    }
    assert_eq!(env(&pod, "MESH_CPU_LIMIT"), Some("3"), "workers are whole");
    let pod = injected(&annotated("sidecar.istio.io/proxyMemory", "64Mi"));
    assert_eq!(container(&pod, "mesh-proxy")["resources"], json!({ "requests": { "memory": "64Mi" } }));
    assert_eq!(env(&pod, "MESH_CPU_LIMIT"), None);
}

#[test]
fn log_levels_are_translated() {
    for (theirs, ours) in [("warning", "warn"), ("critical", "error"), ("debug", "debug"), ("off", "off")] {
        assert_eq!(env(&injected(&annotated("sidecar.istio.io/logLevel", theirs)), "MESH_LOG_LEVEL"), Some(ours));
    }
}

#[test]
fn readiness_can_be_tuned() {
    let pod = injected(&annotated("readiness.status.sidecar.istio.io/periodSeconds", "2"));
    assert_eq!(container(&pod, "mesh-proxy")["readinessProbe"]["periodSeconds"], 2);
}

#[test]
fn probes_go_through_the_proxy() {
    let pod = injected(&pod(|pod| {
        pod["spec"]["containers"][0] = json!({
            "name": "web",
            "ports": [{ "name": "http", "containerPort": 8080 }, { "name": "grpc", "containerPort": 9000 }],
            "livenessProbe": {
                "httpGet": { "path": "/live?$(A)", "port": "http", "scheme": "HTTPS", "httpHeaders": [{ "name": "A", "value": "b" }] },
                "periodSeconds": 7,
                "timeoutSeconds": 4,
            },
            "readinessProbe": { "tcpSocket": { "port": 8080 } },
            "startupProbe": { "grpc": { "port": 9000, "service": "s" }, "terminationGracePeriodSeconds": 3 },
            "lifecycle": {
                "postStart": { "httpGet": { "path": "/started", "port": "8080" } },
                "preStop": { "exec": { "command": ["sleep", "5"] } },
            },
        });
        pod["spec"]["initContainers"] =
            json!([{ "name": "side", "restartPolicy": "Always", "readinessProbe": { "httpGet": { "port": 1 } } }]);
    }));
    let web = container(&pod, "web");
    let at = |path: &str| json!({ "path": path, "port": 15020 });
    assert_eq!(
        web["livenessProbe"],
        json!({ "httpGet": at("/app-health/web/livez"), "periodSeconds": 7, "timeoutSeconds": 4 })
    );
    assert_eq!(web["readinessProbe"], json!({ "httpGet": at("/app-health/web/readyz") }));
    assert_eq!(
        web["startupProbe"],
        json!({ "httpGet": at("/app-health/web/startupz"), "terminationGracePeriodSeconds": 3 })
    );
    assert_eq!(web["lifecycle"]["postStart"], json!({ "httpGet": at("/app-lifecycle/web/poststartz") }));
    assert_eq!(web["lifecycle"]["preStop"], json!({ "exec": { "command": ["sleep", "5"] } }));
    assert_eq!(container(&pod, "side")["readinessProbe"]["httpGet"], at("/app-health/side/readyz"));
    let expected = json!({
        "/app-health/web/livez": {
            "httpGet": { "path": "/live?$(A)", "port": 8080, "scheme": "HTTPS", "httpHeaders": [{ "name": "A", "value": "b" }] },
            "timeoutSeconds": 4,
        },
        "/app-health/web/readyz": { "tcpSocket": { "port": 8080 }, "timeoutSeconds": 1 },
        "/app-health/web/startupz": { "grpc": { "port": 9000, "service": "s" }, "timeoutSeconds": 1 },
        "/app-lifecycle/web/poststartz": { "httpGet": { "path": "/started", "port": 8080 }, "timeoutSeconds": 1 },
        "/app-health/side/readyz": { "httpGet": { "port": 1 }, "timeoutSeconds": 1 },
    });
    assert_eq!(env_json(&pod, "MESH_APP_PROBERS"), expected);
    assert!(!env(&pod, "MESH_APP_PROBERS").expect("set").contains("?$("), "Kubernetes must not expand it");
}

#[test]
fn probes_that_cannot_be_led_through_the_proxy_stay() {
    let probed = |probe: Value| pod(|pod| pod["spec"]["containers"][0]["livenessProbe"] = probe);
    for probe in [
        json!({ "httpGet": { "port": 80, "host": "example.com" } }),
        json!({ "httpGet": { "port": "nameless" } }),
        json!({ "httpGet": { "port": 70000 } }),
        json!({ "httpGet": {} }),
        json!({ "httpGet": { "port": 80 }, "tcpSocket": { "port": 80 } }),
    ] {
        let pod = probed(probe.clone());
        assert_eq!(container(&injected(&pod), "web")["livenessProbe"], probe);
        assert_eq!(warnings(&pod).len(), 1, "{probe}");
    }
    let mut quiet = probed(json!({ "httpGet": { "port": 80 } }));
    quiet["metadata"]["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"] = "false".into();
    assert_eq!(container(&injected(&quiet), "web")["livenessProbe"]["httpGet"]["port"], 80);
}

#[test]
fn metrics_are_merged() {
    let scraped = |annotations: Value| pod(|pod| pod["metadata"]["annotations"] = annotations);
    let at = |pod: &Value, name: &str| pod["metadata"]["annotations"][format!("prometheus.io/{name}")].clone();
    let pod = injected(&scraped(
        json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "9102", "prometheus.io/path": "/m" }),
    ));
    assert_eq!((at(&pod, "port"), at(&pod, "path")), (json!("15020"), json!("/stats/prometheus")));
    assert_eq!(env_json(&pod, "MESH_PROMETHEUS"), json!({ "scrape": "true", "port": "9102", "path": "/m" }));
    // Without a wish of its own the pod is scraped for the proxy's metrics.
    let pod = injected(&scraped(json!({})));
    assert_eq!((at(&pod, "scrape"), env(&pod, "MESH_PROMETHEUS")), (json!("true"), None));
    for off in [json!({ "prometheus.io/scrape": "false" }), json!({ "prometheus.istio.io/merge-metrics": "false" })] {
        let pod = injected(&scraped(off));
        assert_eq!((at(&pod, "port"), env(&pod, "MESH_PROMETHEUS")), (Value::Null, None));
    }
    let unread = scraped(json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "metrics" }));
    assert_eq!(at(&injected(&unread), "port"), "metrics");
    assert_eq!(warnings(&unread).len(), 1);
    for taken in ["15020", "15090"] {
        let pod = scraped(json!({ "prometheus.io/port": taken }));
        assert_eq!(inject(&pod, &settings()), Err(Error::MetricsPort { port: taken.parse().expect("a port") }));
    }
}

#[test]
fn a_container_named_like_the_proxy_overrides_it() {
    for (name, list) in [("istio-proxy", "containers"), ("mesh-proxy", "containers"), ("istio-proxy", "initContainers")]
    {
        let pod = injected(&pod(|pod| {
            let overrides = json!({
                "name": name,
                "image": "mine:1",
                "restartPolicy": "Never",
                "resources": { "limits": { "cpu": "4" } },
                "env": [{ "name": "MESH_LOG_LEVEL", "value": "debug" }, { "name": "EXTRA", "value": "$(POD_NAME)" }],
                "volumeMounts": [{ "name": "certs", "mountPath": "/certs" }],
                "readinessProbe": { "exec": { "command": ["true"] } },
            });
            let containers = pod["spec"].as_object_mut().expect("a spec").entry(list).or_insert(json!([]));
            containers.as_array_mut().expect("a list").push(overrides);
        }));
        assert_eq!(names(&pod["spec"]["initContainers"]), ["mesh-init", "mesh-proxy"]);
        assert_eq!(names(&pod["spec"]["containers"]), ["web"]);
        let proxy = container(&pod, "mesh-proxy");
        assert_eq!((&proxy["image"], &proxy["restartPolicy"]), (&json!("mine:1"), &json!("Always")));
        assert_eq!(proxy["resources"]["limits"], json!({ "cpu": "4", "memory": "1Gi" }));
        assert_eq!((env(&pod, "MESH_LOG_LEVEL"), env(&pod, "MESH_CPU_LIMIT")), (Some("debug"), Some("4")));
        assert_eq!(env(&pod, "EXTRA"), Some("$(POD_NAME)"), "the user's own words are expanded");
        assert_eq!(proxy["volumeMounts"].as_array().map(Vec::len), Some(5));
        assert_eq!(proxy["readinessProbe"], json!({ "exec": { "command": ["true"] } }));
        assert_eq!(proxy["securityContext"]["runAsUser"], 1337);
    }
    let auto = injected(&pod(|pod| pod["spec"]["containers"][0] = json!({ "name": "istio-proxy", "image": "auto" })));
    assert_eq!(container(&auto, "mesh-proxy")["image"], "mesh-proxy:test");
}

#[test]
fn the_owner_is_the_workload_that_people_know() {
    let owned = |kind: &str, name: &str, hash: &str| {
        let pod = injected(&pod(|pod| {
            let owner = json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "controller": true, "uid": "u" });
            let other = json!({ "apiVersion": "v1", "kind": "Node", "name": "n" });
            pod["metadata"]["ownerReferences"] = json!([other, owner]);
            pod["metadata"]["labels"]["pod-template-hash"] = hash.into();
        }));
        let get = |name| env(&pod, name).expect("set").to_owned();
        format!("{} {}", get("MESH_WORKLOAD_NAME"), get("MESH_OWNER"))
    };
    expect!["web kubernetes://apis/apps/v1/namespaces/shop/deployments/web"].assert_eq(&owned(
        "ReplicaSet",
        "web-7d4b9",
        "7d4b9",
    ));
    expect!["web-7d4b9 kubernetes://apis/apps/v1/namespaces/shop/replicasets/web-7d4b9"].assert_eq(&owned(
        "ReplicaSet",
        "web-7d4b9",
        "other",
    ));
    expect!["db kubernetes://apis/apps/v1/namespaces/shop/statefulsets/db"].assert_eq(&owned("StatefulSet", "db", ""));
    expect!["report kubernetes://apis/apps/v1/namespaces/shop/cronjobs/report"].assert_eq(&owned(
        "Job",
        "report-28123456",
        "",
    ));
    expect!["report-1 kubernetes://apis/apps/v1/namespaces/shop/jobs/report-1"]
        .assert_eq(&owned("Job", "report-1", ""));
    let unnamed = injected(&pod(|pod| {
        pod["metadata"].as_object_mut().expect("metadata").remove("name");
        pod["metadata"]["generateName"] = "web-".into();
    }));
    assert_eq!(env(&unnamed, "MESH_WORKLOAD_NAME"), Some("web"));
}

#[test]
fn canonical_names_come_from_the_usual_labels() {
    let labelled = |labels: Value| {
        let pod = injected(&pod(|pod| pod["metadata"]["labels"] = labels));
        let get = |name: &str| pod["metadata"]["labels"][format!("service.istio.io/canonical-{name}")].clone();
        format!("{} {}", get("name"), get("revision"))
    };
    let long = "a".repeat(62) + "-b";
    expect![[r#""web-0" "latest""#]].assert_eq(&labelled(json!({})));
    expect![[r#""a" "1""#]].assert_eq(&labelled(json!({ "app": "a", "version": "1" })));
    expect![[r#""b" "2""#]].assert_eq(&labelled(
        json!({ "app": "a", "app.kubernetes.io/name": "b", "version": "1", "app.kubernetes.io/version": "2" }),
    ));
    expect![[r#""c" "3""#]].assert_eq(&labelled(
        json!({ "app": "a", "service.istio.io/canonical-name": "c", "service.istio.io/canonical-revision": "3" }),
    ));
    expect![[r#""aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" "latest""#]]
        .assert_eq(&labelled(json!({ "app": long })));
}

#[test]
fn what_the_author_should_know_is_said() {
    let pod = pod(|pod| {
        pod["spec"]["shareProcessNamespace"] = true.into();
        pod["spec"]["containers"][0]["securityContext"] = json!({ "runAsUser": 1337 });
        pod["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 15001 }]);
        pod["metadata"]["annotations"] = json!({ "sidecar.istio.io/proxyImage": "x", "proxy.istio.io/config": "{concurrency: 4, discoveryAddress: x}" });
    });
    assert_eq!(env(&injected(&pod), "MESH_CONCURRENCY"), Some("4"));
    expect![[r#"
        annotation "sidecar.istio.io/proxyImage" is not acted on by this mesh
        annotation 'proxy.istio.io/config': field "discoveryAddress" is not acted on by this mesh
        shareProcessNamespace: true lets the other containers reach into the proxy's process
        container web runs as 1337, the proxy's user: its traffic is not captured
        container web has port 15001, on which the proxy listens"#]]
    .assert_eq(&warnings(&pod).join("\n"));
}

#[test]
fn with_compatibility_off_istios_annotations_say_nothing() {
    let pod = annotated("traffic.sidecar.istio.io/excludeOutboundPorts", "25");
    let off = Settings { istio_labels: false, ..settings() };
    let injected = inject(&pod, &off).expect("the pod is injected");
    assert_eq!(argument(&injected.pod, "--exclude-outbound-ports"), "");
    assert_eq!(injected.warnings.len(), 1);
}

#[test]
fn refusals_name_the_field_and_the_way_out() {
    refused(
        &annotated("sidecar.istio.io/interceptionMode", "TPROXY"),
        expect![[
            r#"invalid value "TPROXY" for annotation 'sidecar.istio.io/interceptionMode': this mode is not supported by this mesh: only REDIRECT is. Remove the annotation, or opt the pod out with the label sidecar.istio.io/inject: "false""#
        ]],
    );
    refused(
        &annotated("sidecar.istio.io/proxyCPU", "lots"),
        expect![[
            r#"invalid value "lots" for annotation 'sidecar.istio.io/proxyCPU': must be a quantity such as 100m, 0.5, 128Mi"#
        ]],
    );
    refused(
        &annotated("traffic.sidecar.istio.io/excludeOutboundPorts", "80,http"),
        expect![[
            r#"invalid value "80,http" for annotation 'traffic.sidecar.istio.io/excludeOutboundPorts': "http" is not a port (1 to 65535)"#
        ]],
    );
    refused(
        &annotated("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/33"),
        expect![[
            r#"invalid value "10.0.0.0/33" for annotation 'traffic.sidecar.istio.io/includeOutboundIPRanges': "10.0.0.0/33" is not a CIDR such as 10.0.0.0/8"#
        ]],
    );
    refused(
        &annotated("sidecar.istio.io/logLevel", "misc:error"),
        expect![[
            r#"invalid value "misc:error" for annotation 'sidecar.istio.io/logLevel': must be one of trace, debug, info, warning, error, critical, off"#
        ]],
    );
    refused(
        &pod(|pod| pod["spec"]["hostNetwork"] = true.into()),
        expect![[
            r#"the pod has hostNetwork: true; its traffic is the node's and cannot be captured: set hostNetwork: false, or label the pod sidecar.istio.io/inject: "false""#
        ]],
    );
}
