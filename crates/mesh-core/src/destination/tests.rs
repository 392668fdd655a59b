//! What addresses and names lead to.

use super::*;
use crate::config::PathNormalization;

fn settings(outbound_policy: OutboundPolicy, hosts_without_addresses: bool) -> MeshSettings {
    MeshSettings {
        mesh_prefixes: vec!["203.0.113.0/24".parse().unwrap()],
        outbound_policy,
        hosts_without_addresses,
        trust_domain: "cluster.local".into(),
        trust_domain_aliases: Vec::new(),
        cluster_domain: "cluster.local".into(),
        root_namespace: "mesh-system".into(),
        path_normalization: PathNormalization::Base,
        access_log: None,
    }
}

fn decide<'a>(to: &str, knowledge: Knowledge<'a>, settings: &MeshSettings) -> Outbound<'a> {
    let own = ["10.244.0.5".parse().unwrap()];
    outbound(to.parse().unwrap(), &own, knowledge, settings, &MeshPrefixes::compile(settings))
}

#[test]
fn an_address_outside_of_the_mesh_is_external_at_once() {
    let check = |to, policy, by_name| decide(to, Knowledge::NotHeld, &settings(policy, by_name));
    use OutboundPolicy::{AllowAny, RegistryOnly};
    assert_eq!(check("8.8.8.8:443", AllowAny, false), Outbound::Passthrough { by_name: false });
    assert_eq!(check("8.8.8.8:443", AllowAny, true), Outbound::Passthrough { by_name: true });
    assert_eq!(check("[2001:db8::1]:443", AllowAny, false), Outbound::Passthrough { by_name: false });
    assert_eq!(check("8.8.8.8:443", RegistryOnly, false), Outbound::Refused(Reason::RegistryOnly));
    assert_eq!(check("8.8.8.8:443", RegistryOnly, true), Outbound::ByNameOnly);
}

