//! Bookinfo behind the mesh: encrypted, routed, refused, and explained.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::{Sandbox, Scenario, until};
use serde_json::Value;

const CLIENT: &str = "bookinfo/productpage-v1";
const REVIEWS: &str = "http://reviews:9080/reviews/0";
const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: mesh-system}
spec: {mtls: {mode: STRICT}}
";
const ACCESS_LOG: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: mesh, namespace: mesh-system}
data: {mesh: 'accessLogFile: /dev/stdout'}
";
const OUTSIDE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: outside}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: outside}
spec:
  containers:
  - {name: sleep, image: mesh-examples/sleep}
";

fn main() -> ExitCode {
    let port = e2e::sandbox::free_port().expect("this machine has a free port");
    e2e::run_with(
        "examples/bookinfo",
        &["--publish", &format!("productpage:9080={port}")],
        &[
            Scenario { name: "the_page_comes_whole_through_the_mesh", prove: the_page },
            Scenario { name: "a_browser_on_this_machine_sees_the_page_under_strict", prove: browser },
            Scenario { name: "only_tls_crosses_the_wire_under_strict", prove: only_tls },
            Scenario { name: "a_pod_outside_the_mesh_is_refused", prove: outside_refused },
            Scenario { name: "reviews_split_75_25_then_by_header_then_back", prove: split },
            Scenario { name: "istios_published_routing_files_apply_unchanged", prove: published },
            Scenario { name: "broken_objects_are_reported_and_harm_nobody", prove: broken },
            Scenario { name: "authorization_allows_and_denies_by_identity", prove: authorization },
            Scenario { name: "no_proxy_port_can_be_abused", prove: proxy_ports },
            Scenario { name: "the_peer_must_be_who_configuration_says", prove: wrong_peer },
        ],
    )
}

/// Answers of `requests` GETs by the pod that gave them, and by the Deployment that the pod belongs to.
fn answers(sandbox: &Sandbox, requests: u32, more: &[&str]) -> Result<BTreeMap<String, u64>> {
    let number = requests.to_string();
    let mut words = vec!["example-apps", "load", REVIEWS, "-n", &number, "-c", "8", "--body-field", "podname"];
    words.extend(more);
    let report = sandbox.exec(CLIENT, &words)?.ok()?.json()?;
    ensure!(report["lost"] == 0, "requests were lost: {report}");
    let mut by_version = BTreeMap::new();
    for (pod, count) in report["fields"].as_object().context("fields")? {
        let version = pod.split('-').nth(1).unwrap_or(pod).to_owned();
        *by_version.entry(version).or_insert(0) += count.as_u64().unwrap_or_default();
    }
    Ok(by_version)
}

/// Whether answers are as they should be.
type Probe = fn(&BTreeMap<String, u64>) -> bool;

fn share(answers: &BTreeMap<String, u64>, version: &str) -> u64 {
    answers.get(version).copied().unwrap_or_default()
}

/// Waits until routing acts: `probe` of a few answers holds.
fn routed(sandbox: &Sandbox, what: &str, more: &[&str], probe: impl Fn(&BTreeMap<String, u64>) -> bool) -> Result<()> {
    until(what, Duration::from_secs(10), || Ok(probe(&answers(sandbox, 40, more)?).then_some(())))
}

fn the_page(sandbox: &Sandbox) -> Result<()> {
    let page = sandbox.exec(CLIENT, &["example-apps", "fetch", "http://productpage:9080/productpage"])?.ok()?.json()?;
    ensure!(page["status"] == 200, "{page}");
    let body = page["body"].as_str().context("a body")?;
    ensure!(!body.contains("currently unavailable"), "a part is missing: {body}");
    let reviews = sandbox.pods("bookinfo")?.into_iter().filter(|pod| pod.name.starts_with("reviews-"));
    let mut seen = 0.0;
    for pod in reviews {
        let labels =
            [r#"reporter="destination""#, r#"connection_security_policy="mutual_tls""#, r#"response_code="200""#];
        seen += sandbox.proxy_metric(&pod.path(), "istio_requests_total", &labels)?;
    }
    ensure!(seen >= 1.0, "no request over mutual TLS was counted at reviews");
    Ok(())
}

fn browser(sandbox: &Sandbox) -> Result<()> {
    sandbox.with(STRICT, || {
        let status = sandbox.meshctl(&["sandbox", "status", "-o", "json"])?.ok()?.json()?;
        let port = status.pointer("/published/0/localPort").and_then(Value::as_u64).context("a published port")?;
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port)?))?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        connection.write_all(b"GET /productpage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        connection.read_to_string(&mut page)?;
        ensure!(page.starts_with("HTTP/1.1 200") && page.contains("</html>"), "{page}");
        Ok(())
    })
}

