//! The table of labels, a test per row, first in Istio's words and then in ours.

use serde_json::json;

use super::*;

/// Labels as `name=value` with spaces between; the answer as text.
fn answer(namespace: &str, pod: &str, settings: &Settings) -> String {
    let labels = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.split_whitespace().map(|pair| pair.split_once('=').expect("name=value"));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let pod = json!({ "metadata": { "namespace": "shop", "labels": labels(pod) }, "spec": { "containers": [] } });
    match decide(&pod, &labels(namespace), settings).verdict {
        Verdict::Inject(reason) => format!("inject: {reason}"),
        Verdict::Skip(reason) => format!("skip: {reason}"),
    }
}

#[track_caller]
fn check(rows: &[(&str, &str, &str)], settings: &Settings) {
    const SHORT: [(&str, &str); 3] = [
        ("NS", "the namespace's label"),
        ("POD", "the pod's label sidecar.istio.io/inject or revision label"),
        ("DEFAULT", "no label says anything"),
    ];
    for (namespace, pod, expected) in rows {
        let mut expected = (*expected).to_owned();
        for (short, long) in SHORT {
            expected = expected.replace(short, long);
        }
        assert_eq!(answer(namespace, pod, settings), expected, "namespace {namespace:?}, pod {pod:?}");
    }
}

/// A mesh whose revision is `x`.
fn revision_x() -> Settings {
    Settings { revision: "x".into(), ..Settings::default() }
}

#[test]
fn istios_row_1_enabled() {
    let rows = [
        ("istio-injection=enabled", "", "inject: NS"),
        ("istio-injection=enabled", "sidecar.istio.io/inject=true", "inject: NS"),
        ("istio-injection=enabled istio.io/rev=x", "istio.io/rev=y", "inject: NS"),
    ];
    check(&rows, &Settings::default());
    check(
        &[("istio-injection=enabled istio.io/rev=x", "istio.io/rev=x", "skip: it belongs to revision \"default\"")],
        &revision_x(),
    );
}

#[test]
fn istios_row_2_enabled_but_the_pod_says_no() {
    let rows = [
        ("istio-injection=enabled", "sidecar.istio.io/inject=false", "skip: POD"),
        ("istio-injection=enabled", "sidecar.istio.io/inject=false istio.io/rev=default", "skip: POD"),
    ];
    check(&rows, &Settings::default());
}

#[test]
fn istios_row_3_disabled_even_if_the_pod_says_yes() {
    let rows = [
        ("istio-injection=disabled", "", "skip: NS"),
        ("istio-injection=disabled", "sidecar.istio.io/inject=true", "skip: NS"),
        ("istio-injection=disabled istio.io/rev=default", "istio.io/rev=default", "skip: NS"),
    ];
    check(&rows, &Settings::default());
}

#[test]
fn istios_row_4_the_namespaces_revision() {
    let rows = [
        ("istio.io/rev=x", "", "inject: NS"),
        ("istio.io/rev=x", "sidecar.istio.io/inject=true", "inject: NS"),
        ("istio.io/rev=x", "istio.io/rev=y", "inject: NS"),
        ("istio.io/rev=y", "istio.io/rev=x", "skip: it belongs to revision \"y\""),
    ];
    check(&rows, &revision_x());
}

#[test]
fn istios_row_5_the_namespaces_revision_but_the_pod_says_no() {
    check(&[("istio.io/rev=x", "sidecar.istio.io/inject=false", "skip: POD")], &revision_x());
}

#[test]
fn istios_row_6_the_pods_revision() {
    let rows = [
        ("", "istio.io/rev=x", "inject: POD"),
        ("", "istio.io/rev=x sidecar.istio.io/inject=true", "inject: POD"),
        ("", "istio.io/rev=y sidecar.istio.io/inject=true", "skip: it belongs to revision \"y\""),
    ];
    check(&rows, &revision_x());
}

#[test]
fn istios_row_7_the_pod_says_yes() {
    check(&[("", "sidecar.istio.io/inject=true", "inject: POD")], &Settings::default());
    check(&[("", "sidecar.istio.io/inject=true", "skip: it belongs to revision \"default\"")], &revision_x());
}

#[test]
fn istios_row_8_nobody_says_anything() {
    check(&[("", "", "skip: DEFAULT")], &Settings::default());
    let by_default = Settings { namespaces_by_default: true, ..Settings::default() };
    check(&[("", "", "inject: DEFAULT")], &by_default);
}

#[test]
fn istios_row_9_the_pod_says_no() {
    let by_default = Settings { namespaces_by_default: true, ..Settings::default() };
    let rows = [
        ("", "sidecar.istio.io/inject=false", "skip: POD"),
        ("", "sidecar.istio.io/inject=false istio.io/rev=default", "skip: POD"),
    ];
    check(&rows, &by_default);
}

#[test]
fn the_mesh_has_the_same_table_with_its_own_labels() {
    for istio_labels in [true, false] {
        let settings = Settings { istio_labels, ..Settings::default() };
        let rows = [
            ("mesh-injection=enabled", "", "inject: NS"),
            ("mesh-injection=enabled", "sidecar.istio.io/inject=false", "skip: POD"),
            ("mesh-injection=disabled", "sidecar.istio.io/inject=true", "skip: NS"),
            ("mesh-revision=default", "mesh-revision=y", "inject: NS"),
            ("mesh-revision=y", "mesh-revision=default", "skip: it belongs to revision \"y\""),
            ("mesh-revision=default", "sidecar.istio.io/inject=false", "skip: POD"),
            ("", "mesh-revision=default", "inject: POD"),
            ("", "sidecar.istio.io/inject=true", "inject: POD"),
            ("", "", "skip: DEFAULT"),
        ];
        check(&rows, &settings);
    }
}

