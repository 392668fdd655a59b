//! The report, as `meshctl` gets it.

use serde_json::Value;

use crate::testing::{World, eventually, namespace, service};

const MISTAKEN: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - match:
    - uri:
        regex: "("
    route:
    - destination: {host: web, subset: none}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: f, namespace: shop}
spec: {}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_problem_names_its_object_its_field_and_its_line() {
    let world = World::new(&[
        ("ns.yaml", &namespace("shop")),
        ("web.yaml", &service("shop", "web", "10.96.0.1")),
        ("routes.yaml", MISTAKEN),
    ])
    .await;
    let of = |all: &Value, kind: &str| all.as_array().unwrap().iter().find(|one| one["kind"] == kind).unwrap().clone();
    let all = world.api("/v1/status").await;
    assert_eq!(of(&all, "Service")["accepted"], true);
    assert_eq!(of(&all, "Service")["problems"], serde_json::json!([]));
    let routes = of(&all, "VirtualService");
    assert_eq!((&routes["namespace"], &routes["name"]), (&"shop".into(), &"web".into()));
    assert_eq!((&routes["accepted"], &routes["source"]), (&false.into(), &"routes.yaml:2".into()), "{routes}");
    assert!(routes["generation"].as_i64().unwrap() > 0);
    let problems = routes["problems"].as_array().unwrap();
    let regex = problems.iter().find(|problem| problem["code"] == "InvalidRegex").unwrap();
    assert_eq!(regex["source"], "routes.yaml:10", "{regex}");
    assert!(problems.iter().any(|problem| problem["code"] == "MissingSubset"), "{problems:?}");
    let filter = of(&all, "EnvoyFilter");
    assert_eq!(filter["accepted"], false);
    assert!(filter["problems"][0]["message"].as_str().unwrap().contains("does not read"), "{filter}");

    // Repaired, it is accepted.
    world.write("routes.yaml", &MISTAKEN.replace("\"(\"", "\"/x.*\"").replace(", subset: none", ""));
    eventually("the routes are accepted", async || {
        of(&world.api("/v1/status").await, "VirtualService")["accepted"] == true
    })
    .await;
}
