//! One helper per boundary: a document in; what was read of it, and what was not.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use crate::networking::*;
use crate::security::Action;
use crate::{AnyObject, IssueKind, parse_documents};

/// Reads one document, which must be an object.
fn one(text: &str) -> AnyObject {
    let (mut parsed, errors) = parse_documents(text, "test.yaml");
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(parsed.len(), 1);
    parsed.remove(0).object
}

fn virtual_service(spec: &str) -> Box<crate::Object<VirtualService>> {
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n";
    match one(&format!("{head}{spec}")) {
        AnyObject::VirtualService(object) => object,
        other => panic!("{other:?}"),
    }
}

/// The issues of a VirtualService as `path: kind`.
fn issues(spec: &str) -> Vec<String> {
    let object = virtual_service(spec);
    object.issues.iter().map(|issue| format!("{} {:?}", issue.path, issue.kind)).collect()
}

#[test]
fn either_case_of_field_names_is_read() {
    let object = virtual_service(
        "  export_to: ['.']\n  http:\n  - match: [{query_params: {a: {exact: x}}, ignoreUriCase: true}]\n",
    );
    assert_eq!(object.spec.export_to, ["."]);
    assert_eq!(object.spec.http[0].match_[0].query_params.len(), 1);
    assert!(object.spec.http[0].match_[0].ignore_uri_case);
    assert!(object.issues.is_empty());
}

#[test]
fn numbers_inside_names_keep_their_place() {
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec:\n  host: a\n  trafficPolicy:\n    connectionPool: {http: {http1MaxPendingRequests: 1, http2_max_requests: 2}}\n    outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 3, interval: 1m}\n";
    let AnyObject::DestinationRule(object) = one(text) else { panic!() };
    assert!(object.issues.is_empty(), "{:?}", object.issues);
    let policy = object.spec.traffic_policy.unwrap();
    assert_eq!(policy.outlier_detection.clone().unwrap().consecutive_5xx_errors, Some(7));
    assert_eq!(policy.outlier_detection.unwrap().interval, Some(Duration::from_secs(60)));
    let http = policy.connection_pool.unwrap().http.unwrap();
    assert_eq!((http.http1_max_pending_requests, http.http2_max_requests), (1, 2));
}

#[test]
fn enums_are_read_by_name_and_number() {
    let read = |mode: &str| {
        let head =
            "apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: x}\n";
        let AnyObject::PeerAuthentication(object) = one(&format!("{head}spec: {{mtls: {{mode: {mode}}}}}\n")) else {
            panic!()
        };
        (object.spec.mtls.unwrap().mode.name(), object.issues.len())
    };
    assert_eq!(read("STRICT"), ("STRICT", 0));
    assert_eq!(read("3"), ("STRICT", 0));
    assert_eq!(read("STRICTT"), ("UNSET", 1));
    assert_eq!(read("9"), ("UNSET", 1));
}

#[test]
fn unknown_fields_are_reported_with_their_path_and_spoil_nothing_else() {
    let spec = "  hosts: [a]\n  hostz: [b]\n  http:\n  - route: [{destination: {host: a}}]\n  - match: [{}, {uri: {exact: /x, exakt: /y}}]\n    timeout: soon\n";
    assert_eq!(
        issues(spec),
        ["spec.hostz Unknown", "spec.http[1].match[1].uri.exakt Unknown", "spec.http[1].timeout Invalid"]
    );
    let object = virtual_service(spec);
    assert!(object.issues.touching("spec.http[0]").is_none());
    assert!(object.issues.touching("spec.http[1].match").is_some());
    assert!(object.issues.touching("spec.http[1].timeout").is_some());
}

#[test]
fn a_misspelt_field_is_recognised() {
    let object = virtual_service("  http:\n  - {timeoutt: 1s, nothing_like_it: 1}\n");
    let messages: Vec<_> = object.issues.iter().map(|issue| issue.message.as_str()).collect();
    assert_eq!(
        messages,
        ["there is no field \"nothing_like_it\" here", "there is no field \"timeoutt\" here (there is timeout)"]
    );
}

#[test]
fn a_wrong_shape_spoils_what_it_holds() {
    let object = virtual_service("  http: 5\n");
    assert!(object.issues.touching("spec.http[0].match").is_some());
    assert!(object.issues.touching("spec.hosts").is_none());
}

#[test]
fn a_oneof_with_two_members_is_an_issue() {
    assert_eq!(issues("  http:\n  - match: [{uri: {exact: /, prefix: /}}]\n"), ["spec.http[0].match[0].uri Invalid"]);
    let object = virtual_service("  http:\n  - match: [{uri: {prefix: /a}, headers: {x: {}}}]\n");
    let matched = &object.spec.http[0].match_[0];
    assert_eq!(matched.uri.as_ref().unwrap().value, Some(StringPattern::Prefix("/a".into())));
    assert_eq!(matched.headers["x"].value, None);
}

