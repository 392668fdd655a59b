//! Lines of the access log: Istio's default text, or its JSON keys with ours beside them.
//!
//! Everything that a peer could choose (paths, headers, SNI) is escaped, so that nobody writes lines of their own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use mesh_core::config::AccessLogFormat;

/// Bytes of one value that are logged; the rest is cut.
const VALUE_BYTES_MAX: usize = 4096;

/// What is known of a finished request or connection. Absent is written `-` (text) or `null` (JSON).
#[derive(Clone, Debug, Default)]
pub(crate) struct Line<'a> {
    pub(crate) start: Option<SystemTime>,
    pub(crate) method: Option<&'a [u8]>,
    pub(crate) path: Option<&'a [u8]>,
    pub(crate) protocol: Option<&'static str>,
    /// 0 where no answer was given.
    pub(crate) code: u16,
    pub(crate) flags: &'a str,
    pub(crate) details: Option<&'a str>,
    pub(crate) termination: Option<&'a str>,
    pub(crate) upstream_failure: Option<&'a str>,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) duration: Duration,
    pub(crate) upstream_time: Option<Duration>,
    pub(crate) forwarded_for: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) request_id: Option<&'a [u8]>,
    pub(crate) authority: Option<&'a [u8]>,
    pub(crate) upstream_host: Option<SocketAddr>,
    pub(crate) upstream_cluster: Option<&'a str>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) downstream_local: Option<SocketAddr>,
    pub(crate) downstream_remote: Option<SocketAddr>,
    pub(crate) server_name: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    /// Ours: the reason code of a failure that a proxy made.
    pub(crate) reason: Option<&'a str>,
    /// Ours: whose it is.
    pub(crate) responsible: Option<&'a str>,
    /// Ours: the policy that denied, or the object that decided.
    pub(crate) policy: Option<&'a str>,
    /// Ours: attempts made.
    pub(crate) attempts: u32,
    /// Ours: the verified peer.
    pub(crate) peer: Option<&'a str>,
}

/// Appends the line.
pub(crate) fn write(out: &mut Vec<u8>, format: AccessLogFormat, line: &Line<'_>) {
    match format {
        AccessLogFormat::Text => text(out, line),
        AccessLogFormat::Json => json(out, line),
    }
    out.push(b'\n');
}

fn start(line: &Line<'_>) -> String {
    let time = line.start.and_then(|start| jiff::Timestamp::try_from(start).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

fn text(out: &mut Vec<u8>, line: &Line<'_>) {
    out.push(b'[');
    out.extend_from_slice(start(line).as_bytes());
    out.extend_from_slice(b"] \"");
    bytes(out, line.method);
    out.push(b' ');
    bytes(out, line.path);
    let _ = write!(out, " {}\" {} ", line.protocol.unwrap_or("-"), line.code);
    words(
        out,
        &[Some(line.flags).filter(|flags| !flags.is_empty()), line.details.or(Some("via_upstream")), line.termination],
    );
    out.push(b'"');
    bytes(out, line.upstream_failure.map(str::as_bytes));
    let _ = write!(out, "\" {} {} {} ", line.bytes_received, line.bytes_sent, line.duration.as_millis());
    match line.upstream_time {
        Some(time) => {
            let _ = write!(out, "{}", time.as_millis());
        }
        None => out.push(b'-'),
    }
    for value in [line.forwarded_for, line.user_agent, line.request_id, line.authority] {
        out.extend_from_slice(b" \"");
        bytes(out, value);
        out.push(b'"');
    }
    out.extend_from_slice(b" \"");
    address(out, line.upstream_host);
    out.extend_from_slice(b"\" ");
    words(out, &[line.upstream_cluster]);
    for value in [line.upstream_local, line.downstream_local, line.downstream_remote] {
        address(out, value);
        out.push(b' ');
    }
    words(out, &[line.server_name, line.route]);
    out.pop();
}

fn words(out: &mut Vec<u8>, values: &[Option<&str>]) {
    for value in values {
        // A value outside quotes must not look like two.
        let plain = value.map(|value| value.replace(' ', "_"));
        bytes(out, plain.as_deref().map(str::as_bytes));
        out.push(b' ');
    }
}

fn address(out: &mut Vec<u8>, value: Option<SocketAddr>) {
    let _ = match value {
        Some(value) => write!(out, "{value}"),
        None => write!(out, "-"),
    };
}

fn bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        out.push(b'-');
        return;
    };
    for byte in &value[..value.len().min(VALUE_BYTES_MAX)] {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            other => {
                let _ = write!(out, "\\x{other:02x}");
            }
        }
    }
}

