//! `docs/configuration.md` says what is reported; this holds each of its rows to what is said about an example.
//!
//! Both ways: a row that no example brings about fails, and so does a problem of an example that no row names.

use std::collections::BTreeSet;
use std::path::Path;

use mesh_compile::{ObjectRef, Objects, Options, Problem};
use mesh_crd::parse_documents;

/// A service with a meshed pod, and one with two ports.
const WORLD: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: one}
spec: {clusterIP: 10.96.0.10, selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: two-ports, namespace: one}
spec: {clusterIP: 10.96.0.11, selector: {app: b}, ports: [{name: http, port: 80}, {name: http-b, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a-1, namespace: one, uid: uid-a, labels: {app: a, version: v1}}
spec: {serviceAccountName: sa-a, containers: [{name: app}]}
status: {phase: Running, podIP: 10.244.0.1}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-s, namespace: one, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.244.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: a-1, namespace: one}}
";

/// Kind and specification of objects that ask for something that is reported. Metadata may stand before it, with `|`
/// between; `!` in front makes it the second of two objects that want the same.
const EXAMPLES: &[(&str, &str)] = &[
    ("VirtualService", "{hosts: [a], gateways: [mesh, gw], http: [{route: [{destination: {host: a}}]}]}"),
    ("VirtualService", "{hosts: ['*'], http: [{route: [{destination: {host: a}}]}]}"),
    ("VirtualService", "{hosts: [nobody.example], http: [{route: [{destination: {host: a}}]}]}"),
    ("VirtualService", "!{hosts: [a], http: [{route: [{destination: {host: a}}]}]}"),
    ("VirtualService", "{hosts: [a], http: [{delegate: {name: x}}]}"),
    ("VirtualService", "{hosts: [a], http: [{route: [{destination: {host: a}}]}, {directResponse: {status: 200}}]}"),
    ("VirtualService", "{hosts: [a], http: [{mirror: {host: a}, route: [{destination: {host: a}}]}]}"),
    ("VirtualService", "{hosts: [a], http: [{corsPolicy: {}, route: [{destination: {host: a}}]}]}"),
    (
        "VirtualService",
        "{hosts: [a], http: [{retries: {attempts: 1, retryOn: nonsense, retryRemoteLocalities: true, \
         retryIgnorePreviousHosts: true}, route: [{destination: {host: a}}]}]}",
    ),
    ("VirtualService", "{hosts: [a], http: [{match: [{uri: {regex: '('}}], route: [{destination: {host: a}}]}]}"),
    (
        "VirtualService",
        "{hosts: [a], http: [{match: [{headers: {'@request.auth.claims.x': {exact: y}}}], \
         route: [{destination: {host: a}}]}]}",
    ),
    (
        "VirtualService",
        "{hosts: [a], http: [{match: [{statPrefix: x, uri: {exact: /}}], route: [{destination: {host: a}}]}]}",
    ),
    (
        "VirtualService",
        "{hosts: [a], http: [{headers: {request: {set: {connection: x, x-a: '%REQ(x)%'}}}, \
         route: [{destination: {host: a}}]}]}",
    ),
    ("VirtualService", "{hosts: [a], http: [{route: [{destination: {host: nope}}]}]}"),
    ("VirtualService", "{hosts: [a], http: [{route: [{destination: {host: a, subset: nope}}]}]}"),
    ("VirtualService", "{hosts: [a], http: [{route: [{destination: {host: a, port: {number: 99}}}]}]}"),
    ("VirtualService", "{hosts: [a], http: [{route: [{destination: {host: two-ports}}]}]}"),
    (
        "VirtualService",
        "{hosts: [a], http: [{route: [{destination: {host: a}, headers: {request: {set: {Host: x}}}}]}]}",
    ),
    ("VirtualService", "{hosts: [a], tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: a}}]}]}"),
    ("VirtualService", "{hosts: [a], tls: [{match: [{sniHosts: [x.example]}], route: [{destination: {host: a}}]}]}"),
    ("DestinationRule", "{host: nope}"),
    ("DestinationRule", "{host: a, workloadSelector: {matchLabels: {x: y}}}"),
    ("DestinationRule", "{host: a, subsets: [{name: v9, labels: {version: v9}}]}"),
    ("DestinationRule", "{host: a, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}}"),
    ("DestinationRule", "{host: a, trafficPolicy: {tls: {mode: MUTUAL}}}"),
    ("DestinationRule", "{host: a, trafficPolicy: {tunnel: {targetHost: x, targetPort: 1}}}"),
    ("DestinationRule", "{host: a, trafficPolicy: {proxyProtocol: {version: V1}}}"),
    ("DestinationRule", "{host: a, trafficPolicy: {retryBudget: {budgetInterval: 1s}}}"),
    ("DestinationRule", "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 99}}]}}"),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {probes: 1}, maxConnections: 1}, \
         http: {http2KeepAlive: {interval: 1s}, maxConcurrentStreams: 1}}}}",
    ),
    ("DestinationRule", "{host: a, trafficPolicy: {outlierDetection: {outlierDetectionHttpErrorCodes: [500]}}}"),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {loadBalancer: {warmup: {duration: 1s}, zoneAwareLbSetting: {}, \
         localityLbSetting: {enabled: true}}}}",
    ),
    ("DestinationRule", "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {}}}}"),
    (
        "DestinationRule",
        "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 1s, \
         attributes: [{name: SameSite, value: Lax}]}}}}}",
    ),
    ("ServiceEntry", "{hosts: ['*'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}"),
    (
        "ServiceEntry",
        "{hosts: [a.one.svc.cluster.local], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
    ),
    ("ServiceEntry", "{hosts: [x.example], resolution: DNS}"),
    (
        "ServiceEntry",
        "{hosts: [x.example], addresses: [no], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
    ),
    ("ServiceEntry", "{hosts: [x.example], ports: [{number: 5, name: tcp, protocol: TCP}], resolution: DNS}"),
    (
        "ServiceEntry",
        "{hosts: [x.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DYNAMIC_DNS}",
    ),
    (
        "ServiceEntry",
        "{hosts: [x.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS_ROUND_ROBIN}",
    ),
    ("ServiceEntry", "{hosts: [x.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC}"),
    (
        "ServiceEntry",
        "{hosts: [x.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, \
         endpoints: [{address: name.example}, {address: 'unix:///x'}]}",
    ),
    (
        "ServiceEntry",
        "{hosts: [x.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, \
         workloadSelector: {labels: {app: nobody}}, subjectAltNames: [x]}",
    ),
    (
        "ServiceEntry",
        "labels: {networking.istio.io/enable-autoallocate-ip: 'true'}|{hosts: [x.example], \
         ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
    ),
    ("WorkloadEntry", "{labels: {app: x}}"),
    ("WorkloadEntry", "{address: 'unix:///x'}"),
    ("Gateway", "{selector: {app: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}"),
    ("Sidecar", "{workloadSelector: {labels: {app: a}}}"),
    (
        "Sidecar",
        "{ingress: [{port: {number: 80, name: http, protocol: HTTP}}], inboundConnectionPool: {}, \
         egress: [{bind: 127.0.0.1, captureMode: NONE, hosts: [nonsense]}], \
         outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, egressProxy: {host: a}}}",
    ),
    ("PeerAuthentication", "!{selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}}"),
    ("PeerAuthentication", "{selector: {matchLabels: {app: nobody}}, mtls: {mode: STRICT}}"),
    ("PeerAuthentication", "{mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}"),
    ("PeerAuthentication", "{selector: {matchLabels: {version: v1}}, portLevelMtls: {80: {mode: STRICT}}}"),
    ("AuthorizationPolicy", "{targetRefs: [{kind: Service, name: a}]}"),
    ("AuthorizationPolicy", "{selector: {matchLabels: {app: nobody}}}"),
    ("AuthorizationPolicy", "{action: CUSTOM, provider: {name: x}, rules: [{}]}"),
    ("AuthorizationPolicy", "{action: AUDIT, rules: [{}]}"),
    ("AuthorizationPolicy", "annotations: {istio.io/dry-run: 'true'}|{rules: [{}]}"),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {requestPrincipals: ['*'], notRequestPrincipals: [x], \
         remoteIpBlocks: [10.0.0.0/8], notRemoteIpBlocks: [10.0.0.0/8]}}]}]}",
    ),
    ("AuthorizationPolicy", "{rules: [{when: [{key: 'request.auth.claims[x]', values: [y]}]}]}"),
    ("AuthorizationPolicy", "{rules: [{from: [{source: {}}]}]}"),
    ("AuthorizationPolicy", "{rules: [{from: [{source: {principals: ['spiffe://x/ns/y/sa/z']}}]}]}"),
    ("AuthorizationPolicy", "{rules: [{to: [{operation: {ports: [many]}}]}]}"),
    ("RequestAuthentication", "{jwtRules: [{issuer: x}]}"),
    ("Telemetry", "{targetRefs: [{kind: Service, name: a}]}"),
    ("Telemetry", "{selector: {matchLabels: {app: nobody}}}"),
    ("Telemetry", "!{selector: {matchLabels: {app: a}}, accessLogging: [{disabled: true}]}"),
    ("Telemetry", "{tracing: [{}], metrics: [{}], accessLogging: [{filter: {expression: x}}]}"),
    (
        "Service",
        "{sessionAffinity: ClientIP, trafficDistribution: PreferClose, externalIPs: [10.9.9.9], \
         ports: [{port: 5, protocol: SCTP}]}",
    ),
    (
        "ConfigMap",
        "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}, inboundTrafficPolicy: {mode: LOCALHOST}, \
         accessLogFormat: x, enableAutoMtls: false, trustDomain: x, rootNamespace: x, protocolDetectionTimeout: 1s, \
         tcpKeepalive: {probes: 1}, dnsRefreshRate: 1s, enablePrometheusMerge: false, enableTracing: true, \
         extensionProviders: [{name: x}], defaultProviders: {tracing: [x]}, defaultConfig: {concurrency: 1}, \
         meshMTLS: {minProtocolVersion: TLSV1_3}, discoverySelectors: [{}], serviceSettings: [{}], \
         caCertificates: [{}], verifyCertificateAtClient: false, \
         defaultHttpRetryPolicy: {retryRemoteLocalities: true}, ingressService: x",
    ),
];

