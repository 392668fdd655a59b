//! HTTP rules: what happens to a request.

use std::time::Duration;

use base64::Engine as _;
use mesh_core::config::{
    Abort, Delay, DirectResponse, Fault, HttpAction, HttpRule, Percent, Redirect, RedirectPort, Rewrite,
    WeightedDestination,
};
use mesh_core::matching::REGEX_BYTES_MAX;
use mesh_crd::networking::{
    self, BodySpecifier, DerivePort, FaultAbortError, FaultDelayKind, HttpRedirect, HttpRoute, HttpRouteDestination,
};

use super::headers::{self, edits};
use super::{Rules, check_part_regex, shares};
use crate::problem::{Code, Problems};

/// The largest body of a direct response, in bytes.
const DIRECT_BODY_BYTES_MAX: usize = 1 << 20;
/// Parts per million in one percent.
const PER_PERCENT: f64 = 10_000.0;

impl Rules<'_, '_> {
    /// One rule; none where it is not for the view's clients.
    pub(super) fn http_rule(&self, index: usize, rule: &HttpRoute, problems: &mut Problems) -> Option<HttpRule> {
        let at = format!("spec.http[{index}]");
        let matches = self.http_matches(&rule.match_, &at, problems)?;
        unbuilt_parts(rule, &at, problems);
        let mut rewrite = Rewrite::default();
        let headers = edits(rule.headers.as_ref(), &format!("{at}.headers"), &mut rewrite, problems);
        let action = self
            .action(rule, &at, &mut rewrite, problems)
            .and_then(|action| fault(rule, &at).map(|fault| (action, fault)))
            .unwrap_or_else(|why| {
                // Unread fields are reported once, with all the object's issues.
                if self.unread_beside_matches(&at).is_none() {
                    let message = format!("{why}; requests that match are answered with 500");
                    problems.error(Code::InvalidValue, &at, message, "correct the rule");
                }
                (HttpAction::Invalid(why), None)
            });
        let (action, fault) = action;
        Some(HttpRule {
            name: if rule.name.is_empty() { index.to_string() } else { rule.name.clone() },
            matches,
            action,
            rewrite: (rewrite != Rewrite::default()).then_some(rewrite),
            headers,
            timeout: rule.timeout.filter(|timeout| *timeout > Duration::ZERO),
            retry: self.retry(rule.retries.as_ref(), &format!("{at}.retries"), problems),
            fault,
        })
    }

    /// What the rule does, or why that cannot be said.
    fn action(
        &self,
        rule: &HttpRoute,
        at: &str,
        rewrite: &mut Rewrite,
        problems: &mut Problems,
    ) -> Result<HttpAction, String> {
        if let Some(unread) = self.unread_beside_matches(at) {
            return Err(unread);
        }
        if rule.delegate.is_some() {
            return Err("delegates are not built".to_owned());
        }
        let kinds = [!rule.route.is_empty(), rule.redirect.is_some(), rule.direct_response.is_some()];
        match kinds.iter().filter(|set| **set).count() {
            0 => return Err("the rule has no route, redirect or directResponse".to_owned()),
            1 => {}
            _ => return Err("only one of route, redirect and directResponse may be set".to_owned()),
        }
        if let Some(redirect) = &rule.redirect {
            return redirect_action(redirect);
        }
        if let Some(direct) = &rule.direct_response {
            return direct_action(direct);
        }
        if let Some(written) = &rule.rewrite {
            *rewrite = self.rewrite_of(written, std::mem::take(rewrite))?;
        }
        self.route(&rule.route, at, problems).map(HttpAction::Route)
    }