fn only_tls(sandbox: &Sandbox) -> Result<()> {
    sandbox.with(STRICT, || {
        let capture = Capture::start(&sandbox.switch()?, "tcp port 9080")?;
        let marker = "a-marker-that-nobody-else-sends";
        let header = format!("x-marker: {marker}");
        let words = ["example-apps", "load", REVIEWS, "-n", "50", "-H", &header, "--no-keepalive"];
        let report = sandbox.exec(CLIENT, &words)?.ok()?.json()?;
        ensure!(report["accepted"] == 50, "{report}");
        let packets = capture.finish()?;
        ensure!(packets.tls_records() > 50, "{} TLS records in {} bytes", packets.tls_records(), packets.len());
        ensure!(packets.count(marker) == 0, "the marker crossed the wire in plaintext {} times", packets.count(marker));
        ensure!(packets.count("HTTP/1.1 200") == 0, "an answer crossed the wire in plaintext");
        Ok(())
    })
}

fn outside_refused(sandbox: &Sandbox) -> Result<()> {
    sandbox.with(&format!("{OUTSIDE}---{STRICT}---{ACCESS_LOG}"), || {
        let stranger = "outside/stranger";
        until("the stranger runs", Duration::from_secs(20), || {
            Ok(sandbox.pods("outside")?.iter().any(|pod| pod.ready).then_some(()))
        })?;
        let url = "http://reviews.bookinfo:9080/reviews/0";
        until("plaintext is refused", Duration::from_secs(10), || {
            let said = sandbox.exec(stranger, &["example-apps", "fetch", url, "--timeout-ms", "3000"])?;
            Ok((said.code == 1).then_some(()))
        })?;
        let mut refused = 0.0;
        for pod in sandbox.pods("bookinfo")?.iter().filter(|pod| pod.name.starts_with("reviews-")) {
            let labels = [r#"reason="plaintext_refused""#];
            refused += sandbox.proxy_metric(&pod.path(), "mesh_refusals_total", &labels)?;
        }
        ensure!(refused >= 1.0, "no proxy counted the refusal with its reason");
        until("the refusal is in the access log of the proxy that made it", Duration::from_secs(5), || {
            let said = sandbox.meshctl(&["sandbox", "logs", "reviews-v1", "-n", "bookinfo", "-c", "proxy"])?.stdout;
            let more = sandbox.meshctl(&["sandbox", "logs", "reviews-v2", "-n", "bookinfo", "-c", "proxy"])?.stdout;
            let most = sandbox.meshctl(&["sandbox", "logs", "reviews-v3", "-n", "bookinfo", "-c", "proxy"])?.stdout;
            Ok([said, more, most].concat().contains("plaintext_refused").then_some(()))
        })?;
        ensure!(share(&answers(sandbox, 20, &[])?, "v1") <= 20, "meshed clients are served");
        Ok(())
    })
}

fn split(sandbox: &Sandbox) -> Result<()> {
    let file = |name: &str| -> Result<String> {
        let path = e2e::sandbox::root().join("examples/bookinfo/routing").join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let rules = file("destination-rules.yaml")?;
    sandbox.with(&rules, || {
        sandbox.with(&file("reviews-75-25.yaml")?, || {
            routed(sandbox, "only v1 and v2 answer", &[], |a| share(a, "v3") == 0 && share(a, "v2") > 0)?;
            let seen = answers(sandbox, 1000, &[])?;
            // 1,000 draws at 25 %: σ = 13.7; five of them are 69.
            let quarter = share(&seen, "v2");
            ensure!((181..=319).contains(&quarter), "v2 answered {quarter} of 1,000: {seen:?}");
            ensure!(share(&seen, "v1") + quarter == 1000, "{seen:?}");
            Ok(())
        })?;
        sandbox.with(&file("reviews-jason-v2.yaml")?, || {
            let jason = ["-H", "end-user: jason"];
            routed(sandbox, "jason sees v2", &jason, |a| share(a, "v2") == 40)?;
            ensure!(share(&answers(sandbox, 500, &jason)?, "v2") == 500, "jason sees v2 only");
            ensure!(share(&answers(sandbox, 500, &["-H", "end-user: jasonx"])?, "v1") == 500, "others see v1 only");
            Ok(())
        })
    })?;
    routed(sandbox, "all versions answer again", &[], |a| a.len() == 3)
}

fn published(sandbox: &Sandbox) -> Result<()> {
    let folder = e2e::sandbox::root().join("../shared/data/istio-samples/bookinfo/networking");
    if !folder.exists() {
        println!("SKIPPED: ../shared is absent");
        return Ok(());
    }
    // Istio's files name no namespace; `-n` puts them beside the services, as kubectl would.
    let apply = |verb: &str, name: &str| -> Result<()> {
        let path = folder.join(name);
        let arguments = ["sandbox", verb, "-n", "bookinfo", "-f", path.to_str().context("text")?];
        sandbox.meshctl(&arguments)?.ok().map(drop)
    };
    let steps: [(&str, Probe); 4] = [
        ("virtual-service-all-v1.yaml", |a| share(a, "v1") == 40),
        ("virtual-service-reviews-v3.yaml", |a| share(a, "v3") == 40),
        ("virtual-service-reviews-50-v3.yaml", |a| share(a, "v3") > 0 && share(a, "v1") > 0 && share(a, "v2") == 0),
        ("virtual-service-reviews-90-10.yaml", |a| share(a, "v3") == 0 && share(a, "v1") > 20),
    ];
    apply("apply", "destination-rule-all.yaml")?;
    let outcome = steps.iter().try_for_each(|(name, probe)| {
        apply("apply", name)?;
        routed(sandbox, name, &[], probe)
    });
    apply("delete", "virtual-service-all-v1.yaml")?;
    apply("delete", "destination-rule-all.yaml")?;
    outcome
}

/// Objects that are wrong, each with a part of what must be said on it.
const BROKEN: [(&str, &str, &str, &str); 4] = [
    (
        "VirtualService",
        "bad-regex",
        "regex",
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad-regex, namespace: bookinfo}
spec:
  hosts: [details]
  http:
  - match: [{uri: {regex: '/details/(['}}]
    route: [{destination: {host: details}}]
  - route: [{destination: {host: details}}]
",
    ),
    (
        "VirtualService",
        "missing-subset",
        "subset",
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: missing-subset, namespace: bookinfo}
spec:
  hosts: [ratings]
  http:
  - route: [{destination: {host: ratings, subset: nowhere}}]
",
    ),
    (
        "DestinationRule",
        "unknown-field",
        "trafficPolcy",
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: unknown-field, namespace: bookinfo}
spec:
  host: details
  trafficPolcy: {loadBalancer: {simple: RANDOM}}
",
    ),
    (
        "VirtualService",
        "second",
        "first",
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: first, namespace: bookinfo}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: second, namespace: bookinfo}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: details}}]}]
",
    ),
];