/// What cannot be read, in the order of the page's rows.
const UNREADABLE: &[(&str, &str)] = &[
    ("VirtualService", "{hosts: [a], http: [{match: [{nope: 1}], route: [{destination: {host: a}}]}]}"),
    ("VirtualService", "{hosts: [a], http: [{nope: 1, route: [{destination: {host: a}}]}]}"),
    ("VirtualService", "{hosts: [a], tcp: [{nope: 1, route: [{destination: {host: a}}]}]}"),
    ("PeerAuthentication", "{mtls: {mode: NOPE}}"),
    ("AuthorizationPolicy", "{nope: 1}"),
    ("DestinationRule", "{host: a, trafficPolicy: {tls: {mode: NOPE}}}"),
    ("DestinationRule", "{host: a, subsets: [{name: v1, nope: 1, labels: {version: v1}}]}"),
    ("Sidecar", "{outboundTrafficPolicy: {mode: NOPE}}"),
    ("Telemetry", "{nope: 1}"),
];

fn document(kind: &str, name: &str, spec: &str) -> String {
    let version = match kind {
        "Service" => "v1",
        "ConfigMap" => {
            let metadata = "metadata: {name: mesh, namespace: mesh-system}";
            return format!("apiVersion: v1\nkind: ConfigMap\n{metadata}\ndata:\n  mesh: |\n    {{{spec}}}\n");
        }
        "PeerAuthentication" | "AuthorizationPolicy" | "RequestAuthentication" => "security.istio.io/v1",
        "Telemetry" => "telemetry.istio.io/v1",
        _ => "networking.istio.io/v1",
    };
    let (more, spec) = spec.split_once('|').unwrap_or(("", spec));
    let comma = if more.is_empty() { "" } else { ", " };
    let metadata = format!("{{name: {name}, namespace: one{comma}{more}}}");
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n")
}

