//! Who a workload is: SPIFFE identities, parsed once and compared whole.
//!
//! A SPIFFE ID in this mesh is `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>` (Istio's form). Text
//! that is not exactly that is no identity: authorization compares the parts, never substrings.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest SPIFFE ID that is accepted, in bytes (SPIFFE-ID standard, section 2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// A trust domain: the root of trust an identity belongs to, for example `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// The identity of a workload, `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    // Offsets into `text`: the parts are read far more often than the identity is built.
    trust_domain_end: u16,
    namespace_end: u16,
}

/// Why a text is not a SPIFFE ID of this mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Longer than [`SPIFFE_ID_BYTES_MAX`].
    #[error("longer than {SPIFFE_ID_BYTES_MAX} bytes")]
    TooLong,
    /// Does not begin with `spiffe://`.
    #[error("does not begin with spiffe://")]
    Scheme,
    /// The trust domain is empty or has characters other than `a-z 0-9 . - _`.
    #[error("the trust domain is empty or has characters other than a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    /// The path is not `/ns/<namespace>/sa/<service-account>`.
    #[error("the path is not /ns/<namespace>/sa/<service-account>")]
    Path,
}

const SCHEME: &str = "spiffe://";

impl TrustDomain {
    /// Parses a trust domain (SPIFFE-ID standard, section 2.1: lower case letters, digits, `.`, `-`, `_`).
    ///
    /// # Errors
    /// [`IdentityError::TrustDomain`] for anything else, the empty text included.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(fits) {
            return Err(IdentityError::TrustDomain);
        }
        Ok(Self(text.into()))
    }

    /// The trust domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SpiffeId {
    /// Makes the identity of a service account.
    ///
    /// # Errors
    /// [`IdentityError::Path`] where a part is empty or holds characters that a Kubernetes name cannot have.
    pub fn new(trust_domain: &TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The whole identity, `spiffe://` included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The identity without `spiffe://`: the form that `source.principals` of an AuthorizationPolicy compares with.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.text[SCHEME.len()..]
    }

    /// The trust domain's text.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..usize::from(self.trust_domain_end)]
    }

    /// The Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.text[usize::from(self.trust_domain_end) + "/ns/".len()..usize::from(self.namespace_end)]
    }

    /// The Kubernetes service account.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.text[usize::from(self.namespace_end) + "/sa/".len()..]
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(IdentityError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdentityError::Scheme)?;
        let (trust_domain, path) = rest.split_once('/').ok_or(IdentityError::Path)?;
        TrustDomain::parse(trust_domain)?;
        let mut parts = path.split('/');
        let form = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
        let (Some("ns"), Some(namespace), Some("sa"), Some(account), None) = form else {
            return Err(IdentityError::Path);
        };
        if !is_kubernetes_name(namespace) || !is_kubernetes_name(account) {
            return Err(IdentityError::Path);
        }
        // Both offsets fit: the text is at most SPIFFE_ID_BYTES_MAX long.
        let trust_domain_end = (SCHEME.len() + trust_domain.len()) as u16;
        let namespace_end = trust_domain_end + ("/ns/".len() + namespace.len()) as u16;
        Ok(Self { text: text.into(), trust_domain_end, namespace_end })
    }
}

/// DNS-1123 subdomain characters: what a namespace's or service account's name can have.
fn is_kubernetes_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(fits)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_its_three_parts() {
        let id: SpiffeId = "spiffe://cluster.local/ns/bookinfo/sa/reviews".parse().unwrap();
        assert_eq!((id.trust_domain(), id.namespace(), id.service_account()), ("cluster.local", "bookinfo", "reviews"));
        assert_eq!(id.principal(), "cluster.local/ns/bookinfo/sa/reviews");
        let made = SpiffeId::new(&TrustDomain::parse("cluster.local").unwrap(), "bookinfo", "reviews").unwrap();
        assert_eq!(made, id);
    }

    #[test]
    fn what_is_not_exactly_the_form_is_no_identity() {
        for (text, error) in [
            ("https://cluster.local/ns/a/sa/b", IdentityError::Scheme),
            ("spiffe:///ns/a/sa/b", IdentityError::TrustDomain),
            ("spiffe://Cluster.Local/ns/a/sa/b", IdentityError::TrustDomain),
            ("spiffe://td/ns/a/sa/b/c", IdentityError::Path),
            ("spiffe://td/ns/a/sa/", IdentityError::Path),
            ("spiffe://td/ns//sa/b", IdentityError::Path),
            ("spiffe://td/ns/a/sa/b?x=1", IdentityError::Path),
            ("spiffe://td/ns/a/sa/b%2f", IdentityError::Path),
            ("spiffe://td/sa/b/ns/a", IdentityError::Path),
            ("spiffe://td", IdentityError::Path),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(error), "{text}");
        }
    }
}
