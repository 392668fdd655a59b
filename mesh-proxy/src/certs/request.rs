//! One request for a certificate: token, key, signing request, answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_api::limits::CERTIFICATE_MESSAGE_BYTES_MAX;
use mesh_api::proto::istio::auth::IstioCertificateRequest;
use mesh_api::proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_tls::error::CertificateError;
use mesh_tls::key::WorkloadKey;
use mesh_tls::{Credentials, WorkloadCertificate};
use tonic::metadata::MetadataValue;
use zeroize::Zeroizing;

use super::roots;
use crate::bootstrap::Bootstrap;
use crate::control_plane::{ControlError, ControlPlane};

/// How long the control plane may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest token read, in bytes.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The roots cannot be read.
    #[error("{0}")]
    Roots(String),
    /// The token cannot be read.
    #[error("the service account's token {}: {reason}", .path.display())]
    Token {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The control plane cannot be reached, or refused.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No answer in time.
    #[error("the control plane did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    /// What it answered cannot be used.
    #[error("the certificate that the control plane issued cannot be used: {0}")]
    Answer(#[from] CertificateError),
    /// It is somebody else's.
    #[error("the control plane issued a certificate for {actual}, but this workload is {expected}")]
    OtherIdentity {
        /// Whose it is.
        actual: String,
        /// Who we are.
        expected: String,
    },
    /// It is not valid now.
    #[error(
        "the certificate that the control plane issued is not valid now; do the clocks of this node and of the control plane agree?"
    )]
    NotNow,
}

/// Asks for a certificate with a new key.
pub(super) async fn certificate(
    bootstrap: &Bootstrap,
    credentials: &Credentials,
    control: &ControlPlane,
    validity: Duration,
) -> Result<WorkloadCertificate, RequestError> {
    roots::refresh(&bootstrap.paths.roots, credentials).map_err(RequestError::Roots)?;
    let token = token(&bootstrap.paths.token)?;
    let key = Arc::new(WorkloadKey::generate()?);
    let csr = key.signing_request(&bootstrap.identity)?;
    let mut request = tonic::Request::new(IstioCertificateRequest {
        csr,
        validity_duration: i64::try_from(validity.as_secs()).unwrap_or(i64::MAX),
    });
    request.metadata_mut().insert("authorization", token);
    let answer = async {
        let channel = control.connect().await?;
        let mut client =
            IstioCertificateServiceClient::new(channel).max_decoding_message_size(CERTIFICATE_MESSAGE_BYTES_MAX);
        Ok::<_, ControlError>(client.create_certificate(request).await?.into_inner())
    };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| RequestError::TimedOut)??;
    let chain = mesh_tls::pem::certificates(answer.cert_chain.concat().as_bytes()).map_err(CertificateError::from)?;
    let certificate = WorkloadCertificate::new(chain, key)?;
    if *certificate.identity() != bootstrap.identity {
        return Err(RequestError::OtherIdentity {
            actual: certificate.identity().to_string(),
            expected: bootstrap.identity.to_string(),
        });
    }
    if !certificate.is_valid_at(SystemTime::now()) {
        return Err(RequestError::NotNow);
    }
    Ok(certificate)
}

/// The token, as the value of `authorization`. Read each time: the kubelet renews it.
fn token(path: &std::path::Path) -> Result<MetadataValue<tonic::metadata::Ascii>, RequestError> {
    let failed = |reason: String| RequestError::Token { path: path.to_owned(), reason };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?);
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(failed("it is empty or too large".to_owned()));
    }
    let value = Zeroizing::new(format!("Bearer {token}"));
    let mut value = MetadataValue::try_from(value.as_str()).map_err(|_| failed("it is not a token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
