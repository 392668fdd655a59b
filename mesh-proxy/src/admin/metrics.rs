//! The proxy's own numbers: what the workers counted, and what is known of the process, its certificate and its
//! configuration. The names begin with `mesh_`, so that they never meet the application's in a merged scrape.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::dump::secrets::seconds_left;
use super::ports::State;

/// Writes all of them in Prometheus' text format.
pub(super) fn write(state: &State) -> String {
    let mut out = String::new();
    state.admin.metrics.write(&mut out);
    let version = env!("CARGO_PKG_VERSION");
    gauge(&mut out, "mesh_build_info", "Version of the proxy.", [(format!("{{version=\"{version}\"}}"), 1)]);
    gauge(&mut out, "mesh_proxy_ready", "Whether the proxy is ready.", plain(u8::from(state.admin.ready.is_ready())));
    gauge(
        &mut out,
        "mesh_config_generation",
        "Changes of configuration.",
        plain(state.admin.views.load().generation()),
    );
    certificates(&mut out, state);
    scrapes(&mut out, state);
    process(&mut out);
    out
}

fn certificates(out: &mut String, state: &State) {
    let now = SystemTime::now();
    let own = state.admin.credentials.certificate().map(|own| seconds_left(own.facts().not_after, now));
    let bundle = state.admin.credentials.bundle();
    let ends = bundle.certificates().iter().filter_map(|root| mesh_tls::leaf::validity(root).ok());
    let root = ends.map(|(_, not_after)| seconds_left(not_after, now)).min();
    let label = |name: &str| format!("{{certificate=\"{name}\"}}");
    let lines = [(label("workload"), own), (label("root"), root)];
    let lines = lines.into_iter().filter_map(|(label, left)| Some((label, left?)));
    let help = "Seconds until a certificate ends (of roots: the first to end).";
    gauge(out, "mesh_certificate_expiry_seconds", help, lines);
}

fn scrapes(out: &mut String, state: &State) {
    for (name, help, value) in [
        ("mesh_application_scrapes_total", "Scrapes of the application's metrics.", &state.application.scrapes),
        ("mesh_application_scrape_failures_total", "Those that failed.", &state.application.failures),
    ] {
        let value = value.load(Ordering::Relaxed);
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    }
}

/// What the kernel says of this process; what it does not say is left out.
fn process(out: &mut String) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kilobytes) = kilobytes(&status, "VmRSS:") {
        let help = "Memory of the proxy.";
        gauge(out, "mesh_process_resident_memory_bytes", help, plain(kilobytes.saturating_mul(1024)));
    }
    if let Some(peak) = kilobytes(&status, "VmHWM:") {
        let help = "Memory of the proxy, the most there was.";
        gauge(out, "mesh_process_resident_memory_peak_bytes", help, plain(peak.saturating_mul(1024)));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is for this very look.
        gauge(out, "mesh_process_open_fds", "Open file descriptors.", plain(open.count().saturating_sub(1)));
    }
}

/// A line of `/proc/self/status` that counts kilobytes.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// One sample without labels.
fn plain<T>(value: T) -> [(String, T); 1] {
    [(String::new(), value)]
}

fn gauge<T: std::fmt::Display>(
    out: &mut String,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (String, T)>,
) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, value) in samples {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_kilobytes_are_read() {
        let status = "VmHWM:\t   20480 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!((kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")), (Some(1234), Some(20480)));
        assert_eq!(kilobytes("VmRSS: many kB\n", "VmRSS:"), None);
        assert_eq!(kilobytes("", "VmRSS:"), None);
    }
}