    fn route(
        &self,
        route: &[HttpRouteDestination],
        at: &str,
        problems: &mut Problems,
    ) -> Result<Vec<WeightedDestination>, String> {
        let weights: Vec<_> = route.iter().map(|to| to.weight).collect();
        let mut out = Vec::new();
        for (index, weight) in shares(&weights)? {
            let to = &route[index];
            let destination = self.destination(to.destination.as_ref())?;
            let field = format!("{at}.route[{index}].headers");
            let mut rewrite = Rewrite::default();
            let headers = edits(to.headers.as_ref(), &field, &mut rewrite, problems);
            if rewrite.authority.is_some() {
                problems.unsupported(&field, "Host cannot be set for one destination only and is left as it is");
            }
            out.push(WeightedDestination { destination, weight, headers });
        }
        Ok(out)
    }

    fn rewrite_of(&self, written: &networking::HttpRewrite, mut rewrite: Rewrite) -> Result<Rewrite, String> {
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        if let Some(regex) = &written.uri_regex_rewrite {
            if !written.uri.is_empty() {
                return Err("only one of rewrite.uri and rewrite.uriRegexRewrite may be set".to_owned());
            }
            self.check_regex(check_part_regex, &regex.match_)?;
            if regex.rewrite.len() > REGEX_BYTES_MAX {
                return Err(format!("rewrite.uriRegexRewrite.rewrite is longer than {REGEX_BYTES_MAX} bytes"));
            }
            if !headers::is_value(&regex.rewrite) || regex.rewrite.contains(' ') {
                return Err("rewrite.uriRegexRewrite.rewrite has characters that a path cannot have".to_owned());
            }
            rewrite.uri_regex = Some((regex.match_.clone(), regex.rewrite.clone()));
        }
        rewrite.uri = filled(&written.uri);
        rewrite.authority = filled(&written.authority).or(rewrite.authority);
        if rewrite.authority.as_deref().is_some_and(|host| !headers::is_value(host)) {
            return Err("rewrite.authority has characters that a header cannot have".to_owned());
        }
        if rewrite.uri.as_deref().is_some_and(|uri| !headers::is_value(uri) || uri.contains(' ')) {
            return Err("rewrite.uri has characters that a path cannot have".to_owned());
        }
        Ok(rewrite)
    }
}

/// Reports the parts of a rule that are not built and whose absence is safe.
fn unbuilt_parts(rule: &HttpRoute, at: &str, problems: &mut Problems) {
    let mirrors = rule.mirror.is_some() || !rule.mirrors.is_empty();
    if mirrors || rule.mirror_percent.is_some() || rule.mirror_percentage.is_some() {
        problems.unsupported(&format!("{at}.mirror"), "requests are routed, but no copies are sent");
    }
    if rule.cors_policy.is_some() {
        let effect = "preflights go to the application, and no cross-origin headers are added";
        problems.unsupported(&format!("{at}.corsPolicy"), effect);
    }
    if let Some(retries) = &rule.retries {
        if retries.retry_remote_localities.is_some() {
            let field = format!("{at}.retries.retryRemoteLocalities");
            problems.unsupported(&field, "a retry goes where balancing sends it");
        }
        if retries.retry_ignore_previous_hosts.is_some() {
            let field = format!("{at}.retries.retryIgnorePreviousHosts");
            problems.unsupported(&field, "a retry always prefers an endpoint that was not tried");
        }
    }
}

fn redirect_action(redirect: &HttpRedirect) -> Result<HttpAction, String> {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let status = match redirect.redirect_code {
        0 | 301 => 301,
        302 => 302,
        303 => 303,
        307 => 307,
        308 => 308,
        other => return Err(format!("a redirect cannot have the status {other}")),
    };
    let parts = [&redirect.uri, &redirect.prefix_rewrite, &redirect.authority, &redirect.scheme];
    if parts.iter().any(|part| !headers::is_value(part) || part.contains(' ')) {
        return Err("the redirect has characters that a location cannot have".to_owned());
    }
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        return Err("only one of redirect.uri and redirect.prefixRewrite may be set".to_owned());
    }
    let port = match &redirect.redirect_port {
        None => None,
        Some(networking::RedirectPort::Port(port)) => {
            let number = u16::try_from(*port).ok().filter(|port| *port != 0);
            Some(RedirectPort::Number(number.ok_or_else(|| format!("{port} is no port number"))?))
        }
        Some(networking::RedirectPort::DerivePort(DerivePort::FromProtocolDefault)) => {
            Some(RedirectPort::ProtocolDefault)
        }
        Some(networking::RedirectPort::DerivePort(DerivePort::FromRequestPort)) => Some(RedirectPort::Request),
    };
    Ok(HttpAction::Redirect(Redirect {
        uri: filled(&redirect.uri),
        prefix: filled(&redirect.prefix_rewrite),
        authority: filled(&redirect.authority),
        scheme: filled(&redirect.scheme),
        port,
        status,
    }))
}