#[test]
fn where_both_are_set_the_meshs_own_label_wins() {
    let rows = [
        ("mesh-injection=enabled istio-injection=disabled", "", "inject: NS"),
        ("mesh-injection=disabled istio-injection=enabled", "sidecar.istio.io/inject=true", "skip: NS"),
        ("mesh-revision=default istio-injection=disabled", "", "inject: NS"),
        ("mesh-revision=default istio.io/rev=y", "", "inject: NS"),
        ("mesh-revision=y istio-injection=enabled", "", "skip: it belongs to revision \"y\""),
        ("", "mesh-revision=default istio.io/rev=y", "inject: POD"),
        ("", "mesh-revision=y istio.io/rev=default", "skip: it belongs to revision \"y\""),
    ];
    check(&rows, &Settings::default());
}

#[test]
fn with_compatibility_off_istios_labels_say_nothing() {
    let off = Settings { istio_labels: false, ..Settings::default() };
    let rows = [
        ("istio-injection=enabled", "", "skip: DEFAULT"),
        ("istio-injection=disabled", "sidecar.istio.io/inject=true", "inject: POD"),
        ("istio.io/rev=default", "", "skip: DEFAULT"),
        ("", "istio.io/rev=default", "skip: DEFAULT"),
        ("", "istio.io/rev=y sidecar.istio.io/inject=true", "inject: POD"),
    ];
    check(&rows, &off);
}

#[test]
fn values_that_mean_nothing_are_reported() {
    let pod = |labels: Value| json!({ "metadata": { "labels": labels }, "spec": { "containers": [] } });
    let namespace = |value: &str| BTreeMap::from([("mesh-injection".to_owned(), value.to_owned())]);
    let decision =
        decide(&pod(json!({ "sidecar.istio.io/inject": "no" })), &namespace("enabled"), &Settings::default());
    assert!(decision.is_inject());
    assert_eq!(decision.warnings, ["sidecar.istio.io/inject is \"no\": only true and false mean anything"]);
    let decision = decide(&pod(json!({})), &namespace("Enabled\n"), &Settings::default());
    assert_eq!(decision.verdict, Verdict::Skip(Reason::Namespace));
    assert_eq!(decision.warnings.len(), 1);
    assert!(decision.warnings[0].contains(r#""Enabled\n""#));
    // Empty is unset.
    let decision = decide(
        &pod(json!({ "sidecar.istio.io/inject": "", "istio.io/rev": "" })),
        &namespace("enabled"),
        &Settings::default(),
    );
    assert!(decision.is_inject() && decision.warnings.is_empty());
}

#[test]
fn of_the_annotation_only_the_no_counts_and_the_label_before_it() {
    let enabled = BTreeMap::from([("mesh-injection".to_owned(), "enabled".to_owned())]);
    let pod = |annotation: &str, label: Option<&str>| {
        let mut pod = json!({ "metadata": { "annotations": { SIDECAR_INJECT: annotation } }, "spec": {} });
        if let Some(label) = label {
            pod["metadata"]["labels"] = json!({ SIDECAR_INJECT: label });
        }
        pod
    };
    let settings = Settings::default();
    assert!(!decide(&pod("false", None), &enabled, &settings).is_inject());
    assert!(decide(&pod("false", Some("true")), &enabled, &settings).is_inject());
    assert!(!decide(&pod("true", Some("false")), &enabled, &settings).is_inject());
    assert!(!decide(&pod("true", None), &BTreeMap::new(), &settings).is_inject());
}

#[test]
fn some_pods_are_never_injected() {
    let enabled = |name: &str| {
        let labels = [("mesh-injection", "enabled"), ("kubernetes.io/metadata.name", name)];
        BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let pod = |spec: Value| json!({ "metadata": { "labels": { SIDECAR_INJECT: "true" } }, "spec": spec });
    let settings = Settings::default();
    let verdict = |spec: Value, namespace: &str| decide(&pod(spec), &enabled(namespace), &settings).verdict;
    assert_eq!(verdict(json!({ "hostNetwork": true }), "shop"), Verdict::Skip(Reason::HostNetwork));
    for namespace in SYSTEM_NAMESPACES {
        let expected = Verdict::Skip(Reason::SystemNamespace(namespace.to_owned()));
        assert_eq!(verdict(json!({}), namespace), expected);
    }
    let istio = json!({ "initContainers": [{ "name": "istio-init" }] });
    assert_eq!(verdict(istio, "shop"), Verdict::Skip(Reason::ForeignSidecar("istio-init".into())));
    assert!(matches!(verdict(json!("no spec"), "shop"), Verdict::Skip(Reason::Malformed(_))));
}

#[test]
fn the_control_plane_does_not_wait_for_itself() {
    let labels = BTreeMap::from([("mesh-injection".to_owned(), "enabled".to_owned())]);
    let pod = |labels: Value| json!({ "metadata": { "namespace": "mesh-system", "labels": labels }, "spec": {} });
    let settings = Settings { namespaces_by_default: true, ..Settings::default() };
    let decision = decide(&pod(json!({})), &labels, &settings);
    assert_eq!(decision.verdict, Verdict::Skip(Reason::SystemNamespace("mesh-system".into())));
    assert!(
        decide(&pod(json!({ SIDECAR_INJECT: "true" })), &labels, &settings).is_inject(),
        "a gateway asks for itself"
    );
}
