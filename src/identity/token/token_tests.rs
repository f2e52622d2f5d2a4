//! Tests of what a token must be, with real signatures.

use ring::hmac;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::identity::token::test_bench::{
    AUDIENCE, ISSUER, NOW, Signer, at, b64, beside, claims, fetcher, jwks, now, settings, with,
};
use crate::identity::token::{Actor, KeyPlace};

use super::*;

type Outcome = Result<Arc<VerifiedToken>, TokenFault>;

/// One issuer with one key of each sort.
struct Bench {
    rsa: Signer,
    p256: Signer,
    p384: Signer,
    ed: Signer,
    file: NamedTempFile,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            rsa: Signer::rsa(),
            p256: Signer::p256(),
            p384: Signer::p384(),
            ed: Signer::ed(),
            file: NamedTempFile::new().unwrap(),
        };
        bench.write(&[
            bench.rsa.jwk("rsa"),
            bench.p256.jwk("p256"),
            bench.p384.jwk("p384"),
            bench.ed.jwk("ed"),
        ]);
        bench
    }

    fn write(&self, keys: &[Value]) {
        std::fs::write(self.file.path(), jwks(keys)).unwrap();
    }

    fn settings(&self) -> IssuerSettings {
        settings(KeyPlace::File(self.file.path().to_owned()))
    }

    fn tokens(&self) -> Arc<Tokens> {
        Arc::new(Tokens::new(vec![self.settings()], fetcher()).unwrap())
    }

    /// A token with changes to its header and its claims; null takes something away.
    fn token(&self, header: &Value, changes: &Value) -> String {
        let base = json!({"alg": "ES256", "kid": "p256", "typ": "at+jwt"});
        self.p256
            .token(&with(base, header), &with(claims(), changes))
    }
}

/// What becomes of one token, and that nothing but that is remembered of it.
async fn verify(tokens: &Tokens, token: &str) -> Outcome {
    let verified = tokens.verify(token, now()).await;
    assert_eq!(tokens.known(token, now()), verified.clone().ok());
    verified
}

