//! Generators of every type of the configuration model, within what the wire accepts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mesh_api::Resource;
use mesh_core::config::*;
use mesh_core::identity::SpiffeId;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

type Gen<T> = BoxedStrategy<T>;

fn text() -> Gen<String> {
    prop_oneof![Just(String::new()), "[a-z0-9.-]{1,12}", "\\PC{0,8}"].boxed()
}

fn label() -> Gen<String> {
    "[a-z][a-z0-9-]{0,10}".boxed()
}

fn labels() -> Gen<BTreeMap<String, String>> {
    btree_map(label(), text(), 0..3).boxed()
}

fn ip() -> Gen<IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)].boxed()
}

fn net() -> Gen<IpNet> {
    (ip(), any::<u8>())
        .prop_map(|(ip, bits)| IpNet::new(ip, bits % if ip.is_ipv4() { 33 } else { 129 }).unwrap())
        .boxed()
}

fn time() -> Gen<Duration> {
    prop_oneof![Just(Duration::ZERO), any::<u64>().prop_map(Duration::from_nanos)].boxed()
}

fn identity() -> Gen<SpiffeId> {
    (label(), label()).prop_map(|(ns, sa)| format!("spiffe://cluster.local/ns/{ns}/sa/{sa}").parse().unwrap()).boxed()
}

fn service_name() -> Gen<ServiceName> {
    (label(), label()).prop_map(|(ns, host)| ServiceName::new(&ns, &format!("{host}.{ns}.svc.cluster.local"))).boxed()
}

fn origin() -> Gen<Origin> {
    (label(), text(), label(), any::<u64>())
        .prop_map(|(kind, namespace, name, generation)| Origin { kind, namespace, name, generation })
        .boxed()
}

fn protocol() -> Gen<Protocol> {
    use Protocol::*;
    select(vec![Unspecified, Http, Http2, Grpc, Tcp, Tls, Udp]).boxed()
}

fn string_match() -> Gen<StringMatch> {
    prop_oneof![
        text().prop_map(StringMatch::Exact),
        text().prop_map(StringMatch::Prefix),
        text().prop_map(StringMatch::Regex),
        Just(StringMatch::Present),
    ]
    .boxed()
}

fn value_match() -> Gen<ValueMatch> {
    prop_oneof![
        text().prop_map(ValueMatch::Exact),
        text().prop_map(ValueMatch::Prefix),
        text().prop_map(ValueMatch::Suffix),
        Just(ValueMatch::Present),
        text().prop_map(ValueMatch::Template),
    ]
    .boxed()
}

fn host_pattern() -> Gen<HostPattern> {
    prop_oneof![Just(HostPattern::Any), label().prop_map(HostPattern::Suffix), label().prop_map(HostPattern::Exact)]
        .boxed()
}

fn access_log() -> Gen<AccessLog> {
    (text(), select(vec![AccessLogFormat::Text, AccessLogFormat::Json]))
        .prop_map(|(file, format)| AccessLog { file, format })
        .boxed()
}

fn settings() -> Gen<MeshSettings> {
    use PathNormalization::*;
    let policy = select(vec![OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly]);
    let paths = select(vec![None, Base, MergeSlashes, DecodeAndMergeSlashes]);
    (vec(net(), 0..4), policy, any::<bool>(), vec(text(), 4), vec(text(), 0..2), paths, of(access_log()))
        .prop_map(|(mesh_prefixes, outbound_policy, hosts_without_addresses, texts, aliases, paths, access_log)| {
            MeshSettings {
                mesh_prefixes,
                outbound_policy,
                hosts_without_addresses,
                trust_domain: texts[0].clone(),
                trust_domain_aliases: aliases,
                cluster_domain: texts[1].clone(),
                root_namespace: texts[2].clone(),
                path_normalization: paths,
                access_log,
            }
        })
        .boxed()
}

fn locality() -> Gen<Locality> {
    (text(), text(), text()).prop_map(|(region, zone, subzone)| Locality { region, zone, subzone }).boxed()
}