/// What is said about an example.
fn said(kind: &str, spec: &str) -> Vec<Problem> {
    let mut text = WORLD.to_owned();
    let spec = match spec.strip_prefix('!') {
        Some(spec) => {
            text += &format!("---\n{}", document(kind, "an-older-one", spec));
            spec
        }
        None => spec,
    };
    text += &format!("---\n{}", document(kind, "z", spec));
    let (parsed, errors) = parse_documents(&text, "example.yaml");
    assert!(errors.is_empty(), "{text}\n{errors:?}");
    let last = parsed.last().expect("the example is there");
    let of = ObjectRef { kind: last.object.kind().to_owned(), key: last.object.key() };
    let mut objects = Objects::new(Options::default());
    for parsed in parsed {
        objects.apply(parsed.object);
    }
    objects.validate(&of)
}

/// A field as the page writes it: below `spec`, without the numbers of list entries.
fn field(of: &str) -> String {
    let mut out = String::new();
    for (index, part) in of.split('[').enumerate() {
        match part.split_once(']') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => out += &format!("[]{rest}"),
            _ if index == 0 => out += part,
            _ => out += &format!("[{part}"),
        }
    }
    let below = out.strip_prefix("spec.").or_else(|| out.strip_prefix("data.mesh."));
    below.map(str::to_owned).unwrap_or(out)
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    std::fs::read_to_string(path).expect("docs/configuration.md is there")
}

#[test]
fn the_page_reports_what_the_code_reports() {
    let mut written = BTreeSet::new();
    let mut kind = String::new();
    for line in page().lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut kind);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", of, severity @ ("error" | "warning" | "info"), ..] = cells[..] {
            written.insert(format!("{kind} {} {severity}", of.trim_matches('`')));
        }
    }
    let mut found = BTreeSet::new();
    for (kind, spec) in EXAMPLES {
        let problems = said(kind, spec);
        assert!(!problems.is_empty(), "nothing is said about {kind} {spec}");
        found.extend(problems.iter().map(|p| format!("{kind} {} {}", field(&p.field), p.severity.as_str())));
    }
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(
        written == found,
        "on the page, but nothing says it:\n  {}\nsaid, but not on the page:\n  {}",
        only(&written, &found),
        only(&found, &written)
    );
}

#[test]
fn the_page_says_what_happens_with_what_cannot_be_read() {
    let page = page();
    let begin = page.find("## What cannot be read").expect("the page has this part");
    let table = page[begin..].lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows: Vec<Vec<&str>> =
        table.take_while(|line| line.starts_with('|')).map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(rows.len(), UNREADABLE.len(), "one example per row, in the same order");
    for (row, (kind, spec)) in rows.iter().zip(UNREADABLE) {
        let problems = said(kind, spec);
        let so = row[1] == *kind && problems.iter().any(|problem| problem.message.contains(row[3]));
        assert!(so, "{row:?}\n{kind} {spec}\n{problems:#?}");
    }
}
