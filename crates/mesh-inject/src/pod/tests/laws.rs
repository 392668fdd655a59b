//! Laws, held against pods that nobody thought of.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::hostile::touches_only_its_own_field;
use super::{injected, settings};
use crate::annotations::OURS;
use crate::inject;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[ -~]{0,12}", any::<String>(), "[0-9,*/.: -]{0,16}"]
}

fn probe() -> impl Strategy<Value = Value> {
    let port = prop_oneof![(0u32..70_000).prop_map(Value::from), text().prop_map(Value::from), Just(json!("http"))];
    let kind = prop_oneof![Just("httpGet"), Just("tcpSocket"), Just("grpc"), Just("exec")];
    (kind, port, text(), any::<Option<u8>>()).prop_map(|(kind, port, path, timeout)| {
        json!({ kind: { "port": port, "path": path, "host": "" }, "timeoutSeconds": timeout })
    })
}

fn container() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        8 => "[a-z]{1,8}".prop_map(String::from),
        1 => Just("mesh-proxy".to_owned()),
        1 => Just("istio-proxy".to_owned()),
        1 => text(),
    ];
    let hook = prop_oneof![Just("postStart"), Just("preStop")];
    let optional = || proptest::option::of(probe());
    (name, optional(), optional(), hook, text()).prop_map(|(name, probe, action, hook, value)| {
        let mut container = json!({
            "name": name,
            "image": "app",
            "ports": [{ "name": "http", "containerPort": 8080 }],
            "env": [{ "name": "MESH_LOG_LEVEL", "value": value }],
        });
        if let Some(probe) = probe {
            container["livenessProbe"] = probe;
        }
        if let Some(action) = action {
            container["lifecycle"] = json!({ hook: action });
        }
        container
    })
}

fn annotations() -> impl Strategy<Value = Vec<(String, String)>> {
    let names = OURS.into_iter().chain([
        "prometheus.io/scrape",
        "prometheus.io/port",
        "prometheus.io/path",
        "prometheus.istio.io/merge-metrics",
        "sidecar.istio.io/status",
        "proxy.istio.io/config",
    ]);
    let names: Vec<String> = names.map(str::to_owned).collect();
    let good = prop_oneof![Just("true"), Just("8080"), Just("15020"), Just("10.0.0.0/8"), Just("")];
    let value = prop_oneof![text(), good.prop_map(str::to_owned)];
    proptest::collection::vec((proptest::sample::select(names), value), 0..4)
}

fn pod() -> impl Strategy<Value = Value> {
    let containers = || proptest::collection::vec(container(), 0..3);
    let labels = proptest::collection::btree_map("[a-z]{1,3}|app|version", text(), 0..3);
    (containers(), containers(), labels, annotations()).prop_map(|(containers, init, labels, annotations)| {
        let annotations: serde_json::Map<String, Value> =
            annotations.into_iter().map(|(name, value)| (name, value.into())).collect();
        json!({
            "metadata": { "name": "p", "namespace": "n", "labels": labels, "annotations": annotations },
            "spec": { "containers": containers, "initContainers": init },
        })
    })
}

proptest! {
    #[test]
    fn injecting_an_injected_pod_changes_nothing(pod in pod()) {
        if inject(&pod, &settings()).is_ok() {
            // The helper holds it to the laws.
            injected(&pod);
        }
    }

    #[test]
    fn an_annotation_touches_only_its_own_field(name in proptest::sample::select(OURS.to_vec()), value in text()) {
        touches_only_its_own_field(name, &value);
    }

    #[test]
    fn any_document_is_refused_or_injected(text in any::<String>(), pod in pod()) {
        let _ = inject(&json!(text), &settings());
        let deployment = json!({ "kind": "Deployment", "metadata": { "name": text }, "spec": { "template": pod } });
        let _ = crate::inject_document(&deployment, &settings());
    }
}