fn broken(sandbox: &Sandbox) -> Result<()> {
    for (kind, name, part, text) in BROKEN {
        sandbox.with(text, || {
            until(&format!("{kind}/{name} is reported"), Duration::from_secs(10), || {
                let object = sandbox.status_of(kind, "bookinfo", name)?.context("the object is listed")?;
                let said = object.pointer("/status/problems").map(Value::to_string).unwrap_or_default();
                ensure!(said.contains(part), "its status does not say {part:?}: {said}");
                Ok(Some(()))
            })?;
            let seen = answers(sandbox, 100, &[])?;
            ensure!(seen.values().sum::<u64>() == 100, "everything else keeps working: {seen:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn authorization(sandbox: &Sandbox) -> Result<()> {
    let policy = |rule: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: who-may-read, namespace: bookinfo}}
spec:
  selector: {{matchLabels: {{app: reviews}}}}
  {rule}
"
        )
    };
    let status = |pod: &str| -> Result<Value> {
        Ok(sandbox.exec(pod, &["example-apps", "fetch", REVIEWS, "--any-status"])?.json()?["status"].clone())
    };
    let account = |name: &str| format!("cluster.local/ns/bookinfo/sa/{name}");
    let allow = format!(
        "action: ALLOW\n  rules: [{{from: [{{source: {{principals: [{}]}}}}]}}]",
        account("bookinfo-productpage")
    );
    let deny = "action: DENY\n  rules: [{to: [{operation: {paths: ['/reviews/*']}}]}]";
    sandbox.with(&policy(&allow), || {
        until("others are denied", Duration::from_secs(10), || {
            Ok((status("bookinfo/details-v1")? == 403).then_some(()))
        })?;
        ensure!(status(CLIENT)? == 200, "productpage is allowed");
        Ok(())
    })?;
    sandbox.with(&policy(deny), || {
        until("the path is denied", Duration::from_secs(10), || Ok((status(CLIENT)? == 403).then_some(())))?;
        let said = sandbox.exec(CLIENT, &["example-apps", "fetch", REVIEWS, "--any-status"])?.json()?;
        ensure!(said["headers"]["mesh-reason"].to_string().contains("policy_denied"), "the reason is named: {said}");
        let around = "http://reviews:9080/x/../reviews/0";
        let said = sandbox.exec(CLIENT, &["example-apps", "fetch", around, "--any-status"])?.json()?;
        ensure!(said["status"] == 403, "a path that normalises to the denied one is denied: {said}");
        Ok(())
    })?;
    until("allowed again", Duration::from_secs(10), || Ok((status("bookinfo/details-v1")? == 200).then_some(())))
}

