//! ES256 tokens, shaped like Kubernetes' projected ones, verified by a configured set of public keys.
//!
//! The algorithm is the key's, never the token's. The file of keys is read again when a token names a key that is not
//! known (at most once a second) and otherwise every half minute, so that keys can be rotated without a restart.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use mesh_core::identity::{SpiffeId, TrustDomain};
use serde::Deserialize;

use super::{Authenticator, Caller, Evidence, Method, Refused, Verdict};

/// The audience that a token for the mesh must be made for.
const AUDIENCE: &str = mesh_crd::names::TOKEN_AUDIENCE;
/// Tolerated difference between clocks, in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// How often the file of keys is read again for a key that is not known, at most.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// After this time it is read again in any case: a key may have been taken out.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Longest file of keys, in bytes, and most keys in it.
const KEYS_BYTES_MAX: u64 = 256 * 1024;
const KEYS_MAX: usize = 64;

/// What tokens are checked against.
pub(crate) struct TokenSettings {
    /// File with a JSON Web Key Set.
    pub(crate) keys: PathBuf,
    /// The issuer that tokens must name; `None` accepts any that the keys' owner signs for.
    pub(crate) issuer: Option<String>,
    /// The trust domain of the identities that tokens give.
    pub(crate) trust_domain: TrustDomain,
}

/// Accepts tokens that one of the configured keys signed.
pub(crate) struct TokenKeys {
    settings: TokenSettings,
    keys: ArcSwap<HashMap<String, DecodingKey>>,
    reloaded: Mutex<Instant>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(rename = "kubernetes.io", default)]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: Option<String>,
    pod: Option<Named>,
    serviceaccount: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
    uid: Option<String>,
}

impl TokenKeys {
    /// Reads the keys.
    ///
    /// # Errors
    /// A file that cannot be read or holds no usable key.
    pub(crate) fn load(settings: TokenSettings) -> anyhow::Result<Self> {
        let keys = read_keys(&settings.keys)?;
        Ok(Self { settings, keys: ArcSwap::from_pointee(keys), reloaded: Mutex::new(Instant::now()) })
    }

    fn judge(&self, token: &str, evidence: &Evidence<'_>) -> Result<Caller, Refused> {
        let header = decode_header(token).map_err(|_| Refused("the token is not a JSON Web Token".to_owned()))?;
        let kid = header.kid.unwrap_or_default();
        let key = self.key(&kid).ok_or_else(|| Refused(format!("the token's key {kid:?} is not known here")))?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub", "iss"]);
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
        }
        let claims = decode::<Claims>(token, &key, &validation)
            .map_err(|error| Refused(format!("the token is not accepted: {error}")))?
            .claims;
        self.caller(claims, evidence)
    }

    fn caller(&self, claims: Claims, evidence: &Evidence<'_>) -> Result<Caller, Refused> {
        let subject = claims.sub.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let Some((namespace, account)) = subject else {
            return Err(Refused("the token's subject is not a service account".to_owned()));
        };
        let bound = claims.kubernetes.as_ref();
        let other = |claim: Option<&String>, own: &str| claim.is_some_and(|claim| claim != own);
        let claimed_account = bound.and_then(|claims| claims.serviceaccount.as_ref());
        if other(bound.and_then(|claims| claims.namespace.as_ref()), namespace)
            || other(claimed_account.and_then(|named| named.name.as_ref()), account)
        {
            return Err(Refused("the token's claims contradict its subject".to_owned()));
        }
        let identity = SpiffeId::new(&self.settings.trust_domain, namespace, account)
            .map_err(|error| Refused(format!("the token's subject makes no identity: {error}")))?;
        let pod_uid = bound.and_then(|claims| claims.pod.as_ref()).and_then(|pod| pod.uid.as_deref()).map(Arc::from);
        // What a hostile issuer writes there must not overflow.
        let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp)).unwrap_or(evidence.now);
        Ok(Caller { identity, pod_uid, expires, method: Method::Token, peer: evidence.connection.peer })
    }

    fn key(&self, kid: &str) -> Option<DecodingKey> {
        let known = self.keys.load().get(kid).cloned();
        let pause = if known.is_some() { REFRESH_INTERVAL } else { RELOAD_INTERVAL };
        {
            let mut reloaded = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
            if reloaded.elapsed() < pause {
                return known;
            }
            *reloaded = Instant::now();
        }
        match read_keys(&self.settings.keys) {
            Ok(keys) => self.keys.store(Arc::new(keys)),
            Err(error) => {
                tracing::warn!(%error, "the token keys cannot be read; the last ones stay: repair --token-keys");
            }
        }
        self.keys.load().get(kid).cloned()
    }
}

impl Authenticator for TokenKeys {
    fn authenticate<'a>(&'a self, evidence: &'a Evidence<'a>) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        Box::pin(ready(evidence.token.map(|token| self.judge(token, evidence))))
    }
}

/// Only P-256 keys for ES256 count; others in the set are passed over.
fn read_keys(path: &Path) -> anyhow::Result<HashMap<String, DecodingKey>> {
    let name = path.display();
    let size = std::fs::metadata(path).map_err(|error| anyhow::anyhow!("{name}: {error}"))?.len();
    anyhow::ensure!(size <= KEYS_BYTES_MAX, "{name}: larger than {KEYS_BYTES_MAX} bytes");
    let text = std::fs::read(path).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    let set: JwkSet = serde_json::from_slice(&text).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    let mut keys = HashMap::new();
    for jwk in set.keys.iter().take(KEYS_MAX) {
        let p256 = matches!(&jwk.algorithm, AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256);
        if p256 {
            let key = DecodingKey::from_jwk(jwk).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            keys.insert(jwk.common.key_id.clone().unwrap_or_default(), key);
        }
    }
    anyhow::ensure!(!keys.is_empty(), "{name}: holds no P-256 key for ES256");
    Ok(keys)
}
