//! A control plane in this process and proxies that talk to it over loopback: the world of the tests at door 2.

mod client;
mod objects;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser as _;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mesh_core::identity::SpiffeId;
use mesh_tls::key::WorkloadKey;
use serde_json::json;
use tempfile::TempDir;

pub(crate) use client::{Client, Stream, said, values, versions};
pub(crate) use objects::{namespace, pod, service, slice};

use crate::app::App;
use crate::args::Args;

/// The issuer of the test's tokens.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// A wait that only a defect reaches.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Folders, keys, and the control plane that uses them.
pub(crate) struct World {
    pub(crate) config: TempDir,
    pub(crate) state: TempDir,
    keys: TempDir,
    signer: EncodingKey,
    pub(crate) app: Option<App>,
}

impl World {
    /// Starts a control plane that reads these files.
    pub(crate) async fn new(files: &[(&str, &str)]) -> Self {
        let (signer, jwk) = key("test");
        let folder = || tempfile::tempdir().unwrap();
        let mut world = Self { config: folder(), state: folder(), keys: folder(), signer, app: None };
        std::fs::write(world.keys.path().join("jwks.json"), serde_json::to_vec(&JwkSet { keys: vec![jwk] }).unwrap())
            .unwrap();
        for (name, content) in files {
            world.write(name, content);
        }
        world.start().await;
        world
    }

    /// Starts it (again) and waits until it is ready.
    pub(crate) async fn start(&mut self) {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let args = Args::parse_from([
            "mesh-control".to_owned(),
            format!("--config-dir={}", text(self.config.path())),
            format!("--state-dir={}", text(self.state.path())),
            format!("--token-keys={}", text(&self.keys.path().join("jwks.json"))),
            format!("--token-issuer={ISSUER}"),
            "--listen=127.0.0.1:0".to_owned(),
            "--monitoring=127.0.0.1:0".to_owned(),
            "--control-api=127.0.0.1:0".to_owned(),
        ]);
        self.app = Some(App::start(args).await.unwrap());
        eventually("ready", async || self.monitoring("/ready").await.0 == 200).await;
    }

    pub(crate) async fn stop(&mut self) {
        self.app.take().unwrap().stop().await;
    }

    /// Replaces a file by rename, as everybody who writes configuration does.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let beside = self.config.path().join(format!(".{name}.new"));
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(beside, self.config.path().join(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.config.path().join(name)).unwrap();
    }

    /// A token as the kubelet would project it.
    pub(crate) fn token(&self, namespace: &str, account: &str) -> String {
        self.token_with(&self.claims(namespace, account))
    }

    pub(crate) fn claims(&self, namespace: &str, account: &str) -> serde_json::Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        json!({
            "iss": ISSUER, "aud": ["mesh-ca"], "iat": now, "nbf": now, "exp": now + 3600,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": "sa"}},
        })
    }

    pub(crate) fn token_with(&self, claims: &serde_json::Value) -> String {
        sign(&self.signer, claims)
    }

    /// A connection with a token.
    pub(crate) async fn client(&self, token: &str) -> Client {
        let root = std::fs::read(self.state.path().join("root-cert.pem")).unwrap();
        Client::connect(self.app.as_ref().unwrap().listen, &root, Some(token), None).await
    }

    /// A connection with a workload certificate.
    pub(crate) async fn certified(&self, chain: Vec<String>, key: Arc<WorkloadKey>) -> Client {
        let root = std::fs::read(self.state.path().join("root-cert.pem")).unwrap();
        let certificate = client::certificate(&chain, key);
        Client::connect(self.app.as_ref().unwrap().listen, &root, None, Some(certificate)).await
    }

    /// The stream of the pod `uid`, authenticated by a token of its account.
    pub(crate) async fn proxy(&self, uid: &str, namespace: &str, account: &str) -> Stream {
        self.client(&self.token(namespace, account)).await.stream(uid).await
    }

    pub(crate) async fn monitoring(&self, path: &str) -> (u16, String) {
        client::get(self.app.as_ref().unwrap().monitoring, path).await
    }

    pub(crate) async fn api(&self, path: &str) -> serde_json::Value {
        let (status, body) = client::get(self.app.as_ref().unwrap().control_api, path).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// A signing key and its public half.
pub(crate) fn key(kid: &str) -> (EncodingKey, Jwk) {
    let key = WorkloadKey::generate().unwrap();
    let signer = EncodingKey::from_ec_pem(key.to_pem().as_bytes()).unwrap();
    let mut jwk = Jwk::from_encoding_key(&signer, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    (signer, jwk)
}

pub(crate) fn sign(signer: &EncodingKey, claims: &serde_json::Value) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("test".to_owned());
    encode(&header, claims, signer).unwrap()
}

pub(crate) fn identity(namespace: &str, account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}").parse().unwrap()
}

/// Waits until `is_so`.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
