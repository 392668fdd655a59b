//! `RouteTable` and its rules.

use mesh_core::config::{HttpAction, RouteTable};

use super::{Field, message, message_fields, sum};
use crate::proto::mesh::v1 as wire;
use crate::{Invalid, Wire};

message!(RouteTable { name, hosts, origin, implicit, http, tls, tcp } check check_l4);
message!(HttpRule { name, matches, action, rewrite, headers, timeout, retry, fault });
message!(HttpMatch {
    name,
    path,
    ignore_case,
    method,
    authority,
    scheme,
    headers,
    query,
    port,
    source_labels,
    unsupported,
});
message!(WeightedDestination { destination, weight, headers });
message!(Destination { service, subset, port });
message!(HeaderEdits { request_set, request_add, request_remove, response_set, response_add, response_remove });
message!(Rewrite { uri, uri_regex, authority });
message!(Redirect { uri, prefix, authority, scheme, port, status } check |redirect| status(redirect.status));
sum!(RedirectPort in redirect_port { Number; ProtocolDefault, Request });
message!(DirectResponse { status, body } check |direct| status(direct.status));
message!(RetryPolicy { attempts, per_try_timeout, on, backoff });
message!(RetryOn { server_error, gateway_error, reset, connect_failure, retriable_4xx, statuses, grpc });
message!(Fault { delay, abort });
message!(Delay { duration, percent });
message!(Abort { status, grpc, percent } check |abort| status(abort.status));
message!(TlsRule { matches, destinations });
message!(TcpRule { matches, destinations });
message!(L4Match { sni, destination_subnets, port, source_labels, unsupported });
message_fields!(HttpAction);

/// What a proxy may answer with: Istio's own range, 200 to 599.
fn status(status: u16) -> Result<(), Invalid> {
    match status {
        200..=599 => Ok(()),
        _ => Err(Invalid::new(format!("{status} is no status to answer with")).within("status")),
    }
}

/// A rule that routes to nothing would have to fall through; the compiler never makes one.
fn check_l4(table: &RouteTable) -> Result<(), Invalid> {
    let empty = |name: &str, index: usize| Invalid::new("is empty").within(format!("{name}[{index}].destinations"));
    if let Some(index) = table.tls.iter().position(|rule| rule.destinations.is_empty()) {
        return Err(empty("tls", index));
    }
    if let Some(index) = table.tcp.iter().position(|rule| rule.destinations.is_empty()) {
        return Err(empty("tcp", index));
    }
    Ok(())
}

impl Wire for HttpAction {
    type Proto = wire::HttpAction;

    fn to_wire(&self) -> Self::Proto {
        use wire::http_action::Kind;
        let kind = match self {
            Self::Route(destinations) => Kind::Route(wire::WeightedDestinations { destinations: destinations.put() }),
            Self::Redirect(redirect) => Kind::Redirect(redirect.put()),
            Self::Direct(direct) => Kind::Direct(direct.put()),
            Self::Invalid(why) => Kind::Invalid(why.put()),
        };
        Self::Proto { kind: Some(kind) }
    }

    fn from_wire(proto: Self::Proto) -> Result<Self, Invalid> {
        use wire::http_action::Kind;
        match proto.kind {
            Some(Kind::Route(wire::WeightedDestinations { destinations })) => {
                if destinations.is_empty() {
                    return Err(Invalid::new("is empty").within("destinations"));
                }
                Field::take(destinations).map(Self::Route).map_err(|error| error.within("destinations"))
            }
            Some(Kind::Redirect(redirect)) => Field::take(redirect).map(Self::Redirect),
            Some(Kind::Direct(direct)) => Field::take(direct).map(Self::Direct),
            Some(Kind::Invalid(why)) => Field::take(why).map(Self::Invalid),
            None => Err(Invalid::new("is no HttpAction")),
        }
    }
}

impl Field<wire::HeaderValue> for (String, String) {
    fn put(&self) -> wire::HeaderValue {
        wire::HeaderValue { name: self.0.put(), value: self.1.put() }
    }

    fn take(wire: wire::HeaderValue) -> Result<Self, Invalid> {
        Ok((Field::take(wire.name)?, Field::take(wire.value)?))
    }
}

impl Field<wire::RegexRewrite> for (String, String) {
    fn put(&self) -> wire::RegexRewrite {
        wire::RegexRewrite { pattern: self.0.put(), replacement: self.1.put() }
    }

    fn take(wire: wire::RegexRewrite) -> Result<Self, Invalid> {
        Ok((Field::take(wire.pattern)?, Field::take(wire.replacement)?))
    }
}
