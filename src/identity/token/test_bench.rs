//! Keys that sign, a server that hands out their public halves, and a clock that stands still.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::usecase::ports::Clock;

use super::{IssuerSettings, KeyFetcher, KeyPlace, Tokens};

pub(super) const ISSUER: &str = "https://issuer.example";
pub(super) const AUDIENCE: &str = "countersign";
/// 2026-06-01T12:00:00Z.
pub(super) const NOW: i64 = 1_780_315_200;

pub(super) fn now() -> Timestamp {
    at(0)
}

/// So many seconds from now.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

#[derive(Debug)]
pub(super) struct ManualClock(pub(super) Mutex<Timestamp>);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(super) fn fetcher() -> KeyFetcher {
    KeyFetcher::new(Arc::new(ManualClock(Mutex::new(now()))))
}

/// A key that signs.
pub(super) enum Signer {
    Rsa(RsaKeyPair),
    Curve(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn rsa() -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY.as_bytes()).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap())
    }

    pub(super) fn p256() -> Self {
        Self::curve(&ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub(super) fn p384() -> Self {
        Self::curve(&ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    pub(super) fn ed() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    fn curve(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Curve(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap())
    }

    pub(super) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "kid": id, "n": b64(public.n), "e": b64(public.e)})
            }
            Self::Curve(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "kid": id, "x": b64(x), "y": b64(y)})
            }
            Self::Ed(key) => {
                let x = b64(key.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x})
            }
        }
    }

    pub(super) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let encoding: &dyn ring::signature::RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(encoding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Self::Curve(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A whole token of these parts, signed as its `alg` says.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(
            &header.to_string(),
            &claims.to_string(),
            header["alg"].as_str(),
        )
    }

    pub(super) fn token_of(&self, header: &str, claims: &str, algorithm: Option<&str>) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = self.sign(algorithm.unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", b64(signature))
    }
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// What a right token says, an hour long.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": NOW - 10,
        "exp": NOW + 3600,
    })
}

/// `base` with changes; null takes a member away.
pub(super) fn with(mut base: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        } else {
            base[name] = value.clone();
        }
    }
    base
}

pub(super) fn settings(keys: KeyPlace) -> IssuerSettings {
    IssuerSettings {
        roles_claim: Some("realm_access.roles".to_owned()),
        ..IssuerSettings::new("main", ISSUER, vec![AUDIENCE.to_owned()], keys)
    }
}

/// Does `work` while the keys are kept fresh; they are there when it begins.
pub(super) async fn beside<T>(tokens: &Arc<Tokens>, work: impl Future<Output = T>) -> T {
    let fresh = Arc::clone(tokens).keep_fresh(CancellationToken::new());
    let ready_work = async {
        while tokens
            .signs()
            .iter()
            .any(|signs| signs.fetched_at.is_none() && signs.failures == 0)
        {
            tokio::task::yield_now().await;
        }
        work.await
    };
    tokio::select! {
        () = fresh => panic!("it has no end"),
        done = ready_work => done,
    }
}

/// Hands out a text to whoever asks.
pub(super) struct KeyServer {
    pub(super) port: u16,
    pub(super) hits: Arc<AtomicUsize>,
    answer: Arc<Mutex<String>>,
    is_held: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
}

impl KeyServer {
    pub(super) fn start(answer: &str) -> Self {
        Self::start_with(answer, None)
    }

    /// The same over TLS, and what vouches for it.
    pub(super) fn start_tls(answer: &str) -> (Self, RootCertStore) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        (Self::start_with(answer, Some(Arc::new(config))), roots)
    }

    fn start_with(answer: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            hits: Arc::new(AtomicUsize::new(0)),
            answer: Arc::new(Mutex::new(answer.to_owned())),
            is_held: Arc::new(AtomicBool::new(false)),
            is_stopped: Arc::new(AtomicBool::new(false)),
        };
        let hits = Arc::clone(&server.hits);
        let answer = Arc::clone(&server.answer);
        let is_held = Arc::clone(&server.is_held);
        let is_stopped = Arc::clone(&server.is_stopped);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                if let Some(config) = &tls {
                    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                    answer_one(StreamOwned::new(connection, stream), &hits, || {
                        wait_while(&is_held);
                        answer.lock().unwrap().clone()
                    });
                } else {
                    answer_one(stream, &hits, || {
                        wait_while(&is_held);
                        answer.lock().unwrap().clone()
                    });
                }
            }
        });
        server
    }

    pub(super) fn url(&self, scheme: &str) -> KeyPlace {
        let url = format!("{scheme}://localhost:{}/jwks?app=1", self.port);
        KeyPlace::Url(url.parse().unwrap())
    }

    /// Answers `body` with status 200 from now on.
    pub(super) fn set_body(&self, body: &str) {
        self.set(&ok(body));
    }

    pub(super) fn set(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Keeps whoever asks waiting, or no longer.
    pub(super) fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::SeqCst);
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

