//! The workload certificate that was verified in the handshake.

use std::future::{Future, ready};
use std::pin::Pin;

use super::{Authenticator, Caller, Evidence, Method, Refused, Verdict};

/// Accepts the identity of the connection's client certificate, as long as that is valid: a connection can outlive it.
pub(crate) struct ClientCertificate;

impl Authenticator for ClientCertificate {
    fn authenticate<'a>(&'a self, evidence: &'a Evidence<'a>) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        Box::pin(ready(judge(evidence)))
    }
}

fn judge(evidence: &Evidence<'_>) -> Verdict {
    let (identity, expires) = evidence.connection.certificate.clone()?;
    if expires <= evidence.now {
        return Some(Err(Refused("the client certificate has expired meanwhile; connect again".to_owned())));
    }
    let peer = evidence.connection.peer;
    Some(Ok(Caller { identity, pod_uid: None, expires, method: Method::Certificate, peer }))
}
