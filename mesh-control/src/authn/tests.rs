//! Tokens: what is accepted, and every way of being almost right.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use jsonwebtoken::jwk::JwkSet;
use mesh_core::identity::TrustDomain;
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;

use super::{Authenticator, Authn, Caller, ClientCertificate, Connection, Method, Refused, TokenKeys, TokenSettings};
use crate::testing::{ISSUER, identity, key, sign};

struct Bench {
    authn: Authn,
    signer: jsonwebtoken::EncodingKey,
    folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let (signer, jwk) = key("test");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, serde_json::to_vec(&JwkSet { keys: vec![jwk] }).unwrap()).unwrap();
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let settings = TokenSettings { keys: file, issuer: Some(ISSUER.to_owned()), trust_domain };
    let ways: Vec<Box<dyn Authenticator>> =
        vec![Box::new(ClientCertificate), Box::new(TokenKeys::load(settings).unwrap())];
    Bench { authn: Authn::new(ways), signer, folder }
}

fn claims() -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    json!({"iss": ISSUER, "aud": ["mesh-ca"], "exp": now + 600, "nbf": now, "sub": "system:serviceaccount:shop:web"})
}

fn connection() -> Connection {
    Connection { peer: Some(IpAddr::from([10, 0, 0, 1])), certificate: None }
}

async fn judge(bench: &Bench, header: Option<&str>) -> Result<Caller, Refused> {
    let mut metadata = MetadataMap::new();
    if let Some(header) = header {
        metadata.insert("authorization", header.parse().unwrap());
    }
    bench.authn.caller(&connection(), &metadata).await
}

async fn judge_claims(bench: &Bench, claims: &Value) -> Result<Caller, Refused> {
    judge(bench, Some(&format!("Bearer {}", sign(&bench.signer, claims)))).await
}

#[tokio::test]
async fn a_token_gives_the_identity_of_its_subject() {
    let bench = bench();
    let caller = judge_claims(&bench, &claims()).await.unwrap();
    assert_eq!((caller.identity, caller.method, caller.pod_uid), (identity("shop", "web"), Method::Token, None));
    let mut bound = claims();
    bound["kubernetes.io"] = json!({"namespace": "shop", "pod": {"name": "p", "uid": "u"}});
    assert_eq!(judge_claims(&bench, &bound).await.unwrap().pod_uid.as_deref(), Some("u"));
}

#[tokio::test]
async fn a_token_that_is_almost_right_is_refused() {
    let bench = bench();
    let cases: [(&str, Value); 11] = [
        ("aud", json!(["other"])),
        ("aud", Value::Null),
        ("iss", json!("https://elsewhere")),
        ("iss", Value::Null),
        ("exp", json!(1)),
        ("exp", Value::Null),
        ("exp", json!("soon")),
        ("nbf", json!(u32::MAX)),
        ("sub", json!("system:node:n")),
        ("sub", json!("system:serviceaccount:shop:Web/../x")),
        ("kubernetes.io", json!({"namespace": "other"})),
    ];
    for (field, value) in cases {
        let mut wrong = claims();
        match value {
            Value::Null => drop(wrong.as_object_mut().unwrap().remove(field)),
            value => wrong[field] = value,
        }
        let verdict = judge_claims(&bench, &wrong).await;
        assert!(verdict.is_err(), "{field}: {wrong} gave {verdict:?}");
    }
}

#[tokio::test]
async fn a_token_of_another_key_or_algorithm_is_refused() {
    let bench = bench();
    let (stranger, _) = key("test");
    let forged = format!("Bearer {}", sign(&stranger, &claims()));
    assert!(judge(&bench, Some(&forged)).await.is_err());
    // HS256 with the public key's text as secret, and no signature at all.
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("test".to_owned());
    let secret = std::fs::read(bench.folder.path().join("keys.json")).unwrap();
    let confused = jsonwebtoken::encode(&header, &claims(), &jsonwebtoken::EncodingKey::from_secret(&secret)).unwrap();
    assert!(judge(&bench, Some(&format!("Bearer {confused}"))).await.is_err());
    let signed = sign(&bench.signer, &claims());
    let (head_and_claims, _) = signed.rsplit_once('.').unwrap();
    assert!(judge(&bench, Some(&format!("Bearer {head_and_claims}."))).await.is_err());
    for header in [None, Some("Basic abc"), Some("Bearer "), Some("Bearer a.b.c")] {
        assert!(judge(&bench, header).await.is_err(), "{header:?}");
    }
}

#[tokio::test]
async fn a_new_key_is_found_without_a_restart() {
    let bench = bench();
    let (signer, mut jwk) = key("test");
    jwk.common.key_id = Some("test".to_owned());
    // The same key id with another key: the old one is still in use.
    let token = format!("Bearer {}", sign(&signer, &claims()));
    assert!(judge(&bench, Some(&token)).await.is_err());
    let (second, second_jwk) = key("second");
    let file = bench.folder.path().join("keys.json");
    std::fs::write(file, serde_json::to_vec(&JwkSet { keys: vec![second_jwk] }).unwrap()).unwrap();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some("second".to_owned());
    let token = format!("Bearer {}", jsonwebtoken::encode(&header, &claims(), &second).unwrap());
    assert!(judge(&bench, Some(&token)).await.is_err(), "at most one look a second");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(judge(&bench, Some(&token)).await.is_ok());
}

#[tokio::test]
async fn a_certificate_counts_while_it_is_valid() {
    let bench = bench();
    let with_end = |end| Connection { peer: None, certificate: Some((identity("shop", "web"), end)) };
    let now = SystemTime::now();
    let valid = bench.authn.caller(&with_end(now + Duration::from_secs(5)), &MetadataMap::new()).await.unwrap();
    assert_eq!((valid.identity, valid.method), (identity("shop", "web"), Method::Certificate));
    assert!(bench.authn.caller(&with_end(now - Duration::from_secs(1)), &MetadataMap::new()).await.is_err());
}