fn direct_action(direct: &networking::HttpDirectResponse) -> Result<HttpAction, String> {
    let status = u16::try_from(direct.status).ok().filter(|status| (200..600).contains(status));
    let status = status.ok_or_else(|| format!("a direct response cannot have the status {}", direct.status))?;
    let body = match direct.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        None => Vec::new(),
        Some(BodySpecifier::Text(text)) => text.clone().into_bytes(),
        Some(BodySpecifier::Bytes(text)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            decoded.map_err(|_| "directResponse.body.bytes is not base64".to_owned())?
        }
    };
    if body.len() > DIRECT_BODY_BYTES_MAX {
        return Err(format!("the body of the direct response is larger than {DIRECT_BODY_BYTES_MAX} bytes"));
    }
    Ok(HttpAction::Direct(DirectResponse { status, body }))
}

/// The faults of a rule, or why they cannot be injected as written.
fn fault(rule: &HttpRoute, at: &str) -> Result<Option<Fault>, String> {
    let Some(written) = &rule.fault else { return Ok(None) };
    let mut fault = Fault::default();
    if let Some(delay) = &written.delay {
        let duration = match &delay.kind {
            Some(FaultDelayKind::Fixed(duration)) => *duration,
            Some(FaultDelayKind::Exponential(_)) => {
                return Err(format!("{at}.fault.delay.exponentialDelay is not built"));
            }
            None => return Err(format!("{at}.fault.delay has no fixedDelay")),
        };
        let older = delay.percent.map(f64::from);
        let percent = delay.percentage.as_ref().map(|percent| percent.value).or(older);
        fault.delay = Some(Delay { duration, percent: share(percent)? });
    }
    if let Some(abort) = &written.abort {
        let (status, grpc) = match &abort.error {
            Some(FaultAbortError::HttpStatus(status)) => {
                let status = u16::try_from(*status).ok().filter(|status| (200..600).contains(status));
                (status.ok_or(format!("{at}.fault.abort.httpStatus is no HTTP status"))?, None)
            }
            Some(FaultAbortError::GrpcStatus(name)) => {
                let code = grpc_code(name).ok_or(format!("{at}.fault.abort.grpcStatus {name:?} is no gRPC status"))?;
                (200, Some(code))
            }
            Some(FaultAbortError::Http2Error(_)) => return Err(format!("{at}.fault.abort.http2Error is not built")),
            None => return Err(format!("{at}.fault.abort has no httpStatus or grpcStatus")),
        };
        let percent = abort.percentage.as_ref().map(|percent| percent.value);
        fault.abort = Some(Abort { status, grpc, percent: share(percent)? });
    }
    Ok(Some(fault))
}

/// A percentage as a share; absent means none.
fn share(percent: Option<f64>) -> Result<Percent, String> {
    let percent = percent.unwrap_or(0.0);
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!("{percent} is no percentage from 0 to 100"));
    }
    Ok(Percent((percent * PER_PERCENT).round() as u32))
}

/// gRPC's status codes by name, also by number.
fn grpc_code(name: &str) -> Option<u8> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let by_name = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
    by_name.or_else(|| name.parse().ok().filter(|code| *code < NAMES.len())).and_then(|code| u8::try_from(code).ok())
}