pub(super) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn wait_while(is_held: &AtomicBool) {
    while is_held.load(Ordering::SeqCst) {
        thread::yield_now();
    }
}

fn answer_one(stream: impl Read + Write, hits: &AtomicUsize, answer: impl FnOnce() -> String) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        match stream.read_line(&mut line) {
            // One that does not trust us leaves here.
            Err(_) | Ok(0) => return,
            Ok(2) => break,
            Ok(_) => {}
        }
    }
    hits.fetch_add(1, Ordering::SeqCst);
    let answer = answer();
    drop(stream.get_mut().write_all(answer.as_bytes()));
    drop(stream.get_mut().flush());
}

/// Signs nothing but these tests.
const RSA_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDOKRR5xvWd7xIO
2sRAFM19u2A4Zbhz7+Y+fsi8d32taslLPM/y3V7nBFdDQbxLpGn6bNDmcdQDxpXD
HkZKGasJ8DnfHBcN5pzW0ctq439nNk6iVQGisy6guO7raCPdUcHBZRtX3vcMH8FL
Pwx4S6XIXbPbhkT9YJtNR9mVs9h0vnOg3ejbCZIUwCry76JoAsn0x4+xereOWOaF
u1jRCf7ngJ9npc6ebVGpmp7yXUMxqzgD0tAkGchytDFt4Aersg78fmp6XHoWWqqc
GVcTuR5e5cUlwbU6cBIeXnMq6Cli2Almckn+onHh9fsQrsy/jcaNlUuh786Vlq1j
kW1zfjw/AgMBAAECggEAIUJ1YDQd+g3Qvv7CPIheopMxMcgPWvzwC1MO9YDdkLWy
peW4srjOD70eiuY3B4kN4+3cQeFJUBagoKroshm0A1VzMLBqc76pvOp5w9PSAQe8
5emK6wG3Wwya1vWlG5aOCLJUF/gLqTQSTh5s15d0tn+PfbIKvUnxpCUcUE+Ec0jg
XjEVQMfwY2T7DtbpUmJR3zIkayrUs/nG6R+q5eX+NzjgfsPiZuJDaET+WF/OYuNT
AbYKwZfVFdU7tzgE9s4uwO3fTqDO/tpJAa0vXbVEOcoHRt9PpR2Wz9lehUZDSkdr
MqkbFUUZhfNzwuJxiUPXdwOnKoh8h15lXvI9DkdtkQKBgQDrrlYcWB7ZLGi/ZNaI
rSxfMeBtSXWi3D4Enbwi3pM9QJiTdYVU7MWgvffFPe+Th+EcFmN1mdlE3kbNgeZM
wY5TyuqKkJ5z9rDDSI+N8eNAGISyPoasXl4LdN9vRlo051WKlvF3M0wArDWmbBiP
36B0ut7kVEtAaR9LSOJbqwkYOQKBgQDf7zPRmW4SV0ZW244RWFls4SsVlyGt2F+f
9BbXeuFi1IVQgBm3S+XD4+cREfVIWvwDi2Wb3+C2Ys7VM6CGw861Cnu6nQ7hA5H8
JmzsVwPl5ooc1TPCH8/INQdxwQozU0aCV/t9oSFyIPo6317Bqex6jV1ejtsUp3Gs
44NEz4pINwKBgQCBVP40N7dV/iTNQwznnACJjNlXn8RKRwpRhi3EBNhP+K7B3O/6
FqSs/RKGzuI1148U1sRluLOeM0wvYmV7IYx1NxlWSN5rTKjbwWnlvyOx/MJ0/hLx
bCe3qb8jVTwTZA9xKjv/6cp/ZAFc/lzMNy/aXuIJ8qgJBKcDrU9qdoVbIQKBgQCO
Emmy4f/mnP5gXt1MfdwGavj1srPIYs2QYsEXJrvWAvUttIgcNYfpdy8DMnyG0kqv
SQJHGYusyxVkSGPg/FupmqQTKk/lTGmTKyHR9AbiFhir4Ev9LkeaQqKddhatp3jF
e2JwOwlIKkn3jf3FKrSAsC17r3CpMu64/IMs5etakwKBgEtdQBkdVM8KSEcRUqNd
Qw5Ry13eUAisEsGbQxmKtSQW6EHshIf/wvfg24VPt3zFaES/nn86nubU2uH1+g9B
ga0Tvrc2aTmlnTqXJYA7bpE/jaXghA2qrKOa5j4uTkGLYFZxsIUh3zspgb99WFgs
0ghUL19bI8v2zZS+gmWnHPKF
-----END PRIVATE KEY-----
";