fn workload() -> Gen<Workload> {
    vec(text(), 8)
        .prop_map(|mut t| {
            let mut next = || t.pop().unwrap();
            Workload {
                name: next(),
                namespace: next(),
                canonical_service: next(),
                canonical_revision: next(),
                app: next(),
                version: next(),
                cluster: next(),
                pod: next(),
            }
        })
        .boxed()
}

fn endpoint() -> Gen<Endpoint> {
    let names = (label(), vec(ip(), 0..3), of(text()), text(), locality(), of(identity()), labels());
    let health = select(vec![Health::Healthy, Health::Draining, Health::Unhealthy]);
    let proxy = select(vec![ProxyKind::None, ProxyKind::Mesh, ProxyKind::Istio]);
    let rest = (
        btree_map(any::<u16>(), any::<u16>(), 0..3),
        health,
        1..=u32::MAX,
        proxy,
        any::<bool>(),
        vec(any::<u16>(), 0..3),
        workload(),
    );
    (names, rest)
        .prop_map(|((uid, addresses, hostname, network, locality, identity, labels), rest)| {
            let (ports, health, weight, proxy, mesh_tls, plaintext_ports, workload) = rest;
            Endpoint {
                uid: uid.into(),
                addresses,
                hostname,
                network,
                locality,
                identity,
                labels,
                ports,
                health,
                weight,
                proxy,
                mesh_tls,
                plaintext_ports,
                workload,
            }
        })
        .boxed()
}

fn address() -> Gen<Address> {
    let reason = select(vec![HiddenReason::ExportTo, HiddenReason::Sidecar]);
    let answer = prop_oneof![
        Just(AddressAnswer::Absent),
        vec(service_name(), 0..3).prop_map(AddressAnswer::Services),
        (endpoint(), vec(service_name(), 0..3))
            .prop_map(|(endpoint, services)| AddressAnswer::Workload { endpoint: Arc::new(endpoint), services }),
        (of(endpoint()), reason)
            .prop_map(|(endpoint, reason)| AddressAnswer::Hidden { endpoint: endpoint.map(Arc::new), reason }),
    ];
    (ip(), answer).prop_map(|(address, answer)| Address { address, answer }).boxed()
}

fn host() -> Gen<Host> {
    let answer = prop_oneof![
        Just(HostAnswer::Absent),
        service_name().prop_map(HostAnswer::Service),
        service_name().prop_map(HostAnswer::Routes)
    ];
    (label(), any::<u16>(), answer).prop_map(|(name, port, answer)| Host { name: name.into(), port, answer }).boxed()
}

fn balancer() -> Gen<Balancer> {
    let key = prop_oneof![
        text().prop_map(HashKey::Header),
        (text(), text(), of(time())).prop_map(|(name, path, ttl)| HashKey::Cookie { name, path, ttl }),
        Just(HashKey::SourceIp),
        text().prop_map(HashKey::Query),
    ];
    let table = prop_oneof![any::<u64>().prop_map(HashTable::Ring), any::<u64>().prop_map(HashTable::Maglev)];
    prop_oneof![
        Just(Balancer::LeastRequest),
        Just(Balancer::RoundRobin),
        Just(Balancer::Random),
        Just(Balancer::Passthrough),
        (key, table).prop_map(|(key, table)| Balancer::ConsistentHash(HashSpec { key, table })),
    ]
    .boxed()
}

fn pool() -> Gen<ConnectionPool> {
    let keepalive =
        (any::<u32>(), time(), time()).prop_map(|(probes, time, interval)| TcpKeepalive { probes, time, interval });
    let limits = any::<[u32; 4]>().prop_map(|n| CircuitLimits {
        connections_max: n[0],
        pending_max: n[1],
        requests_max: n[2],
        retries_max: n[3],
    });
    (time(), time(), of(time()), of(keepalive), time(), any::<u32>(), any::<(bool, bool)>(), limits)
        .prop_map(|(connect_timeout, tcp_idle_timeout, longest, keepalive, http_idle_timeout, max, flags, limits)| {
            ConnectionPool {
                connect_timeout,
                tcp_idle_timeout,
                max_connection_duration: longest,
                keepalive,
                http_idle_timeout,
                requests_per_connection_max: max,
                upgrade_to_http2: flags.0,
                use_client_protocol: flags.1,
                limits,
            }
        })
        .boxed()
}

