//! `istio.v1.auth.IstioCertificateService/CreateCertificate`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_api::proto::istio::auth::istio_certificate_service_server::IstioCertificateService;
use mesh_api::proto::istio::auth::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_tls::error::AuthorityError;
use mesh_tls::pem::encode_certificates;
use tonic::{Request, Response, Status};

use super::{Ca, VALIDITY_MAX, VALIDITY_MIN};
use crate::authn::{Authn, Caller, Connection};
use crate::metrics::Metrics;

/// Answers signing requests of authenticated callers.
pub(crate) struct CertificateService {
    pub(crate) ca: Arc<Ca>,
    pub(crate) authn: Authn,
    pub(crate) metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let Some(connection) = request.extensions().get::<Connection>() else {
            return Err(Status::internal("the connection is not described"));
        };
        let peer = connection.peer;
        let caller = match self.authn.caller(connection, request.metadata()).await {
            Ok(caller) => caller,
            Err(refused) => {
                self.metrics.ca_refused.add(1);
                tracing::info!(?peer, reason = %refused, "a certificate is refused: the caller is not authenticated");
                return Err(Status::unauthenticated(refused.to_string()));
            }
        };
        match self.issue(&caller, request.get_ref(), SystemTime::now()) {
            Ok(response) => Ok(Response::new(response)),
            Err(status) => {
                self.metrics.ca_refused.add(1);
                tracing::info!(caller = %caller.identity, ?peer, reason = status.message(), "a certificate is refused");
                Err(status)
            }
        }
    }
}

impl CertificateService {
    pub(super) fn issue(
        &self,
        caller: &Caller,
        request: &IstioCertificateRequest,
        now: SystemTime,
    ) -> Result<IstioCertificateResponse, Status> {
        let authority = self.ca.authority();
        let validity = validity(request.validity_duration);
        let issued = authority.issue(request.csr.as_bytes(), &caller.identity, validity, now).map_err(refusal)?;
        self.ca.remember(&caller.identity, caller.peer, issued.not_after, now);
        self.metrics.ca_issued.add(1);
        tracing::info!(
            caller = %caller.identity, method = %caller.method, peer = ?caller.peer, serial = issued.serial,
            "a certificate is issued"
        );
        // Istio's form: the leaf, the way up, and last the roots.
        let way = issued.chain.iter().chain(authority.bundle().certificates());
        Ok(IstioCertificateResponse { cert_chain: way.map(|one| encode_certificates([one])).collect() })
    }
}

/// The wished seconds within our limits; none (or nonsense) is the longest.
fn validity(seconds: i64) -> Duration {
    match u64::try_from(seconds) {
        Ok(0) | Err(_) => VALIDITY_MAX,
        Ok(seconds) => Duration::from_secs(seconds).clamp(VALIDITY_MIN, VALIDITY_MAX),
    }
}

fn refusal(error: AuthorityError) -> Status {
    match &error {
        AuthorityError::Request(fault) => Status::invalid_argument(fault.to_string()),
        AuthorityError::Expired => {
            tracing::error!("the certificate authority has expired: no workload gets a certificate; replace it");
            Status::failed_precondition(error.to_string())
        }
        AuthorityError::File { .. }
        | AuthorityError::Content { .. }
        | AuthorityError::Broken(_)
        | AuthorityError::Sign(_) => {
            tracing::error!(%error, "signing failed");
            Status::internal("signing failed")
        }
    }
}
