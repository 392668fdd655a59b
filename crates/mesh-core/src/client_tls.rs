//! TLS towards an endpoint: what is spoken, and who must answer.
//!
//! An endpoint that is meshed is never spoken to in plaintext, unless somebody wrote so (DestinationRule DISABLE, or
//! PeerAuthentication DISABLE for the port). What is asked for and cannot be done is refused, never done in another form.

use crate::config::{ClientTls, Endpoint};
use crate::identity::SpiffeId;
use crate::reason::Reason;

/// What to speak to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speak<'a> {
    /// No TLS.
    Plaintext,
    /// The mesh's mutual TLS. The server must prove exactly one of these identities.
    Mesh {
        /// The endpoint's own.
        identity: Option<&'a SpiffeId>,
        /// Others that are accepted (`subjectAltNames`).
        others: &'a [String],
        /// SNI to send; none: [`mesh_sni`].
        sni: Option<&'a str>,
    },
    /// Ordinary TLS to an external server.
    Simple {
        /// SNI to send.
        sni: &'a str,
        /// Names of which the certificate must have one; empty: the SNI.
        names: &'a [String],
        /// The author switched verification off.
        insecure: bool,
    },
    /// Do not connect.
    Refused(Reason),
}

/// Decides what to speak to an endpoint's own `port`. `host` is the service's; `external` says that it lies outside of the
/// mesh ([`crate::config::Service::external`]).
#[must_use]
pub fn speak<'a>(tls: &'a ClientTls, endpoint: &'a Endpoint, port: u16, host: &'a str, external: bool) -> Speak<'a> {
    match tls {
        ClientTls::Auto if external || !is_meshed(endpoint, port) => Speak::Plaintext,
        ClientTls::Auto => mesh(endpoint, &[], None),
        ClientTls::Disable => Speak::Plaintext,
        ClientTls::Mutual { subject_alt_names, sni } => mesh(endpoint, subject_alt_names, sni.as_deref()),
        ClientTls::Simple { sni, subject_alt_names, insecure_skip_verify } => Speak::Simple {
            sni: sni.as_deref().filter(|sni| !sni.is_empty()).unwrap_or(host),
            names: subject_alt_names,
            insecure: *insecure_skip_verify,
        },
        ClientTls::Unsupported(_) => Speak::Refused(Reason::UnsupportedTls),
    }
}

/// Whether an endpoint's port takes the mesh's TLS.
#[must_use]
pub fn is_meshed(endpoint: &Endpoint, port: u16) -> bool {
    endpoint.mesh_tls && !endpoint.plaintext_ports.contains(&port)
}

/// Without a name that the server must have, a handshake would prove nothing.
fn mesh<'a>(endpoint: &'a Endpoint, others: &'a [String], sni: Option<&'a str>) -> Speak<'a> {
    match (&endpoint.identity, others) {
        (None, []) => Speak::Refused(Reason::IdentityUnknown),
        (identity, others) => Speak::Mesh { identity: identity.as_ref(), others, sni },
    }
}

/// The SNI of mesh TLS to a service's port, as Istio writes it. Made once per configuration, not per connection.
#[must_use]
pub fn mesh_sni(port: u16, subset: Option<&str>, host: &str) -> String {
    format!("outbound_.{port}_.{}_.{host}", subset.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Health, Locality, ProxyKind, Workload};

    fn endpoint(mesh_tls: bool, identity: bool) -> Endpoint {
        Endpoint {
            uid: "u".into(),
            addresses: vec![[10, 0, 0, 1].into()],
            hostname: None,
            network: String::new(),
            locality: Locality::default(),
            identity: identity.then(|| "spiffe://cluster.local/ns/a/sa/b".parse().unwrap()),
            labels: BTreeMap::new(),
            ports: BTreeMap::new(),
            health: Health::Healthy,
            weight: 1,
            proxy: ProxyKind::Mesh,
            mesh_tls,
            plaintext_ports: vec![81],
            workload: Workload::default(),
        }
    }

    #[test]
    fn a_meshed_endpoint_is_never_spoken_to_in_plaintext_unless_written_so() {
        let (meshed, nameless, plain) = (endpoint(true, true), endpoint(true, false), endpoint(false, true));
        let mesh = Speak::Mesh { identity: meshed.identity.as_ref(), others: &[], sni: None };
        assert_eq!(speak(&ClientTls::Auto, &meshed, 80, "a", false), mesh);
        assert_eq!(speak(&ClientTls::Auto, &nameless, 80, "a", false), Speak::Refused(Reason::IdentityUnknown));
        assert_eq!(speak(&ClientTls::Auto, &plain, 80, "a", false), Speak::Plaintext);
        assert_eq!(speak(&ClientTls::Auto, &meshed, 81, "a", false), Speak::Plaintext, "the port is DISABLE");
        assert_eq!(speak(&ClientTls::Auto, &meshed, 80, "a", true), Speak::Plaintext, "outside of the mesh");
        assert_eq!(speak(&ClientTls::Disable, &meshed, 80, "a", false), Speak::Plaintext);
        let unsupported = ClientTls::Unsupported("MUTUAL".into());
        assert_eq!(speak(&unsupported, &meshed, 80, "a", true), Speak::Refused(Reason::UnsupportedTls));
    }

    #[test]
    fn what_is_asked_for_is_done_or_refused() {
        let (nameless, plain) = (endpoint(true, false), endpoint(false, true));
        let others = vec!["spiffe://x/ns/a/sa/b".to_owned()];
        let mutual = |subject_alt_names: &[String]| ClientTls::Mutual {
            subject_alt_names: subject_alt_names.to_vec(),
            sni: Some("s".into()),
        };
        let (with, without) = (mutual(&others), mutual(&[]));
        let mesh = Speak::Mesh { identity: None, others: &others, sni: Some("s") };
        assert_eq!(speak(&with, &nameless, 81, "a", false), mesh);
        assert_eq!(speak(&without, &nameless, 80, "a", false), Speak::Refused(Reason::IdentityUnknown));
        assert!(matches!(speak(&without, &plain, 80, "a", false), Speak::Mesh { identity: Some(_), .. }));
        for (sni, expected) in [(None, "host"), (Some(String::new()), "host"), (Some("x".to_owned()), "x")] {
            let simple = ClientTls::Simple { sni, subject_alt_names: vec![], insecure_skip_verify: false };
            let spoken = Speak::Simple { sni: expected, names: &[], insecure: false };
            assert_eq!(speak(&simple, &plain, 443, "host", true), spoken);
        }
        assert_eq!(mesh_sni(80, Some("v1"), "a.b"), "outbound_.80_.v1_.a.b");
        assert_eq!(mesh_sni(80, None, "a.b"), "outbound_.80_._.a.b");
    }
}
