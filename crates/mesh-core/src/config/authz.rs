//! Authorization policies as written, with everything that is not built marked as such.
//!
//! A term is three-valued: it holds, it does not, or it is *unknown* (not built here, or not applicable to the traffic).
//! An ALLOW rule with an unknown never matches, a DENY rule treats unknown as matching; `not…` of unknown is unknown.

use ipnet::IpNet;

use super::Origin;

/// One AuthorizationPolicy that selects the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthzPolicy {
    /// Who wrote it.
    pub origin: Origin,
    /// What it does.
    pub action: AuthzAction,
    /// `istio.io/dry-run: "true"`: never enforced, only reported.
    pub dry_run: bool,
    /// One of these must match. None: ALLOW matches nothing (so denies all), DENY has no effect.
    pub rules: Vec<AuthzRule>,
}

/// `spec.action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthzAction {
    /// Allow what matches.
    Allow,
    /// Deny what matches.
    Deny,
    /// Only report.
    Audit,
    /// External authorization: not built, so what it selects is denied.
    Custom,
}

/// One rule: one of `from` and one of `to` and all of `when`. Empty lists hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthzRule {
    /// Sources, OR.
    pub from: Vec<Source>,
    /// Operations, OR.
    pub to: Vec<Operation>,
    /// Conditions, AND.
    pub when: Vec<Condition>,
}

/// `from[].source`: all terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Each a field with its values (OR), perhaps negated.
    pub terms: Vec<Term>,
}

/// `to[].operation`: all terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// Each a field with its values (OR), perhaps negated.
    pub terms: Vec<Term>,
}

/// `when[]`: `values` (OR) must match if any are written, and none of `notValues` may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// At most one term for `values` and one, negated, for `notValues`.
    pub terms: Vec<Term>,
}

/// A field of the request or connection, and what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// The peer's principal, without `spiffe://`.
    Principal {
        /// `notPrincipals`.
        not: bool,
        /// Any of these.
        values: Vec<ValueMatch>,
    },
    /// The peer's namespace.
    Namespace {
        /// `notNamespaces`.
        not: bool,
        /// Any of these.
        values: Vec<ValueMatch>,
    },
    /// The peer's service account, `<namespace>/<name>`, compared whole.
    ServiceAccount {
        /// `notServiceAccounts`.
        not: bool,
        /// Any of these.
        values: Vec<String>,
    },
    /// The peer's trust domain.
    TrustDomain {
        /// `notTrustDomains`.
        not: bool,
        /// Any of these.
        values: Vec<ValueMatch>,
    },
    /// The address of the direct peer.
    SourceIp {
        /// `notIpBlocks`.
        not: bool,
        /// Any of these.
        values: Vec<IpNet>,
    },
    /// The address on which the connection was received.
    DestinationIp {
        /// `notValues`.
        not: bool,
        /// Any of these.
        values: Vec<IpNet>,
    },
    /// The workload's own port (target port).
    DestinationPort {
        /// `notPorts`.
        not: bool,
        /// Any of these.
        values: Vec<u16>,
    },
    /// SNI.
    Sni {
        /// `notValues`.
        not: bool,
        /// Any of these.
        values: Vec<ValueMatch>,
    },
    /// HTTP: the host, without case; a pattern without port matches any port.
    Host {
        /// `notHosts`.
        not: bool,
        /// Any of these.
        values: Vec<ValueMatch>,
    },
    /// HTTP: the method.
    Method {
        /// `notMethods`.
        not: bool,
        /// Any of these.
        values: Vec<ValueMatch>,
    },
    /// HTTP: the normalized path, without query.
    Path {
        /// `notPaths`.
        not: bool,
        /// Any of these.
        values: Vec<ValueMatch>,
    },
    /// HTTP: a header; all values joined with `,`.
    Header {
        /// Lower case.
        name: String,
        /// `notValues`.
        not: bool,
        /// Any of these.
        values: Vec<ValueMatch>,
    },
    /// Not built (`requestPrincipals`, `remoteIpBlocks`, `request.auth.*`, an unknown field, …): unknown, always.
    Unknown {
        /// The field as written.
        field: String,
        /// Whether it only exists for HTTP: on other traffic a DENY rule leaves the term out (istio-api 1.8).
        http_only: bool,
    },
}

/// A value of a policy: `exact`, `prefix*`, `*suffix`, `*`, or a path template with `{*}` and `{**}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueMatch {
    /// Equal.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// Ends with.
    Suffix(String),
    /// There and not empty.
    Present,
    /// A path template, as written; only in [`Term::Path`].
    Template(String),
}