#[tokio::test]
async fn every_algorithm_is_checked_with_the_key_of_its_sort() {
    let bench = Bench::new();
    let tokens = bench.tokens();
    beside(&tokens, async {
        for algorithm in Algorithm::ALL {
            let name = algorithm.name();
            let (id, signer) = match name {
                "ES256" => ("p256", &bench.p256),
                "ES384" => ("p384", &bench.p384),
                "EdDSA" => ("ed", &bench.ed),
                _ => ("rsa", &bench.rsa),
            };
            let token = signer.token(&json!({"alg": name, "kid": id}), &claims());
            let verified = verify(&tokens, &token).await.unwrap();
            assert_eq!(verified.subject, "alice", "{name}");
            // Without a key's id, one key only can be meant.
            let token = signer.token(&json!({"alg": name}), &claims());
            verify(&tokens, &token).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_says_who_it_speaks_for() {
    let bench = Bench::new();
    let tokens = bench.tokens();
    let changes = json!({
        "aud": ["other", AUDIENCE],
        "azp": "console",
        "client_id": "ignored",
        "realm_access": {"roles": ["reviewer", "auditor"]},
        "act": {"sub": "agent", "iss": "https://agents.example", "act": {"sub": "tool"}},
    });
    let token = bench.token(&json!({}), &changes);
    let verified = beside(&tokens, verify(&tokens, &token)).await.unwrap();
    let actor = |subject: &str, issuer: Option<&str>| Actor {
        subject: subject.to_owned(),
        issuer: issuer.map(str::to_owned),
    };
    let expected = VerifiedToken {
        issuer_name: "main".to_owned(),
        issuer: ISSUER.to_owned(),
        subject: "alice".to_owned(),
        roles: vec!["reviewer".to_owned(), "auditor".to_owned()],
        actors: vec![
            actor("agent", Some("https://agents.example")),
            actor("tool", None),
        ],
        client_id: Some("console".to_owned()),
        expires: at(3600),
    };
    assert_eq!(*verified, expected);
}

#[tokio::test]
async fn a_header_that_is_not_as_it_should_be_is_refused() {
    use TokenFault::{AlgorithmNotAllowed, Critical, Malformed, UnknownKey, WrongType};
    let bench = Bench::new();
    let tokens = bench.tokens();
    let cases = [
        (json!({}), None),
        (json!({"typ": null}), None),
        (json!({"typ": "application/AT+jwt"}), None),
        (
            json!({"typ": "JWT", "jku": "https://evil.example", "x5c": ["!"]}),
            None,
        ),
        (json!({"alg": "none"}), Some(AlgorithmNotAllowed)),
        (json!({"alg": "None"}), Some(AlgorithmNotAllowed)),
        (json!({"alg": ""}), Some(AlgorithmNotAllowed)),
        (json!({"alg": "es256"}), Some(AlgorithmNotAllowed)),
        (json!({"alg": "HS256"}), Some(AlgorithmNotAllowed)),
        (json!({"alg": "ES256K"}), Some(AlgorithmNotAllowed)),
        (json!({"alg": null}), Some(Malformed)),
        (json!({"alg": 256}), Some(Malformed)),
        (json!({"alg": ["ES256"]}), Some(Malformed)),
        (json!({"alg": "ES384"}), Some(UnknownKey)),
        (json!({"alg": "RS256"}), Some(UnknownKey)),
        (json!({"kid": "rsa"}), Some(UnknownKey)),
        (json!({"kid": "P256"}), Some(UnknownKey)),
        (json!({"kid": ""}), Some(UnknownKey)),
        (json!({"kid": "../p256"}), Some(UnknownKey)),
        (json!({"kid": 256}), Some(Malformed)),
        (json!({"typ": "dpop+jwt"}), Some(WrongType)),
        (json!({"typ": "id_token"}), Some(WrongType)),
        (json!({"typ": ""}), Some(WrongType)),
        (json!({"typ": 1}), Some(Malformed)),
        (json!({"crit": []}), Some(Critical)),
        (json!({"crit": ["exp"]}), Some(Critical)),
        (json!({"crit": "exp"}), Some(Critical)),
        (json!({"crit": ["b64"], "b64": false}), Some(Critical)),
    ];
    let all = async {
        for (changes, fault) in cases {
            let token = bench.token(&changes, &json!({}));
            let found = verify(&tokens, &token).await;
            assert_eq!(found.err(), fault, "{changes}");
        }
    };
    beside(&tokens, Box::pin(all)).await;
}

#[tokio::test]
async fn claims_that_are_not_as_they_should_be_are_refused() {
    use TokenFault::{
        BadActors, BadRoles, BadSubject, Expired, LivesTooLong, NotYetValid, UnknownIssuer,
        WrongAudience,
    };
    const DAY: i64 = 86_400;
    let bench = Bench::new();
    let tokens = bench.tokens();
    let bad = |claim: &'static str| Some(TokenFault::BadClaim { claim });
    let cases = [
        (json!({"exp": NOW - 59}), None),
        (json!({"exp": NOW - 60}), Some(Expired)),
        (json!({"exp": 0}), Some(Expired)),
        (json!({"exp": -1}), Some(Expired)),
        (json!({"exp": null}), bad("exp")),
        (json!({"exp": "soon"}), bad("exp")),
        (json!({"exp": (NOW + 60).to_string()}), bad("exp")),
        (json!({"exp": 1e300}), bad("exp")),
        (json!({"exp": NOW + DAY - 10}), None),
        (json!({"exp": NOW + DAY - 9}), Some(LivesTooLong)),
        (json!({"exp": NOW + DAY, "iat": null}), None),
        (
            json!({"exp": NOW + DAY + 1, "iat": null}),
            Some(LivesTooLong),
        ),
        (json!({"nbf": NOW + 60}), None),
        (json!({"nbf": NOW + 61}), Some(NotYetValid)),
        (json!({"nbf": "x"}), bad("nbf")),
        (json!({"iat": NOW + 60}), None),
        (json!({"iat": NOW + 61}), Some(NotYetValid)),
        (json!({"iat": {}}), bad("iat")),
        (json!({"iss": null}), bad("iss")),
        (json!({"iss": [ISSUER]}), bad("iss")),
        (json!({"iss": ""}), Some(UnknownIssuer)),
        (json!({"iss": format!("{ISSUER}/")}), Some(UnknownIssuer)),
        (
            json!({"iss": "HTTPS://issuer.example"}),
            Some(UnknownIssuer),
        ),
        (json!({"aud": null}), bad("aud")),
        (json!({"aud": {}}), bad("aud")),
        (json!({"aud": [AUDIENCE, 1]}), bad("aud")),
        (json!({"aud": []}), Some(WrongAudience)),
        (json!({"aud": "Countersign"}), Some(WrongAudience)),
        (json!({"aud": ["countersign "]}), Some(WrongAudience)),
        (json!({"sub": null}), Some(BadSubject)),
        (json!({"sub": ""}), Some(BadSubject)),
        (json!({"sub": 1}), Some(BadSubject)),
        (json!({"sub": "alice\n"}), Some(BadSubject)),
        (json!({"sub": "a".repeat(1025)}), Some(BadSubject)),
        (json!({"act": {}}), Some(BadActors)),
        (json!({"act": "bob"}), Some(BadActors)),
        (json!({"realm_access": {"roles": 1}}), Some(BadRoles)),
        (json!({"azp": 1}), bad("azp")),
        (json!({"client_id": ""}), bad("client_id")),
    ];
    let all = async {
        for (changes, fault) in cases {
            let token = bench.token(&json!({}), &changes);
            let found = verify(&tokens, &token).await;
            assert_eq!(found.err(), fault, "{changes}");
        }
    };
    beside(&tokens, Box::pin(all)).await;
}

/// The same text with another last letter, which differs in bits that mean nothing only.
fn respelt(signature: &str) -> String {
    let (front, _) = signature.split_at(85);
    let last = signature.as_bytes()[85];
    format!("{front}{}", char::from(last + 1))
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused() {
    use TokenFault::{BadSignature, Malformed, TooLong};
    let bench = Bench::new();
    let tokens = bench.tokens();
    let good = bench.token(&json!({}), &json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let other = bench.token(&json!({}), &json!({"sub": "bob"}));
    let other_payload = other.split('.').nth(1).unwrap();
    let zeros = b64([0; 64]);
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let cases = [
        (String::new(), Malformed),
        ("..".to_owned(), Malformed),
        ("development:alice".to_owned(), Malformed),
        (format!("{header}.{payload}"), Malformed),
        (format!("{header}.{payload}."), BadSignature),
        (format!("{good}."), Malformed),
        (format!("{good}.x"), Malformed),
        (format!("{good}="), Malformed),
        (format!("{good}\n"), Malformed),
        (format!(" {good}"), Malformed),
        (format!("{header}=.{payload}.{signature}"), Malformed),
        (format!("{header}.{payload}=.{signature}"), Malformed),
        (
            format!("{header}.{other_payload}.{signature}"),
            BadSignature,
        ),
        (format!("{header}.{payload}.{zeros}"), BadSignature),
        (
            format!("{header}.{payload}.{flipped}{}", signature.split_at(1).1),
            BadSignature,
        ),
        (
            format!("{header}.{payload}.{}", signature.split_at(84).0),
            BadSignature,
        ),
        (format!("{header}.{payload}.{signature}AAAA"), BadSignature),
        // Other letters for the same bytes.
        (
            format!("{header}.{payload}.{}", respelt(signature)),
            Malformed,
        ),
        (format!("{header}..{signature}"), Malformed),
        (format!("{header}.{}.{signature}", b64("[]")), Malformed),
        (
            format!("{header}.{}.{signature}", b64("[".repeat(9000))),
            Malformed,
        ),
        (format!("{}.{payload}.{signature}", b64("{")), Malformed),
        (format!("{good}{}", "A".repeat(16 * 1024)), TooLong),
    ];
    beside(&tokens, async {
        for (token, fault) in cases {
            let found = verify(&tokens, &token).await;
            assert_eq!(found.err(), Some(fault), "{token}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_signature_by_anything_but_the_issuers_key_is_refused() {
    let bench = Bench::new();
    let tokens = bench.tokens();
    let header = json!({"alg": "ES256", "kid": "p256"});
    let mallory = Signer::p256();
    let embedded = with(header.clone(), &json!({"jwk": mallory.jwk("p256")}));
    let message = format!(
        "{}.{}",
        b64(r#"{"alg":"HS256","kid":"rsa"}"#),
        b64(claims().to_string())
    );
    let public = bench.rsa.jwk("rsa")["n"].as_str().unwrap().to_owned();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes());
    let confused = format!("{message}.{}", b64(hmac::sign(&secret, message.as_bytes())));
    let ps256_as_rs256 = {
        let message = format!(
            "{}.{}",
            b64(r#"{"alg":"RS256","kid":"rsa"}"#),
            b64(claims().to_string())
        );
        let signature = bench.rsa.sign("PS256", message.as_bytes());
        format!("{message}.{}", b64(signature))
    };
    let cases = [
        (mallory.token(&header, &claims()), TokenFault::BadSignature),
        (
            mallory.token(&embedded, &claims()),
            TokenFault::BadSignature,
        ),
        (bench.ed.token(&header, &claims()), TokenFault::BadSignature),
        (ps256_as_rs256, TokenFault::BadSignature),
        (confused, TokenFault::AlgorithmNotAllowed),
    ];
    beside(&tokens, async {
        for (token, fault) in cases {
            assert_eq!(verify(&tokens, &token).await.err(), Some(fault), "{token}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_said_twice_is_not_believed() {
    let bench = Bench::new();
    let tokens = bench.tokens();
    let header = r#"{"alg":"ES256","kid":"p256"}"#;
    let claims = claims().to_string();
    let twice = |member: &str, text: &str| text.replacen('{', &format!("{{{member},"), 1);
    let cases = [
        (twice(r#""alg":"none""#, header), claims.clone()),
        (twice(r#""kid":"rsa""#, header), claims.clone()),
        (header.to_owned(), twice(r#""exp":9999999999"#, &claims)),
        (
            header.to_owned(),
            twice(r#""iss":"https://evil.example""#, &claims),
        ),
        (header.to_owned(), twice(r#""aud":"other""#, &claims)),
        (header.to_owned(), twice(r#""sub":"admin""#, &claims)),
    ];
    beside(&tokens, async {
        for (header, claims) in cases {
            let token = bench.p256.token_of(&header, &claims, None);
            let found = verify(&tokens, &token).await.err();
            assert_eq!(found, Some(TokenFault::Malformed), "{header} {claims}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_issuer_signs_only_as_its_settings_allow() {
    let bench = Bench::new();
    let settings = IssuerSettings {
        algorithms: vec![Algorithm::Ps256, Algorithm::Es256],
        ..bench.settings()
    };
    let tokens = Arc::new(Tokens::new(vec![settings], fetcher()).unwrap());
    let signed = |algorithm: &str| {
        let header = json!({"alg": algorithm, "kid": "rsa"});
        bench.rsa.token(&header, &claims())
    };
    beside(&tokens, async {
        assert!(verify(&tokens, &signed("PS256")).await.is_ok());
        let refused = verify(&tokens, &signed("RS256")).await.err();
        assert_eq!(refused, Some(TokenFault::AlgorithmNotAllowed));
    })
    .await;
}

#[tokio::test]
async fn two_uses_of_one_issuer_are_told_apart_by_audience() {
    let bench = Bench::new();
    let admins = IssuerSettings {
        name: "admins".to_owned(),
        audiences: vec!["admin".to_owned()],
        subject_claim: "email".to_owned(),
        ..bench.settings()
    };
    let tokens = Arc::new(Tokens::new(vec![bench.settings(), admins], fetcher()).unwrap());
    let token = |aud: Value| bench.token(&json!({}), &json!({"aud": aud, "email": "a@b"}));
    beside(&tokens, async {
        let user = verify(&tokens, &token(json!(AUDIENCE))).await.unwrap();
        assert_eq!((&*user.issuer_name, &*user.subject), ("main", "alice"));
        let admin = verify(&tokens, &token(json!(["admin", "x"])))
            .await
            .unwrap();
        assert_eq!((&*admin.issuer_name, &*admin.subject), ("admins", "a@b"));
        let both = verify(&tokens, &token(json!(["admin", AUDIENCE]))).await;
        assert_eq!(both.err(), Some(TokenFault::SeveralAudiences));
    })
    .await;
}

#[tokio::test]
async fn a_known_token_counts_as_long_as_it_would_be_verified() {
    let bench = Bench::new();
    let tokens = bench.tokens();
    let token = bench.token(&json!({}), &json!({"nbf": NOW}));
    beside(&tokens, async {
        assert_eq!(tokens.known(&token, now()), None);
        let verified = tokens.verify(&token, now()).await.unwrap();
        let is_known = |seconds: i64| tokens.known(&token, at(seconds)).is_some();
        assert!(Arc::ptr_eq(
            &verified,
            &tokens.known(&token, now()).unwrap()
        ));
        assert!(is_known(3600 + 59));
        assert!(!is_known(3600 + 60));
        assert!(!is_known(-61));
        assert!(is_known(-60));
        let expired = tokens.verify(&token, at(3660)).await;
        assert_eq!(expired.err(), Some(TokenFault::Expired));
        assert_eq!(tokens.known(&format!("{token}A"), now()), None);
    })
    .await;
}

#[tokio::test]
async fn a_known_token_is_forgotten_with_its_key_only() {
    let bench = Bench::new();
    let tokens = bench.tokens();
    let token = bench.token(&json!({}), &json!({}));
    beside(&tokens, async {
        tokens.verify(&token, now()).await.unwrap();
        bench.write(&[bench.p256.jwk("p256"), bench.ed.jwk("new")]);
        tokens.reload().await;
        assert_eq!(tokens.signs()[0].keys, 2);
        assert!(tokens.known(&token, now()).is_some());
        bench.write(&[bench.ed.jwk("new")]);
        tokens.reload().await;
        assert_eq!(tokens.known(&token, now()), None);
        let gone = tokens.verify(&token, now()).await;
        assert_eq!(gone.err(), Some(TokenFault::UnknownKey));
        // Another key of the same name is another key.
        bench.write(&[Signer::p256().jwk("p256")]);
        tokens.reload().await;
        assert_eq!(tokens.known(&token, now()), None);
        let forged = tokens.verify(&token, now()).await;
        assert_eq!(forged.err(), Some(TokenFault::BadSignature));
    })
    .await;
}

#[tokio::test]
async fn nothing_of_a_token_is_written() {
    let bench = Bench::new();
    let tokens = bench.tokens();
    let token = bench.token(&json!({"kid": "s3cret"}), &json!({"sub": "s3cret"}));
    let written = beside(&tokens, async {
        let fault = tokens.verify(&token, now()).await.unwrap_err();
        format!("{fault} {fault:?} {tokens:?}")
    })
    .await;
    assert!(!written.contains("s3cret"), "{written}");
}
