//! Service account tokens in the shape of Kubernetes' projected ones, signed with a key of this sandbox.
//!
//! mesh-control gets the public half as a JWKS file. The private key exists in the supervisor's memory only; a new
//! supervisor makes a new key, since all its pods are new too.

#![expect(missing_docs, reason = "fields have the names and the meaning of Kubernetes' API")]

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// The issuer that the tokens name; the same as a Kubernetes API server's default.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The life of a token where the pod asks for none, and the shortest that is given, in seconds (as in Kubernetes).
const LIFE_SECONDS: u64 = 3600;
/// See [`LIFE_SECONDS`].
const LIFE_SECONDS_MIN: u64 = 600;

/// Whom a token speaks for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub pod_uid: &'a str,
    pub account: &'a str,
    pub account_uid: &'a str,
}

/// The sandbox's signing key.
pub struct Signer {
    pair: EcdsaKeyPair,
    kid: String,
    random: SystemRandom,
}

impl Signer {
    /// Makes a new key.
    pub fn generate() -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("cannot make a P-256 key")?;
        let point = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let kid = crate::names::stable_uid(&point);
        Ok(Self { pair, kid, random: SystemRandom::new() })
    }

    /// The public key as a JWK set (RFC 7517).
    pub fn jwks(&self) -> String {
        let point = self.pair.public_key().as_ref(); // SEC 1, uncompressed: 4, x, y
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y}]})
            .to_string()
    }

    /// Signs a token for `subject`; returns it with the number of seconds after which it should be renewed (80 % of its
    /// life, as the kubelet does).
    pub fn sign(
        &self,
        subject: Subject<'_>,
        audience: &str,
        asked: Option<u64>,
        now: u64,
    ) -> anyhow::Result<(String, u64)> {
        let life = asked.unwrap_or(LIFE_SECONDS).max(LIFE_SECONDS_MIN);
        let header = json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"});
        let claims = json!({
            "iss": ISSUER,
            "aud": [audience],
            "sub": format!("system:serviceaccount:{}:{}", subject.namespace, subject.account),
            "iat": now,
            "nbf": now,
            "exp": now + life,
            "jti": crate::names::uid(),
            "kubernetes.io": {
                "namespace": subject.namespace,
                "pod": {"name": subject.pod, "uid": subject.pod_uid},
                "serviceaccount": {"name": subject.account, "uid": subject.account_uid},
            },
        });
        let body =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&self.random, body.as_bytes()).context("cannot sign a token")?;
        Ok((format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())), life * 4 / 5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn a_token_verifies_and_names_its_pod() {
        let signer = Signer::generate().unwrap();
        let subject = Subject { namespace: "shop", pod: "p", pod_uid: "u", account: "a", account_uid: "au" };
        let (token, renew) = signer.sign(subject, "mesh-ca", None, 1000).unwrap();
        let (body, signature) = token.rsplit_once('.').unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.pair.public_key().as_ref());
        key.verify(body.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body.split_once('.').unwrap().1).unwrap()).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:shop:a");
        assert_eq!(claims["kubernetes.io"]["pod"]["uid"], "u");
        assert_eq!(claims["exp"], 4600);
        assert_eq!(renew, 2880);
        let jwks: serde_json::Value = serde_json::from_str(&signer.jwks()).unwrap();
        assert_eq!(jwks["keys"][0]["kid"].as_str().unwrap().len(), 36);
    }
}
