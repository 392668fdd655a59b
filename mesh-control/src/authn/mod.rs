//! Who calls: the one place where a peer of port 15012 gets an identity.
//!
//! A caller proves itself by its workload certificate (verified in the handshake) or by a token in `authorization:
//! Bearer …`. Every way is an [`Authenticator`]; the first that has an opinion decides. Nothing that a caller says about
//! itself in a message (`node.id`, a CSR's names) is evidence.

mod certificate;
mod token;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::identity::SpiffeId;
use tonic::metadata::MetadataMap;

pub(crate) use certificate::ClientCertificate;
pub(crate) use token::{TokenKeys, TokenSettings};

/// Longest token that is read, in bytes; a projected Kubernetes token has about 1,000.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What the peer of a connection showed: the connect info of every request.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Its address.
    pub(crate) peer: Option<IpAddr>,
    /// The identity of its certificate, where it showed one (verified in the handshake), and when that ends.
    pub(crate) certificate: Option<(SpiffeId, SystemTime)>,
}

/// What there is to judge a call by.
pub(crate) struct Evidence<'a> {
    /// The connection.
    pub(crate) connection: &'a Connection,
    /// The bearer token, if one was sent.
    pub(crate) token: Option<&'a str>,
    /// When.
    pub(crate) now: SystemTime,
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Who it is.
    pub(crate) identity: SpiffeId,
    /// The pod that the credential is bound to, where it says so.
    pub(crate) pod_uid: Option<Arc<str>>,
    /// When the credential ends; a stream does not outlive it.
    pub(crate) expires: SystemTime,
    /// How it proved itself.
    pub(crate) method: Method,
    /// From where.
    pub(crate) peer: Option<IpAddr>,
}

/// How a caller proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// By its workload certificate.
    Certificate,
    /// By a token.
    Token,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Token => "token",
        })
    }
}

/// Why a credential was not accepted: a sentence for the caller, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// The answer of an authenticator: a caller, a refusal, or `None`: this is not my kind of evidence.
pub(crate) type Verdict = Option<Result<Caller, Refused>>;

/// One way to prove an identity. Asynchronous because some ask somebody else (TokenReview).
pub(crate) trait Authenticator: Send + Sync {
    /// Judges the evidence.
    fn authenticate<'a>(&'a self, evidence: &'a Evidence<'a>) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;
}

/// All ways that are configured, in order.
#[derive(Clone)]
pub(crate) struct Authn(Arc<[Box<dyn Authenticator>]>);

impl Authn {
    pub(crate) fn new(ways: Vec<Box<dyn Authenticator>>) -> Self {
        Self(ways.into())
    }

    /// Who calls. The first authenticator with an opinion decides; nobody's opinion is a refusal.
    pub(crate) async fn caller(&self, connection: &Connection, metadata: &MetadataMap) -> Result<Caller, Refused> {
        let token = bearer(metadata)?;
        let evidence = Evidence { connection, token, now: SystemTime::now() };
        for way in self.0.iter() {
            if let Some(verdict) = way.authenticate(&evidence).await {
                return verdict;
            }
        }
        Err(Refused(match token {
            Some(_) => "no token keys are configured here (--token-keys), so a token proves nothing".to_owned(),
            None => "neither a client certificate nor a bearer token was shown".to_owned(),
        }))
    }
}

fn bearer(metadata: &MetadataMap) -> Result<Option<&str>, Refused> {
    let mut values = metadata.get_all("authorization").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused("several authorization headers".to_owned()));
    }
    let text = value.to_str().map_err(|_| Refused("the authorization header is not text".to_owned()))?;
    let token =
        text.strip_prefix("Bearer ").ok_or_else(|| Refused("the authorization is not `Bearer …`".to_owned()))?;
    match token.len() <= TOKEN_BYTES_MAX {
        true => Ok(Some(token)),
        false => Err(Refused(format!("the token is longer than {TOKEN_BYTES_MAX} bytes"))),
    }
}
