//! The redirect rules: what is captured, as a pure function of the configuration.
//!
//! Written in the order and spelling of `iptables-save`, so that the golden files read like what `iptables-save` shows
//! in a pod. What a connection meets, outgoing:
//!
//! - made by the proxy and answering on loopback for a peer (source 127.0.0.6, ::6): passes;
//! - made by the proxy to an address of its own pod: an application called its own Service, so the connection is led
//!   through the inbound side like everybody's;
//! - made by anybody else over loopback (also to the pod's own address): passes, it does not leave the pod;
//! - made by the proxy: passes;
//! - excluded by port, range or interface: passes;
//! - else, if included, it goes to the outbound port.
//!
//! Incoming connections go to the inbound port unless excluded. Only TCP is captured (and DNS, if asked for).

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Config, Which};

/// Prefix of all our chains; nothing else is ever changed or removed.
pub(crate) const CHAIN_PREFIX: &str = "MESH_";
const INBOUND: &str = "MESH_INBOUND";
const IN_REDIRECT: &str = "MESH_IN_REDIRECT";
const OUTPUT: &str = "MESH_OUTPUT";
const OUTPUT_DNS: &str = "MESH_OUTPUT_DNS";
const REDIRECT: &str = "MESH_REDIRECT";

/// Where the proxy answers DNS.
const DNS_PORT: u16 = 15053;

/// IPv4 or IPv6: each has its own tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// All rules of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// The tables, each written in one commit.
    pub(crate) tables: Vec<Table>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Our chains, in order of name as `iptables-save` has them.
    pub(crate) chains: Vec<&'static str>,
    /// The rules of our chains, in order.
    pub(crate) rules: Vec<Rule>,
    /// The rules that lead from the kernel's chains into ours; each is the first of its chain.
    pub(crate) jumps: Vec<Rule>,
}

/// One rule: the chain that it is in, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) chain: &'static str,
    pub(crate) words: String,
}

/// The rules that capture what `config` asks for.
pub(crate) fn rules(config: &Config, family: Family) -> Ruleset {
    let servers = name_servers(config, family);
    let mut tables = vec![nat(config, family, &servers)];
    if !servers.is_empty() {
        tables.push(raw(config, family, &servers));
    }
    Ruleset { tables }
}

fn nat(config: &Config, family: Family, servers: &[IpAddr]) -> Table {
    let mut table = Table::new("nat", &[INBOUND, IN_REDIRECT, OUTPUT, REDIRECT]);
    table.rule(IN_REDIRECT, format!("-p tcp -j REDIRECT --to-ports {}", config.inbound_port));
    table.rule(REDIRECT, format!("-p tcp -j REDIRECT --to-ports {}", config.outbound_port));
    inbound(&mut table, config);
    outbound(&mut table, config, family, servers);
    table
}

fn inbound(table: &mut Table, config: &Config) {
    for interface in &config.exclude_interfaces.0 {
        table.rule(INBOUND, format!("-i {} -j RETURN", interface.0));
    }
    for port in &config.exclude_inbound_ports.0 {
        table.rule(INBOUND, format!("-p tcp -m tcp --dport {port} -j RETURN"));
    }
    match &config.include_inbound_ports {
        Which::All => table.rule(INBOUND, format!("-p tcp -j {IN_REDIRECT}")),
        Which::Listed(ports) => {
            for port in &ports.0 {
                table.rule(INBOUND, format!("-p tcp -m tcp --dport {port} -j {IN_REDIRECT}"));
            }
        }
    }
    table.jump("PREROUTING", format!("-p tcp -j {INBOUND}"));
}

fn outbound(table: &mut Table, config: &Config, family: Family, servers: &[IpAddr]) {
    let (uid, gid) = (config.proxy_uid, config.proxy_gid);
    let (home, passthrough) = (family.loopback(), family.passthrough_source());
    let dns = !servers.is_empty();

    for interface in &config.exclude_interfaces.0 {
        table.rule(OUTPUT, format!("-o {} -j RETURN", interface.0));
    }
    for port in &config.exclude_outbound_ports.0 {
        table.rule(OUTPUT, format!("-p tcp -m tcp --dport {port} -j RETURN"));
        if dns {
            table.rule(OUTPUT, format!("-p udp -m udp --dport {port} -j RETURN"));
        }
    }
    table.rule(OUTPUT, format!("-s {passthrough} -o lo -j RETURN"));
    // With DNS capture, questions to a name server on loopback must get as far as the rules for DNS.
    let (not_dns, not_dns_port) = if dns { (" -p tcp -m tcp ! --dport 53", " -m tcp ! --dport 53") } else { ("", "") };
    table.rule(OUTPUT, format!("! -d {home} -o lo -p tcp{not_dns_port} -m owner --uid-owner {uid} -j {IN_REDIRECT}"));
    table.rule(OUTPUT, format!("-o lo{not_dns} -m owner ! --uid-owner {uid} -j RETURN"));
    table.rule(OUTPUT, format!("-m owner --uid-owner {uid} -j RETURN"));
    // Loopback is dealt with above, so the group needs no rules for it.
    table.rule(OUTPUT, format!("-m owner --gid-owner {gid} -j RETURN"));
    if dns {
        dns_redirects(table, servers);
    }
    table.rule(OUTPUT, format!("-d {home} -j RETURN"));
    for range in config.exclude_outbound_ranges.0.iter().filter(|range| family.has(range)) {
        table.rule(OUTPUT, format!("{}-j RETURN", destination(range)));
    }
    for port in &config.include_outbound_ports.0 {
        table.rule(OUTPUT, format!("-p tcp -m tcp --dport {port} -j {REDIRECT}"));
    }
    match &config.include_outbound_ranges {
        Which::All => table.rule(OUTPUT, format!("-j {REDIRECT}")),
        Which::Listed(ranges) => {
            for range in ranges.0.iter().filter(|range| family.has(range)) {
                table.rule(OUTPUT, format!("{}-j {REDIRECT}", destination(range)));
            }
        }
    }
    table.jump("OUTPUT", format!("-j {OUTPUT}"));
}