#[test]
fn authorization_keeps_absent_and_empty_rules_apart() {
    let read = |spec: &str| {
        let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n";
        let AnyObject::AuthorizationPolicy(object) = one(&format!("{head}{spec}\n")) else { panic!() };
        (object.spec.action, object.spec.rules.map(|rules| rules.len()))
    };
    assert_eq!(read("spec: {}"), (Action::Allow, None));
    assert_eq!(read("spec:"), (Action::Allow, None));
    assert_eq!(read("spec: {action: DENY, rules: [{}]}"), (Action::Deny, Some(1)));
}

#[test]
fn documents_are_isolated() {
    let text = "# head\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: [\n---\n\n---\napiVersion: v1\nkind: Namespace\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
    let (parsed, errors) = parse_documents(text, "f.yaml");
    let names: Vec<_> = parsed.iter().map(|p| (p.object.meta().name.clone(), p.object.source().line)).collect();
    assert_eq!(names, [("a".to_owned(), 3), ("b".to_owned(), 14)]);
    let lines: Vec<_> = errors.iter().map(|e| e.line).collect();
    assert_eq!(lines, [8, 11], "{errors:?}");
}

#[test]
fn unknown_kinds_and_versions_are_other() {
    let AnyObject::Other(other) = one("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n") else { panic!() };
    assert_eq!((other.kind.as_str(), other.note), ("Deployment", None));
    let AnyObject::Other(other) = one("apiVersion: networking.istio.io/v1alpha2\nkind: Sidecar\nmetadata: {name: d}\n")
    else {
        panic!()
    };
    assert!(other.note.is_some_and(|note| note.contains("networking.istio.io/v1")));
    let AnyObject::Other(other) = one("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: d}\n")
    else {
        panic!()
    };
    assert_eq!(other.kind, "Gateway.gateway.networking.k8s.io");
}

#[test]
fn lists_and_json_are_read_with_positions() {
    let text = "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n {\"apiVersion\": \"v1\", \"kind\": \"Service\",\n  \"metadata\": {\"name\": \"s\"},\n  \"spec\": {\"clusterIP\": \"None\", \"ports\": [{\"port\": 80,\n \"targetPort\": \"web\"}]}}]}\n";
    let (parsed, errors) = parse_documents(text, "f.json");
    assert!(errors.is_empty());
    let AnyObject::Service(service) = &parsed[0].object else { panic!() };
    assert_eq!(service.spec.spec.cluster_ip, "None");
    assert_eq!(service.meta.namespace, "default");
    assert_eq!(service.source.line, 2);
    assert_eq!(parsed[0].positions.find("spec.ports[0].targetPort").unwrap().line, 5);
}

#[test]
fn mesh_config_is_read_and_what_it_does_not_know_is_said() {
    let (config, issues) = crate::parse_mesh_config(
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\naccessLogFile: /dev/stdout\naccessLogEncoding: JSON\nnope: 1\n",
    )
    .unwrap();
    assert_eq!(config.outbound_traffic_policy.unwrap().mode, Some(OutboundMode::RegistryOnly));
    assert_eq!(config.access_log_file, "/dev/stdout");
    assert_eq!(
        issues.iter().map(|issue| (issue.path.as_str(), issue.kind)).collect::<Vec<_>>(),
        [("nope", IssueKind::Unknown)]
    );
}

#[test]
fn published_files_have_no_unknown_fields() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/istio-samples");
    if !samples.is_dir() {
        println!("SKIPPED: ../shared is absent");
        return;
    }
    let (mut folders, mut objects) = (vec![samples], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let (parsed, errors) =
                    parse_documents(&std::fs::read_to_string(&path).unwrap(), &path.display().to_string());
                assert!(errors.is_empty(), "{errors:?}");
                for parsed in parsed {
                    assert!(parsed.object.issues().is_empty(), "{}: {:?}", path.display(), parsed.object.issues());
                    objects += 1;
                }
            }
        }
    }
    assert!(objects > 60, "{objects}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        parse_documents(&text, "x");
    }

    #[test]
    fn yaml_that_we_write_is_read_back(map in prop::collection::btree_map("[a-z]{1,5}", "\\PC{0,12}", 0..6)) {
        let text = crate::yaml::write(&map).unwrap();
        let (value, _) = crate::yaml::read(&text, 1).unwrap();
        let want = if map.is_empty() { serde_json::json!({}) } else { serde_json::to_value(&map).unwrap() };
        prop_assert_eq!(value, want);
    }
}
