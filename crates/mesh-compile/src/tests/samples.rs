//! The files that Istio publishes: they are taken in whole, and do what they say.

use std::path::Path;

use mesh_core::config::HttpAction;
use mesh_crd::parse_documents;

use super::compiled;
use crate::{Code, Objects, Options};

/// Objects from published files (paths under `../shared/data/istio-samples`); none where they are absent.
fn samples(files: &[&str]) -> Option<Objects> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/istio-samples");
    if !folder.is_dir() {
        println!("SKIPPED: ../shared is absent");
        return None;
    }
    let mut objects = Objects::new(Options::default());
    for file in files {
        let (parsed, errors) = parse_documents(&std::fs::read_to_string(folder.join(file)).unwrap(), file);
        assert!(errors.is_empty(), "{errors:?}");
        parsed.into_iter().for_each(|parsed| drop(objects.apply(parsed.object)));
    }
    Some(objects)
}

const BOOKINFO: &str = "bookinfo/platform/kube/bookinfo.yaml";
const RULES: &str = "bookinfo/networking/destination-rule-all.yaml";

#[test]
fn reviews_are_split_90_to_10() {
    let Some(objects) = samples(&[BOOKINFO, RULES, "bookinfo/networking/virtual-service-reviews-90-10.yaml"]) else {
        return;
    };
    let table = compiled!(RouteTable, &objects, "default", "routes/default/reviews.default.svc.cluster.local");
    let HttpAction::Route(to) = &table.http[0].action else { panic!("{table:?}") };
    let shares: Vec<_> = to.iter().map(|to| (to.destination.subset.as_deref().unwrap(), to.weight)).collect();
    assert_eq!(shares, [("v1", 90), ("v2", 10)]);
    let service = compiled!(Service, &objects, "default", "service/default/reviews.default.svc.cluster.local");
    assert_eq!(service.subsets.keys().collect::<Vec<_>>(), ["v1", "v2", "v3"]);
}

#[test]
fn jason_sees_v2() {
    let Some(objects) = samples(&[BOOKINFO, RULES, "bookinfo/networking/virtual-service-reviews-test-v2.yaml"]) else {
        return;
    };
    let table = compiled!(RouteTable, &objects, "default", "routes/default/reviews.default.svc.cluster.local");
    assert_eq!(table.http[0].matches[0].headers[0].name, "end-user");
    assert_eq!(table.http.len(), 2);
}

#[test]
fn published_routing_has_only_problems_of_missing_things() {
    let files = [
        "bookinfo/networking/virtual-service-all-v1.yaml",
        "bookinfo/networking/destination-rule-all-mtls.yaml",
        "bookinfo/networking/fault-injection-details-v1.yaml",
        "bookinfo/networking/virtual-service-details-v2.yaml",
        "bookinfo/networking/virtual-service-ratings-db.yaml",
        "bookinfo/networking/virtual-service-reviews-50-v3.yaml",
        "bookinfo/networking/bookinfo-gateway.yaml",
        "httpbin/httpbin-gateway.yaml",
        "helloworld/helloworld-gateway.yaml",
        "tcp-echo/tcp-echo-20-v2.yaml",
    ];
    for file in files {
        let Some(objects) = samples(&[BOOKINFO, RULES, file]) else { return };
        for problem in objects.validate_all() {
            let expected = [
                Code::SelectsNothing,
                Code::NotActing,
                Code::MissingDestination,
                Code::MissingSubset,
                Code::MissingHost,
                Code::Conflict,
                Code::Unreachable,
            ];
            assert!(expected.contains(&problem.code), "{file}: {problem}");
        }
    }
}
