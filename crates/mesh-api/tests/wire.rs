//! What goes over the wire and comes back is the same value, and what is not a value is refused by field.
#![allow(clippy::unwrap_used)] // a test's helpers fail by panicking

use std::sync::Arc;

use bytes::Bytes;
use mesh_api::proto::Any;
use mesh_api::proto::mesh::v1 as wire;
use mesh_api::{Rejected, Resource, VERSION_CHARS, Wire, decode, encode, kind_of, rejections, type_url};
use mesh_core::config::{Address, AddressAnswer, Endpoint, Inbound, MeshSettings, ResourceKind, RouteTable};
use proptest::prelude::*;

mod arbitrary;

fn sent(resource: &Resource) -> (String, Any) {
    let sent = encode(resource).to_wire();
    (sent.name, sent.resource.unwrap())
}

proptest! {
    #[test]
    fn a_resource_survives_the_wire(resource in arbitrary::resource()) {
        let encoded = encode(&resource);
        prop_assert_eq!(encoded.version.len(), VERSION_CHARS);
        prop_assert_eq!(&encode(&resource), &encoded, "equal values have equal bytes");
        let (name, any) = sent(&resource);
        prop_assert_eq!(decode(&name, &any), Ok(resource));
    }

    #[test]
    fn hostile_bytes_are_refused_without_a_panic(
        name in arbitrary::resource().prop_map(|resource| resource.name().to_string()),
        kind in proptest::sample::select(ResourceKind::ALL.to_vec()),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode(&name, &Any { type_url: type_url(kind).to_owned(), value: Bytes::from(bytes) });
    }

    #[test]
    fn a_flipped_byte_is_another_value_or_refused(resource in arbitrary::resource(), at in any::<usize>(), bit in 0..8u8) {
        let (name, mut any) = sent(&resource);
        let mut bytes = any.value.to_vec();
        if bytes.is_empty() { return Ok(()); }
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        any.value = bytes.into();
        if let Ok(other) = decode(&name, &any) {
            prop_assert_eq!(other.name().to_string(), name);
        }
    }
}

fn refused<W: Wire + std::fmt::Debug>(proto: W::Proto) -> String {
    W::from_wire(proto).unwrap_err().to_string()
}

#[test]
fn the_field_and_the_reason_are_named() {
    let endpoint = wire::Endpoint { uid: "u".into(), ..Default::default() };
    assert_eq!(refused::<Endpoint>(endpoint.clone()), "locality: is missing");
    let whole = wire::Endpoint {
        locality: Some(wire::Locality::default()),
        workload: Some(wire::Workload::default()),
        ..endpoint
    };
    assert_eq!(refused::<Endpoint>(whole.clone()), "health: 0 is not a Health");
    let whole = wire::Endpoint { health: 1, proxy: 1, ..whole };
    assert_eq!(refused::<Endpoint>(whole.clone()), "weight: is 0");
    let ports = [(70_000, 80)].into();
    assert_eq!(
        refused::<Endpoint>(wire::Endpoint { ports, ..whole.clone() }),
        "ports[70000]: 70000 does not fit 16 bits"
    );
    let addresses = vec![Bytes::from_static(&[10, 0, 0, 1]), Bytes::from_static(&[1])];
    assert_eq!(
        refused::<Endpoint>(wire::Endpoint { addresses, ..whole }),
        "addresses[1]: an address has 4 or 16 bytes, not 1"
    );
    let rule = wire::HttpRule {
        action: Some(wire::HttpAction {
            kind: Some(wire::http_action::Kind::Route(wire::WeightedDestinations::default())),
        }),
        ..Default::default()
    };
    let name = Some(wire::ServiceName { namespace: "a".into(), host: "b".into() });
    let table = wire::RouteTable { name, http: vec![rule], ..Default::default() };
    assert_eq!(refused::<RouteTable>(table), "http[0].action.destinations: is empty");
    let settings = wire::MeshSettings { mesh_prefixes: vec!["10.0.0.0/8".into(); 257], ..Default::default() };
    assert_eq!(refused::<MeshSettings>(settings), "outbound_policy: 0 is not a OutboundPolicy");
    assert_eq!(refused::<Inbound>(wire::Inbound::default()), "uid: is empty");
}

#[test]
fn a_list_has_a_bound() {
    let rules = vec![wire::AuthzRule::default(); mesh_api::limits::ITEMS_MAX + 1];
    let policy = wire::AuthzPolicy { origin: Some(wire::Origin::default()), action: 1, dry_run: false, rules };
    assert_eq!(refused::<mesh_core::config::AuthzPolicy>(policy), "rules: has 16385 items, more than 16384");
}

#[test]
fn a_resource_must_be_what_its_name_says() {
    let address = Address { address: "10.0.0.1".parse().unwrap(), answer: AddressAnswer::Absent };
    let (name, message) = sent(&Resource::Address(Arc::new(address)));
    assert_eq!(name, "address/10.0.0.1");
    assert_eq!(decode("address/10.0.0.2", &message).unwrap_err().to_string(), "calls itself address/10.0.0.1");
    let error = decode("host/a:80", &message).unwrap_err().to_string();
    assert!(error.contains("is of type"), "{error}");
    assert!(decode("nonsense", &message).is_err());
}

#[test]
fn type_urls_are_those_of_the_messages() {
    for kind in ResourceKind::ALL {
        assert_eq!(kind_of(type_url(kind)), Some(kind));
        assert_eq!(type_url(kind), format!("type.googleapis.com/mesh.v1.{}", kind.as_str()));
    }
    assert_eq!(kind_of("type.googleapis.com/envoy.config.cluster.v3.Cluster"), None);
}

#[test]
fn a_rejection_travels_in_the_details_of_a_nack() {
    let rejected = vec![
        Rejected { name: "service/a/b".into(), reason: "regex".into() },
        Rejected { name: "routes/a/b".into(), reason: "why".into() },
    ];
    let mut status = Rejected::to_status(&rejected);
    assert_eq!(status.message, "service/a/b: regex (and 1 more)");
    status.details.push(Any { type_url: "type.googleapis.com/other".into(), value: Bytes::new() });
    assert_eq!(rejections(&status), rejected);
}