#[test]
fn an_address_that_may_be_in_the_mesh_is_asked_for_and_never_guessed() {
    let settings = settings(OutboundPolicy::AllowAny, false);
    for inside in ["10.1.1.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "100.127.255.255", "[fd00::1]", "203.0.113.9"]
        .map(|ip| format!("{ip}:80"))
        .into_iter()
        .chain(["[::ffff:10.1.1.1]:80".to_owned()])
    {
        assert_eq!(decide(&inside, Knowledge::NotHeld, &settings), Outbound::Ask, "{inside}");
        let late = decide(&inside, Knowledge::TimedOut, &settings);
        assert_eq!(late, Outbound::Refused(Reason::DiscoveryUnavailable), "{inside}");
    }
    for outside in ["172.32.0.1:80", "100.128.0.1:80", "169.254.169.254:80"] {
        let decided = decide(outside, Knowledge::NotHeld, &settings);
        assert_eq!(decided, Outbound::Passthrough { by_name: false }, "{outside}");
    }
}

#[test]
fn the_answer_decides_together_with_the_policy() {
    let (any, only) = (settings(OutboundPolicy::AllowAny, false), settings(OutboundPolicy::RegistryOnly, false));
    let absent = AddressAnswer::Absent;
    assert_eq!(decide("10.1.1.1:80", Knowledge::Held(&absent), &any), Outbound::Passthrough { by_name: false });
    assert_eq!(decide("10.1.1.1:80", Knowledge::Held(&absent), &only), Outbound::Refused(Reason::RegistryOnly));
    let reason = HiddenReason::ExportTo;
    let hidden = AddressAnswer::Hidden { endpoint: None, reason };
    assert_eq!(decide("10.1.1.1:80", Knowledge::Held(&hidden), &any), Outbound::Hidden { endpoint: None, reason });
    assert_eq!(decide("10.1.1.1:80", Knowledge::Held(&hidden), &only), Outbound::Refused(Reason::Hidden));
    let services = AddressAnswer::Services(vec![ServiceName::new("ns", "a")]);
    assert!(matches!(decide("10.1.1.1:80", Knowledge::Held(&services), &only), Outbound::Services([_])));
}

#[test]
fn no_port_of_a_proxy_is_reached_through_it() {
    let settings = settings(OutboundPolicy::AllowAny, false);
    let own = ["10.244.0.5".parse().unwrap(), "fd00:10:244::5".parse().unwrap()];
    for port in PROXY_PORTS {
        for to in [format!("10.244.0.5:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            assert_eq!(decide(&to, Knowledge::NotHeld, &settings), Outbound::Refused(Reason::ProxyPort), "{to}");
        }
        let inbound = |ip: &str| super::inbound(format!("{ip}:{port}").parse().unwrap(), &own);
        assert_eq!(inbound("10.244.0.5"), Err(Reason::ProxyPort));
        assert_eq!(inbound("[::ffff:10.244.0.5]"), Err(Reason::ProxyPort));
        assert_eq!(inbound("10.244.0.6"), Err(Reason::NotOwnAddress));
    }
    assert_eq!(decide("10.244.0.6:15020", Knowledge::NotHeld, &settings), Outbound::Ask, "another pod's metrics");
    assert_eq!(inbound("10.244.0.5:9080".parse().unwrap(), &own), Ok(()));
    assert_eq!(inbound("127.0.0.1:9080".parse().unwrap(), &own), Err(Reason::NotOwnAddress));
}

#[test]
fn of_services_that_share_an_address_the_first_with_the_port_wins() {
    let services = ["a", "b", "c"].map(|host| ServiceName::new("ns", host));
    let check = |has: [Option<bool>; 3]| {
        service_by_port(&services, |name| has[services.iter().position(|s| s == name).unwrap()])
    };
    assert_eq!(check([Some(false), Some(true), Some(true)]), ByPort::Found(&services[1]));
    assert_eq!(check([Some(false), None, Some(true)]), ByPort::Ask(&services[1]));
    assert_eq!(check([Some(false); 3]), ByPort::Missing);
}

#[test]
fn a_workloads_own_port_is_found_among_its_services() {
    let (a, b) = (ServiceName::new("ns", "a"), ServiceName::new("ns", "b"));
    let (ports_a, ports_b) = (BTreeMap::from([(80, 8080)]), BTreeMap::from([(90, 9090), (91, 8080)]));
    let find = |port| service_of_workload(port, [(&a, &ports_a), (&b, &ports_b)]);
    assert_eq!(find(8080), Some((&a, 80)));
    assert_eq!(find(9090), Some((&b, 90)));
    assert_eq!(find(80), None, "a service's port is not the workload's");
}

#[test]
fn an_authority_has_one_form() {
    let check = |text| parse_authority(text).map(|a| (a.host.into_owned(), a.port));
    for (text, host, port) in [
        ("reviews", "reviews", None),
        ("Reviews.NS.svc.Cluster.local.:9080", "reviews.ns.svc.cluster.local", Some(9080)),
        ("a:", "a", None),
        ("10.0.0.1:80", "10.0.0.1", Some(80)),
        ("[FD00::1]:80", "fd00::1", Some(80)),
        ("[::1]", "::1", None),
    ] {
        assert_eq!(check(text), Ok((host.to_owned(), port)), "{text}");
    }
    for (text, error) in [
        ("", HostError::Empty),
        (".", HostError::Empty),
        (":80", HostError::Empty),
        ("user@host", HostError::UserInfo),
        ("a:b", HostError::Port),
        ("a:0", HostError::Port),
        ("a:65536", HostError::Port),
        ("a:+80", HostError::Port),
        ("::1", HostError::Port),
        ("[fe80::1%25eth0]", HostError::Host),
        ("[::1]x", HostError::Host),
        ("a b", HostError::Host),
        ("a/b", HostError::Host),
        ("bücher.de", HostError::Host),
    ] {
        assert_eq!(check(text), Err(error), "{text}");
    }
    assert!(matches!(parse_authority("reviews:80").unwrap().host, std::borrow::Cow::Borrowed(_)));
}

#[test]
fn a_service_is_called_by_its_short_names_too() {
    let fqdn = "reviews.bookinfo.svc.cluster.local";
    let short = aliases(fqdn, "bookinfo", "cluster.local");
    assert_eq!(short, [fqdn, "reviews.bookinfo.svc", "reviews.bookinfo", "reviews"]);
    assert_eq!(aliases(fqdn, "other", "cluster.local").len(), 3);
    assert_eq!(aliases("example.com", "ns", "cluster.local"), ["example.com"]);
    for name in short {
        assert!(candidates(&name, "bookinfo", "cluster.local").contains(&fqdn.to_owned()), "{name}");
    }
    assert_eq!(candidates("10.0.0.1", "ns", "cluster.local"), ["10.0.0.1"]);
}