fn json(out: &mut Vec<u8>, line: &Line<'_>) {
    let mut object = Object { out: String::with_capacity(1024) };
    object.text("start_time", Some(start(line).as_bytes()));
    object.text("route_name", line.route.map(str::as_bytes));
    object.text("method", line.method);
    object.text("path", line.path);
    object.text("protocol", line.protocol.map(str::as_bytes));
    object.number("response_code", u64::from(line.code));
    object.text("response_flags", Some(if line.flags.is_empty() { b"-" } else { line.flags.as_bytes() }));
    object.text("response_code_details", Some(line.details.unwrap_or("via_upstream").as_bytes()));
    object.text("connection_termination_details", line.termination.map(str::as_bytes));
    object.number("bytes_received", line.bytes_received);
    object.number("bytes_sent", line.bytes_sent);
    object.number("duration", millis(line.duration));
    match line.upstream_time {
        Some(time) => object.number("upstream_service_time", millis(time)),
        None => object.text("upstream_service_time", None),
    }
    object.text("x_forwarded_for", line.forwarded_for);
    object.text("user_agent", line.user_agent);
    object.text("request_id", line.request_id);
    object.text("authority", line.authority);
    object.address("upstream_host", line.upstream_host);
    object.text("upstream_cluster", line.upstream_cluster.map(str::as_bytes));
    object.address("upstream_local_address", line.upstream_local);
    object.address("downstream_local_address", line.downstream_local);
    object.address("downstream_remote_address", line.downstream_remote);
    object.text("requested_server_name", line.server_name.map(str::as_bytes));
    object.text("upstream_transport_failure_reason", line.upstream_failure.map(str::as_bytes));
    object.text("reason", line.reason.map(str::as_bytes));
    object.text("responsible", line.responsible.map(str::as_bytes));
    object.text("policy", line.policy.map(str::as_bytes));
    object.text("peer", line.peer.map(str::as_bytes));
    object.number("attempts", u64::from(line.attempts));
    object.out.pop();
    object.out.push('}');
    out.extend_from_slice(object.out.as_bytes());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Object {
    out: String,
}

impl Object {
    fn key(&mut self, key: &str) {
        if self.out.is_empty() {
            self.out.push('{');
        }
        let _ = write!(self.out, "\"{key}\":");
    }

    fn text(&mut self, key: &str, value: Option<&[u8]>) {
        self.key(key);
        match value {
            Some(value) => {
                let cut = &value[..value.len().min(VALUE_BYTES_MAX)];
                self.out.push('"');
                for character in String::from_utf8_lossy(cut).chars() {
                    match character {
                        '"' | '\\' => self.out.extend(['\\', character]),
                        control if control.is_control() || matches!(control, '\u{2028}' | '\u{2029}') => {
                            let _ = write!(self.out, "\\u{:04x}", control as u32);
                        }
                        other => self.out.push(other),
                    }
                }
                self.out.push_str("\",");
            }
            None => self.out.push_str("null,"),
        }
    }

    fn address(&mut self, key: &str, value: Option<SocketAddr>) {
        match value {
            Some(value) => self.text(key, Some(value.to_string().as_bytes())),
            None => self.text(key, None),
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        let _ = write!(self.out, "{value},");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            start: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123)),
            method: Some(b"GET"),
            path: Some(b"/reviews/0"),
            protocol: Some("HTTP/1.1"),
            code: 200,
            bytes_sent: 295,
            duration: Duration::from_millis(7),
            upstream_time: Some(Duration::from_millis(6)),
            user_agent: Some(b"curl/8"),
            authority: Some(b"reviews:9080"),
            upstream_host: Some("10.244.0.7:9080".parse().unwrap()),
            upstream_cluster: Some("outbound|9080|v1|reviews.bookinfo.svc.cluster.local"),
            downstream_remote: Some("10.244.0.6:40000".parse().unwrap()),
            route: Some("default"),
            ..Line::default()
        }
    }

    fn written(format: AccessLogFormat, line: &Line<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, format, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_istios_default() {
        assert_eq!(
            written(AccessLogFormat::Text, &line()),
            "[2026-09-21T14:13:20.123Z] \"GET /reviews/0 HTTP/1.1\" 200 - via_upstream - \"-\" 0 295 7 6 \"-\" \"curl/8\" \
             \"-\" \"reviews:9080\" \"10.244.0.7:9080\" outbound|9080|v1|reviews.bookinfo.svc.cluster.local - - \
             10.244.0.6:40000 - default\n"
        );
    }

    #[test]
    fn nobody_writes_a_line_of_their_own() {
        let hostile = Line { path: Some(b"/a\"\n[fake] \x1b[31m"), server_name: Some("a b\nc"), ..line() };
        let text = written(AccessLogFormat::Text, &hostile);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.contains(r#""GET /a\"\x0a[fake] \x1b[31m HTTP/1.1""#), "{text}");
        let json = written(AccessLogFormat::Json, &hostile);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["path"], "/a\"\n[fake] \u{1b}[31m");
        assert_eq!(json.matches('\n').count(), 1);
    }

    #[test]
    fn json_has_istios_keys_and_ours() {
        let value: serde_json::Value = serde_json::from_str(&written(AccessLogFormat::Json, &line())).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 24 + 5);
        assert_eq!((&value["response_code"], &value["reason"]), (&200.into(), &serde_json::Value::Null));
    }
}
