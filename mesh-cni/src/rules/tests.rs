//! Golden files of the rules, one per family. `UPDATE_EXPECT=1` writes them anew; read the difference.

use expect_test::expect_file;

use super::*;
use crate::config::{List, Which};

/// What a pod without annotations gets.
pub(crate) fn defaults() -> Config {
    Config {
        proxy_uid: 1337,
        proxy_gid: 1337,
        outbound_port: 15001,
        inbound_port: 15006,
        include_inbound_ports: Which::All,
        exclude_inbound_ports: List(vec![15020, 15021, 15090]),
        include_outbound_ranges: Which::All,
        exclude_outbound_ranges: List(vec![]),
        include_outbound_ports: List(vec![]),
        exclude_outbound_ports: List(vec![]),
        exclude_interfaces: List(vec![]),
        dns_servers: None,
    }
}

#[track_caller]
fn check(name: &str, config: &Config) {
    let path = |family: &str| format!("{}/testdata/{name}.{family}.rules", env!("CARGO_MANIFEST_DIR"));
    expect_file![path("v4")].assert_eq(&rules(config, Family::V4).render());
    expect_file![path("v6")].assert_eq(&rules(config, Family::V6).render());
}

#[test]
fn everything_but_the_proxys_own_ports() {
    check("default", &defaults());
}

#[test]
fn exclusions_come_before_the_redirect() {
    let config = Config {
        exclude_inbound_ports: "15020,15021,15090,22".parse().expect("ports"),
        exclude_outbound_ports: "3306,5432".parse().expect("ports"),
        exclude_outbound_ranges: "10.9.0.0/16,fd00:9::/32".parse().expect("ranges"),
        exclude_interfaces: "eth1,net+".parse().expect("interfaces"),
        ..defaults()
    };
    check("excluded", &config);
}

#[test]
fn only_what_is_listed() {
    let config = Config {
        include_inbound_ports: "80,443".parse().expect("ports"),
        include_outbound_ranges: "10.96.0.0/16,fd00:10:96::/112".parse().expect("ranges"),
        include_outbound_ports: "8080".parse().expect("ports"),
        ..defaults()
    };
    check("listed", &config);
}

#[test]
fn an_empty_list_captures_nothing() {
    let config = Config {
        include_inbound_ports: "".parse().expect("nothing"),
        include_outbound_ranges: "".parse().expect("nothing"),
        ..defaults()
    };
    check("nothing", &config);
}

#[test]
fn a_range_of_everything_has_no_match() {
    let config = Config { include_outbound_ranges: "0.0.0.0/0,::/0".parse().expect("ranges"), ..defaults() };
    for family in Family::ALL {
        assert_eq!(rules(&config, family), rules(&defaults(), family));
    }
}

#[test]
fn other_ids_and_ports() {
    let config = Config { proxy_uid: 1, proxy_gid: 2, outbound_port: 3, inbound_port: 4, ..defaults() };
    check("other-ids", &config);
}

#[test]
fn dns_goes_to_the_proxy_only_where_asked_for() {
    let servers = ["10.96.0.10", "fd00:10:96::a", "169.254.20.10"].map(|server| server.parse().expect("an address"));
    let config = Config {
        dns_servers: Some(servers.to_vec()),
        exclude_outbound_ports: "53".parse().expect("a port"),
        ..defaults()
    };
    check("dns-capture", &config);
    // No known name server of a family: no rules for its DNS.
    let config = Config { dns_servers: Some(vec![]), ..defaults() };
    for family in Family::ALL {
        assert_eq!(rules(&config, family), rules(&defaults(), family));
    }
}