fn dns_redirects(table: &mut Table, servers: &[IpAddr]) {
    table.chains.push(OUTPUT_DNS);
    table.chains.sort_unstable();
    table.rule(OUTPUT, format!("-j {OUTPUT_DNS}"));
    for protocol in ["tcp", "udp"] {
        for server in servers {
            let server = IpNet::from(*server);
            table.rule(
                OUTPUT_DNS,
                format!("-d {server} -p {protocol} -m {protocol} --dport 53 -j REDIRECT --to-ports {DNS_PORT}"),
            );
        }
    }
}

/// The proxy's own questions and the application's go from and to the same addresses and ports; two zones keep
/// connection tracking from taking one for the other. The first rule that gives a packet a zone decides.
fn raw(config: &Config, family: Family, servers: &[IpAddr]) -> Table {
    debug_assert!(servers.iter().all(|server| Family::of(server) == family));
    let mut table = Table::new("raw", &[INBOUND, OUTPUT_DNS]);
    let owners = [format!("--uid-owner {}", config.proxy_uid), format!("--gid-owner {}", config.proxy_gid)];
    for owner in &owners {
        table.rule(OUTPUT_DNS, format!("-p udp -m udp --dport 53 -m owner {owner} -j CT --zone 1"));
        table.rule(OUTPUT_DNS, format!("-p udp -m udp --sport {DNS_PORT} -m owner {owner} -j CT --zone 2"));
    }
    for server in servers {
        let server = IpNet::from(*server);
        table.rule(OUTPUT_DNS, format!("-d {server} -p udp -m udp --dport 53 -j CT --zone 2"));
        table.rule(INBOUND, format!("-s {server} -p udp -m udp --sport 53 -j CT --zone 1"));
    }
    table.jump("OUTPUT", format!("-p udp -j {OUTPUT_DNS}"));
    table.jump("PREROUTING", format!("-p udp -j {INBOUND}"));
    table
}

fn name_servers(config: &Config, family: Family) -> Vec<IpAddr> {
    let all = config.dns_servers.iter().flatten();
    all.filter(|server| Family::of(server) == family).copied().collect()
}

/// The match for a destination; a range of everything is no match, which is how the programs print it.
fn destination(range: &IpNet) -> String {
    if range.prefix_len() == 0 { String::new() } else { format!("-d {range} ") }
}

impl Family {
    /// Both, in the order in which they are set.
    pub(crate) const ALL: [Family; 2] = [Family::V4, Family::V6];

    fn of(address: &IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn has(self, range: &IpNet) -> bool {
        Family::of(&range.addr()) == self
    }

    fn loopback(self) -> &'static str {
        match self {
            Family::V4 => "127.0.0.1/32",
            Family::V6 => "::1/128",
        }
    }

    /// The source from which the inbound proxy reaches the application.
    fn passthrough_source(self) -> &'static str {
        match self {
            Family::V4 => "127.0.0.6/32",
            Family::V6 => "::6/128",
        }
    }

    /// As people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

impl Table {
    fn new(name: &'static str, chains: &[&'static str]) -> Table {
        Table { name, chains: chains.to_vec(), rules: Vec::new(), jumps: Vec::new() }
    }

    fn rule(&mut self, chain: &'static str, words: String) {
        self.rules.push(Rule { chain, words });
    }

    fn jump(&mut self, chain: &'static str, words: String) {
        self.jumps.push(Rule { chain, words });
    }

    /// Chains, rules and jumps as text for `iptables-restore --noflush`, without the lines around them. A chain that
    /// exists is emptied by its own line.
    pub(crate) fn render(&self, text: &mut String) {
        let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes every line");
        for chain in &self.chains {
            line(format_args!(":{chain} - [0:0]"));
        }
        for rule in &self.rules {
            line(format_args!("-A {} {}", rule.chain, rule.words));
        }
        for jump in &self.jumps {
            line(format_args!("-I {} 1 {}", jump.chain, jump.words));
        }
    }
}

impl Ruleset {
    /// The whole text for `iptables-restore --noflush` where none of our rules is present.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            writeln!(text, "*{}", table.name).expect("a String takes every line");
            table.render(&mut text);
            text.push_str("COMMIT\n");
        }
        text
    }

    /// How many rules these are.
    pub(crate) fn len(&self) -> usize {
        self.tables.iter().map(|table| table.rules.len() + table.jumps.len()).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests;