fn outlier() -> Gen<OutlierDetection> {
    (any::<[u32; 5]>(), any::<bool>(), time(), time())
        .prop_map(|(n, split_local_errors, interval, base_ejection_time)| OutlierDetection {
            consecutive_5xx: n[0],
            consecutive_gateway_errors: n[1],
            consecutive_local_failures: n[2],
            split_local_errors,
            interval,
            base_ejection_time,
            max_ejection_percent: n[3],
            min_health_percent: n[4],
        })
        .boxed()
}

fn client_tls() -> Gen<ClientTls> {
    prop_oneof![
        Just(ClientTls::Auto),
        Just(ClientTls::Disable),
        (vec(text(), 0..3), of(text()))
            .prop_map(|(subject_alt_names, sni)| ClientTls::Mutual { subject_alt_names, sni }),
        (of(text()), vec(text(), 0..3), any::<bool>()).prop_map(|(sni, subject_alt_names, insecure_skip_verify)| {
            ClientTls::Simple { sni, subject_alt_names, insecure_skip_verify }
        }),
        text().prop_map(ClientTls::Unsupported),
    ]
    .boxed()
}

fn policy() -> Gen<TrafficPolicy> {
    let shares = btree_map(text(), btree_map(text(), any::<u32>(), 0..3), 0..3);
    let locality =
        (any::<bool>(), labels(), vec(text(), 0..3), shares).prop_map(|(disabled, failover, priority, distribute)| {
            LocalityFailover { disabled, failover, priority, distribute }
        });
    (balancer(), pool(), of(outlier()), client_tls(), locality, any::<(u32, u32)>())
        .prop_map(|(balancer, pool, outlier, tls, locality, retry)| TrafficPolicy {
            balancer,
            pool,
            outlier,
            tls,
            locality,
            retry_budget_percent: retry.0,
            retry_min_concurrency: retry.1,
        })
        .boxed()
}

fn service() -> Gen<Service> {
    let resolution = prop_oneof![
        select(vec![Resolution::Endpoints, Resolution::Headless, Resolution::OriginalDestination, Resolution::Dns]),
        text().prop_map(Resolution::ExternalName),
    ];
    let port = (any::<u16>(), text(), protocol(), policy()).prop_map(|(number, name, protocol, policy)| ServicePort {
        number,
        name,
        protocol,
        policy,
    });
    let subset =
        (labels(), btree_map(any::<u16>(), policy(), 0..2)).prop_map(|(labels, policies)| Subset { labels, policies });
    (
        service_name(),
        origin(),
        vec(origin(), 0..2),
        vec(ip(), 0..2),
        resolution,
        any::<bool>(),
        btree_map(any::<u16>(), port, 0..3),
        btree_map(label(), subset, 0..2),
    )
        .prop_map(|(name, origin, rules, addresses, resolution, external, ports, subsets)| Service {
            name,
            origin,
            rules,
            addresses,
            resolution,
            external,
            ports,
            subsets,
        })
        .boxed()
}

fn edits() -> Gen<HeaderEdits> {
    let pairs = || vec((text(), text()), 0..2);
    let names = || vec(text(), 0..2);
    (pairs(), pairs(), names(), pairs(), pairs(), names())
        .prop_map(|(request_set, request_add, request_remove, response_set, response_add, response_remove)| {
            HeaderEdits { request_set, request_add, request_remove, response_set, response_add, response_remove }
        })
        .boxed()
}

fn destinations(least: usize) -> Gen<Vec<WeightedDestination>> {
    let destination = (service_name(), of(text()), of(any::<u16>())).prop_map(|(service, subset, port)| Destination {
        service,
        subset,
        port,
    });
    let one = (destination, any::<u32>(), edits()).prop_map(|(destination, weight, headers)| WeightedDestination {
        destination,
        weight,
        headers,
    });
    vec(one, least..3).boxed()
}