fn proxy_ports(sandbox: &Sandbox) -> Result<()> {
    let target = sandbox.pod("bookinfo", "reviews-v1")?;
    let own = target.path();
    // Dialled from another pod, from the pod itself, and over loopback: no answer of HTTP, and no endless loop.
    for port in [15001_u16, 15006] {
        for (from, address) in
            [(CLIENT, &target.address), (own.as_str(), &target.address), (own.as_str(), &"127.0.0.1".to_owned())]
        {
            let url = format!("http://{address}:{port}/reviews/0");
            let said = sandbox.exec(from, &["example-apps", "fetch", &url, "--timeout-ms", "4000"])?;
            ensure!(said.code != 0, "{url} from {from} was served: {}", said.stdout);
        }
    }
    // The admin port is loopback only, and read only.
    let url = format!("http://{}:15000/config/all", target.address);
    ensure!(
        sandbox.exec(CLIENT, &["example-apps", "fetch", &url, "--timeout-ms", "4000"])?.code != 0,
        "admin from outside"
    );
    let said = sandbox.exec(&own, &["example-apps", "fetch", "http://127.0.0.1:15000/config/all", "-X", "POST"])?;
    ensure!(said.code != 0, "admin took a POST: {}", said.stdout);
    let all = sandbox.exec(&own, &["example-apps", "fetch", "http://127.0.0.1:15000/config/all"])?.ok()?.stdout;
    ensure!(!all.contains("PRIVATE KEY"), "a key is shown");
    ensure!(share(&answers(sandbox, 30, &[])?, "v1") > 0, "the pod still serves");
    Ok(())
}

fn wrong_peer(sandbox: &Sandbox) -> Result<()> {
    // The client's configuration says that reviews-v1 is at an address; the packets to it arrive at another pod, with
    // another service account: what an address looks like that was given to a new pod before the client knew.
    const OTHER_CLIENT: &str = "bookinfo/ratings-v1";
    let (known, impostor) = (sandbox.pod("bookinfo", "reviews-v1")?, sandbox.pod("bookinfo", "details-v1")?);
    let namespace = sandbox.namespace_of(OTHER_CLIENT)?;
    let redirect = |verb: &str| {
        let (from, to) = (&known.address, &impostor.address);
        let rule = format!(
            "iptables -w -t nat {verb} OUTPUT -p tcp -d {from} --dport 9080 -m owner --uid-owner 1337 -j DNAT --to {to}:9080"
        );
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net={}", namespace.display())).args(rule.split_whitespace());
        e2e::sandbox::output(&mut enter)?.ok()
    };
    redirect("-I")?;
    let url = format!("http://{}:9080/reviews/0", known.address);
    let said = sandbox.exec(OTHER_CLIENT, &["example-apps", "fetch", &url, "--any-status"]);
    redirect("-D")?;
    let said = said?.json()?;
    ensure!(said["status"] == 503, "{said}");
    ensure!(said["headers"]["mesh-reason"].to_string().contains("peer_identity_mismatch"), "{said}");
    ensure!(said["body"].to_string().contains("bookinfo-details"), "who was met is named: {said}");
    let said = sandbox.exec(OTHER_CLIENT, &["example-apps", "fetch", &url])?.ok()?.json()?;
    ensure!(said["status"] == 200, "the right peer is served: {said}");
    Ok(())
}
