//! The command line.

use std::fs;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::config::{Config, Interface, List, Which, name_servers};
use crate::error::Error;
use crate::init::{self, Report};
use crate::programs::Backend;
use crate::rules::{Family, rules};

/// Exit codes, for `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  the rules are in place (or removed, or printed)
  1  another failure; the message says which
  2  the command line is wrong
  3  not permitted: root with NET_ADMIN and NET_RAW is needed
  4  the iptables programs are missing
  5  the kernel lacks a table, match or target
  6  the rules read back are not those written";

/// Traffic capture for the mesh.
#[derive(Debug, Parser)]
#[command(name = "mesh-cni", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set the redirect rules of the network namespace that this runs in.
    ///
    /// All TCP connections of the pod are led to the proxy, but for those excluded and the proxy's own. Running it again
    /// changes nothing; rules that were changed since are put right.
    #[command(after_help = EXIT_CODES)]
    Init(Box<InitArgs>),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// User id of the proxy, whose own connections are not captured
    #[arg(long, default_value_t = 1337)]
    proxy_uid: u32,
    /// Group id of the proxy, whose own connections are not captured
    #[arg(long, default_value_t = 1337)]
    proxy_gid: u32,
    /// Port of the proxy for outgoing connections
    #[arg(long, default_value_t = 15001, value_parser = clap::value_parser!(u16).range(1..))]
    outbound_port: u16,
    /// Port of the proxy for incoming connections
    #[arg(long, default_value_t = 15006, value_parser = clap::value_parser!(u16).range(1..))]
    inbound_port: u16,
    /// Ports on which incoming connections are captured: `*` for all, or a list with commas
    #[arg(long, default_value = "*", value_name = "PORTS")]
    include_inbound_ports: Which<u16>,
    /// Ports on which incoming connections are left alone
    #[arg(long, default_value = "15020,15021,15090", value_name = "PORTS")]
    exclude_inbound_ports: List<u16>,
    /// Destinations to which outgoing connections are captured: `*` for all, or CIDRs with commas
    #[arg(long, default_value = "*", value_name = "CIDRS")]
    include_outbound_ranges: Which<IpNet>,
    /// Destinations to which outgoing connections are left alone
    #[arg(long, default_value = "", value_name = "CIDRS")]
    exclude_outbound_ranges: List<IpNet>,
    /// Destination ports that are captured in addition to the included ranges
    #[arg(long, default_value = "", value_name = "PORTS")]
    include_outbound_ports: List<u16>,
    /// Destination ports that are left alone
    #[arg(long, default_value = "", value_name = "PORTS")]
    exclude_outbound_ports: List<u16>,
    /// Network interfaces whose traffic is left alone, both ways
    #[arg(long, default_value = "", value_name = "NAMES")]
    exclude_interfaces: List<Interface>,
    /// Capture DNS questions to the name servers of /etc/resolv.conf too
    #[arg(long)]
    dns_capture: bool,
    /// Which part of the kernel is to keep the rules
    #[arg(long, default_value = "auto")]
    backend: BackendArg,
    /// Print the rules for both families and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove the rules instead
    #[arg(long, conflicts_with = "dry_run")]
    clean_up: bool,
    /// How to report
    #[arg(short, long, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendArg {
    /// The one whose rules are in use in this network namespace, else nf_tables
    Auto,
    /// nf_tables
    Nft,
    /// x_tables
    Legacy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the program.
pub(crate) fn run() -> ExitCode {
    let Verb::Init(args) = Cli::parse().command;
    match init(&args) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            match args.output {
                Output::Text => eprintln!("mesh-cni init: {error}"),
                Output::Json => eprintln!("{}", serde_json::json!({ "error": error.to_string() })),
            }
            error.exit_code()
        }
    }
}

/// Does what was asked and returns what is to be printed.
fn init(args: &InitArgs) -> Result<String, Error> {
    if args.clean_up {
        let report = init::clean_up()?;
        return Ok(render(args.output, &report, "removed the redirect rules", "there were no redirect rules"));
    }
    let config = config(args)?;
    if args.dry_run {
        return Ok(dry_run(args.output, &config));
    }
    let choice = match args.backend {
        BackendArg::Auto => None,
        BackendArg::Nft => Some(Backend::Nft),
        BackendArg::Legacy => Some(Backend::Legacy),
    };
    let report = init::apply(&config, choice)?;
    Ok(render(args.output, &report, "set the redirect rules", "the redirect rules are in place already"))
}

fn config(args: &InitArgs) -> Result<Config, Error> {
    let dns_servers = match args.dns_capture {
        false => None,
        true => {
            let path = "/etc/resolv.conf";
            let text =
                fs::read_to_string(path).map_err(|source| Error::Io { what: format!("cannot read {path}"), source });
            Some(name_servers(&text?))
        }
    };
    Ok(Config {
        proxy_uid: args.proxy_uid,
        proxy_gid: args.proxy_gid,
        outbound_port: args.outbound_port,
        inbound_port: args.inbound_port,
        include_inbound_ports: args.include_inbound_ports.clone(),
        exclude_inbound_ports: args.exclude_inbound_ports.clone(),
        include_outbound_ranges: args.include_outbound_ranges.clone(),
        exclude_outbound_ranges: args.exclude_outbound_ranges.clone(),
        include_outbound_ports: args.include_outbound_ports.clone(),
        exclude_outbound_ports: args.exclude_outbound_ports.clone(),
        exclude_interfaces: args.exclude_interfaces.clone(),
        dns_servers,
    })
}

fn dry_run(output: Output, config: &Config) -> String {
    let texts = Family::ALL.map(|family| (family.name(), rules(config, family).render()));
    match output {
        Output::Text => {
            texts.map(|(family, text)| format!("# {family}, for iptables-restore --noflush\n{text}")).join("\n")
        }
        Output::Json => {
            let families = texts.map(|(family, text)| serde_json::json!({ "family": family, "rules": text }));
            format!("{}\n", serde_json::json!({ "families": families }))
        }
    }
}

fn render(output: Output, report: &Report, changed: &str, unchanged: &str) -> String {
    if let Output::Json = output {
        let json = serde_json::to_string(report).expect("a report is plain data");
        return format!("{json}\n");
    }
    let mut text = format!("{}\n", if report.changed { changed } else { unchanged });
    for family in report.families.iter().filter(|family| family.rules > 0 || family.changed) {
        let count = if family.rules > 0 { format!(", {} rules", family.rules) } else { String::new() };
        text.push_str(&format!("  {} ({}{count})\n", family.family, family.backend.name()));
    }
    for note in &report.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    text
}