fn http_match() -> Gen<HttpMatch> {
    let header =
        (text(), string_match(), any::<bool>()).prop_map(|(name, value, invert)| HeaderMatch { name, value, invert });
    let query = (text(), string_match()).prop_map(|(name, value)| QueryMatch { name, value });
    let texts = (of(string_match()), of(string_match()), of(string_match()), of(string_match()));
    (text(), texts, any::<bool>(), vec(header, 0..2), vec(query, 0..2), of(any::<u16>()), labels(), of(text()))
        .prop_map(|(name, texts, ignore_case, headers, query, port, source_labels, unsupported)| HttpMatch {
            name,
            path: texts.0,
            ignore_case,
            method: texts.1,
            authority: texts.2,
            scheme: texts.3,
            headers,
            query,
            port,
            source_labels,
            unsupported,
        })
        .boxed()
}

fn http_action() -> Gen<HttpAction> {
    let port = prop_oneof![
        any::<u16>().prop_map(RedirectPort::Number),
        Just(RedirectPort::ProtocolDefault),
        Just(RedirectPort::Request)
    ];
    let redirect = (of(text()), of(text()), of(text()), of(text()), of(port), 200..600u16).prop_map(
        |(uri, prefix, authority, scheme, port, status)| Redirect { uri, prefix, authority, scheme, port, status },
    );
    let direct = (200..600u16, vec(any::<u8>(), 0..20)).prop_map(|(status, body)| DirectResponse { status, body });
    prop_oneof![
        destinations(1).prop_map(HttpAction::Route),
        redirect.prop_map(HttpAction::Redirect),
        direct.prop_map(HttpAction::Direct),
        text().prop_map(HttpAction::Invalid),
    ]
    .boxed()
}

fn retry() -> Gen<RetryPolicy> {
    let on = (any::<[bool; 5]>(), vec(any::<u16>(), 0..3), vec(any::<u8>(), 0..3)).prop_map(|(on, statuses, grpc)| {
        RetryOn {
            server_error: on[0],
            gateway_error: on[1],
            reset: on[2],
            connect_failure: on[3],
            retriable_4xx: on[4],
            statuses,
            grpc,
        }
    });
    (any::<u32>(), of(time()), on, time())
        .prop_map(|(attempts, per_try_timeout, on, backoff)| RetryPolicy { attempts, per_try_timeout, on, backoff })
        .boxed()
}

fn fault() -> Gen<Fault> {
    let percent = || (0..=1_000_000u32).prop_map(Percent);
    let delay = (time(), percent()).prop_map(|(duration, percent)| Delay { duration, percent });
    let abort =
        (200..600u16, of(any::<u8>()), percent()).prop_map(|(status, grpc, percent)| Abort { status, grpc, percent });
    (of(delay), of(abort)).prop_map(|(delay, abort)| Fault { delay, abort }).boxed()
}

fn http_rule() -> Gen<HttpRule> {
    let rewrite = (of(text()), of((text(), text())), of(text())).prop_map(|(uri, uri_regex, authority)| Rewrite {
        uri,
        uri_regex,
        authority,
    });
    (text(), vec(http_match(), 0..2), http_action(), of(rewrite), edits(), of(time()), retry(), of(fault()))
        .prop_map(|(name, matches, action, rewrite, headers, timeout, retry, fault)| HttpRule {
            name,
            matches,
            action,
            rewrite,
            headers,
            timeout,
            retry,
            fault,
        })
        .boxed()
}

fn l4_match() -> Gen<L4Match> {
    (vec(host_pattern(), 0..2), vec(net(), 0..2), of(any::<u16>()), labels(), of(text()))
        .prop_map(|(sni, destination_subnets, port, source_labels, unsupported)| L4Match {
            sni,
            destination_subnets,
            port,
            source_labels,
            unsupported,
        })
        .boxed()
}

fn routes() -> Gen<RouteTable> {
    let tls =
        (vec(l4_match(), 0..2), destinations(1)).prop_map(|(matches, destinations)| TlsRule { matches, destinations });
    let tcp =
        (vec(l4_match(), 0..2), destinations(1)).prop_map(|(matches, destinations)| TcpRule { matches, destinations });
    (
        service_name(),
        vec(host_pattern(), 0..2),
        of(origin()),
        any::<bool>(),
        vec(http_rule(), 0..3),
        vec(tls, 0..2),
        vec(tcp, 0..2),
    )
        .prop_map(|(name, hosts, origin, implicit, http, tls, tcp)| RouteTable {
            name,
            hosts,
            origin,
            implicit,
            http,
            tls,
            tcp,
        })
        .boxed()
}

fn term() -> Gen<Term> {
    let values = || (any::<bool>(), vec(value_match(), 0..3));
    prop_oneof![
        values().prop_map(|(not, values)| Term::Principal { not, values }),
        values().prop_map(|(not, values)| Term::Namespace { not, values }),
        (any::<bool>(), vec(text(), 0..3)).prop_map(|(not, values)| Term::ServiceAccount { not, values }),
        values().prop_map(|(not, values)| Term::TrustDomain { not, values }),
        (any::<bool>(), vec(net(), 0..3)).prop_map(|(not, values)| Term::SourceIp { not, values }),
        (any::<bool>(), vec(net(), 0..3)).prop_map(|(not, values)| Term::DestinationIp { not, values }),
        (any::<bool>(), vec(any::<u16>(), 0..3)).prop_map(|(not, values)| Term::DestinationPort { not, values }),
        values().prop_map(|(not, values)| Term::Sni { not, values }),
        values().prop_map(|(not, values)| Term::Host { not, values }),
        values().prop_map(|(not, values)| Term::Method { not, values }),
        values().prop_map(|(not, values)| Term::Path { not, values }),
        (text(), values()).prop_map(|(name, (not, values))| Term::Header { name, not, values }),
        (text(), any::<bool>()).prop_map(|(field, http_only)| Term::Unknown { field, http_only }),
    ]
    .boxed()
}

fn authz() -> Gen<AuthzPolicy> {
    let terms = || vec(term(), 0..3);
    let rule = (
        vec(terms().prop_map(|terms| Source { terms }), 0..2),
        vec(terms().prop_map(|terms| Operation { terms }), 0..2),
        vec(terms().prop_map(|terms| Condition { terms }), 0..2),
    )
        .prop_map(|(from, to, when)| AuthzRule { from, to, when });
    let action = select(vec![AuthzAction::Allow, AuthzAction::Deny, AuthzAction::Audit, AuthzAction::Custom]);
    (origin(), action, any::<bool>(), vec(rule, 0..3))
        .prop_map(|(origin, action, dry_run, rules)| AuthzPolicy { origin, action, dry_run, rules })
        .boxed()
}

fn inbound() -> Gen<Inbound> {
    let mode = || select(vec![MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable]);
    let port = (protocol(), mode(), of(origin()), of((service_name(), any::<u16>())))
        .prop_map(|(protocol, mtls, mtls_origin, service)| InboundPort { protocol, mtls, mtls_origin, service });
    (
        (label(), identity(), vec(ip(), 0..3), labels(), workload(), locality()),
        btree_map(any::<u16>(), port, 0..3),
        mode(),
        of(origin()),
        vec(authz(), 0..3),
        of(of(access_log())),
        any::<bool>(),
    )
        .prop_map(
            |((uid, identity, addresses, labels, workload, locality), ports, mtls, origin, policies, log, draining)| {
                Inbound {
                    uid: uid.into(),
                    identity,
                    addresses,
                    labels,
                    workload,
                    locality,
                    ports,
                    mtls,
                    mtls_origin: origin,
                    policies,
                    access_log: log,
                    draining,
                }
            },
        )
        .boxed()
}

/// Any resource of any kind.
pub(crate) fn resource() -> Gen<Resource> {
    prop_oneof![
        settings().prop_map(|value| Resource::MeshSettings(Arc::new(value))),
        inbound().prop_map(|value| Resource::Inbound(Arc::new(value))),
        address().prop_map(|value| Resource::Address(Arc::new(value))),
        host().prop_map(|value| Resource::Host(Arc::new(value))),
        service().prop_map(|value| Resource::Service(Arc::new(value))),
        (service_name(), endpoint()).prop_map(|(name, value)| Resource::Endpoint(name, Arc::new(value))),
        (service_name(), any::<u32>()).prop_map(|(name, members)| Resource::EndpointsComplete(name, members)),
        routes().prop_map(|value| Resource::RouteTable(Arc::new(value))),
    ]
    .boxed()
}
