//! Tests of how keys are fetched, with a real server on a free port of this machine.

use serde_json::json;

use crate::identity::token::KeyPlace;
use crate::identity::token::test_bench::{
    KeyServer, ManualClock, Signer, at, beside, claims, fetcher, jwks, now, ok, settings, with,
};

use super::*;

fn token(signer: &Signer, id: &str) -> String {
    signer.token(&json!({"alg": "ES256", "kid": id}), &claims())
}

fn tokens(server: &KeyServer) -> Arc<Tokens> {
    let settings = settings(server.url("http"));
    Arc::new(Tokens::new(vec![settings], fetcher()).unwrap())
}

#[tokio::test]
async fn a_thousand_unknown_keys_cause_one_fetch() {
    let signer = Signer::p256();
    let server = KeyServer::start(&ok(&jwks(&[signer.jwk("a")])));
    let tokens = tokens(&server);
    let forged: Vec<String> = (0..1000)
        .map(|at| token(&signer, &format!("unknown {at}")))
        .collect();
    beside(&tokens, async {
        assert_eq!(server.hits(), 1);
        let all = forged.iter().map(|token| tokens.verify(token, now()));
        for outcome in join_all(all).await {
            assert_eq!(outcome.err(), Some(TokenFault::UnknownKey));
        }
        assert_eq!(server.hits(), 2);
        for token in &forged {
            assert!(tokens.verify(token, now()).await.is_err());
        }
        assert_eq!(server.hits(), 2);
        assert!(tokens.verify(&token(&signer, "a"), now()).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_new_key_is_found_by_the_first_token_that_it_signed() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let server = KeyServer::start(&ok(&jwks(&[old.jwk("old")])));
    let tokens = tokens(&server);
    beside(&tokens, async {
        assert!(tokens.verify(&token(&old, "old"), now()).await.is_ok());
        server.set_body(&jwks(&[old.jwk("old"), new.jwk("new")]));
        assert!(tokens.verify(&token(&new, "new"), now()).await.is_ok());
        assert_eq!(server.hits(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_goes_away_does_not_cancel_the_fetch() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let server = KeyServer::start(&ok(&jwks(&[old.jwk("old")])));
    let tokens = tokens(&server);
    let signed = token(&new, "new");
    beside(&tokens, async {
        server.hold(true);
        server.set_body(&jwks(&[new.jwk("new")]));
        let call = tokens.verify(&signed, now());
        let asked = async {
            while server.hits() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = call => panic!("there was no answer yet"),
            () = asked => {}
        }
        server.hold(false);
        assert!(tokens.verify(&signed, now()).await.is_ok());
        assert_eq!(server.hits(), 2);
    })
    .await;
}

#[tokio::test]
async fn answers_that_are_no_key_set_are_faults() {
    let signer = Signer::p256();
    let many = vec![signer.jwk("a"); 101];
    let redirect = "HTTP/1.1 302 Found\r\nlocation: /jwks\r\ncontent-length: 0\r\n\r\n";
    let endless = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n{}",
        " ".repeat(256 * 1024 + 1)
    );
    for answer in [
        redirect,
        "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{",
        "what?\r\n\r\n",
        &ok("<html>"),
        &ok("{}"),
        &ok(&jwks(&many)),
        &endless,
    ] {
        let server = KeyServer::start(answer);
        let tokens = tokens(&server);
        let signed = token(&signer, "a");
        beside(&tokens, async {
            let signs = tokens.signs();
            assert_eq!((signs[0].failures, signs[0].fetched_at), (1, None));
            assert_eq!(server.hits(), 1, "{answer}");
            let fault = tokens.verify(&signed, now()).await.unwrap_err();
            assert!(fault.is_unavailable(), "{fault}");
            // The token itself may have caused one more.
            server.set_body(&jwks(&[signer.jwk("a")]));
            tokens.reload().await;
            assert!(tokens.verify(&signed, now()).await.is_ok(), "{answer}");
        })
        .await;
    }
}

#[tokio::test]
async fn keys_that_cannot_be_renewed_count_for_a_day() {
    const DAY: i64 = 86_400;
    let signer = Signer::p256();
    let server = KeyServer::start(&ok(&jwks(&[signer.jwk("a")])));
    let clock = Arc::new(ManualClock(std::sync::Mutex::new(now())));
    let settings = IssuerSettings {
        max_age: std::time::Duration::from_secs(3 * 86_400),
        ..settings(server.url("http"))
    };
    let fetcher = KeyFetcher::new(Arc::clone(&clock) as Arc<dyn crate::usecase::ports::Clock>);
    let tokens = Arc::new(Tokens::new(vec![settings], fetcher).unwrap());
    let long = with(claims(), &json!({"exp": at(2 * DAY).as_second()}));
    let signed = signer.token(&json!({"alg": "ES256", "kid": "a"}), &long);
    beside(&tokens, async {
        assert!(tokens.verify(&signed, now()).await.is_ok());
        server.set("HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n");
        *clock.0.lock().unwrap() = at(DAY);
        tokens.reload().await;
        assert_eq!(tokens.signs()[0].failures, 1);
        assert_eq!(tokens.signs()[0].fetched_at, Some(now()));
        assert!(tokens.known(&signed, at(DAY)).is_some());
        assert!(tokens.known(&signed, at(DAY + 1)).is_none());
        let late = tokens.verify(&signed, at(DAY + 1)).await;
        assert_eq!(late.err(), Some(TokenFault::KeysUnavailable));
        server.set_body(&jwks(&[signer.jwk("a")]));
        tokens.reload().await;
        assert!(tokens.verify(&signed, at(DAY + 1)).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn keys_come_over_tls_from_a_server_that_is_vouched_for() {
    let signer = Signer::p256();
    let (server, roots) = KeyServer::start_tls(&ok(&jwks(&[signer.jwk("a")])));
    let signed = token(&signer, "a");
    let trusting = |roots| {
        let fetcher = fetcher().trusting_only(roots);
        Arc::new(Tokens::new(vec![settings(server.url("https"))], fetcher).unwrap())
    };
    let right = trusting(roots);
    assert!(beside(&right, right.verify(&signed, now())).await.is_ok());
    let (_other, other_roots) = KeyServer::start_tls("");
    let wrong = trusting(other_roots);
    let fault = beside(&wrong, wrong.verify(&signed, now())).await;
    assert_eq!(fault.err(), Some(TokenFault::KeysUnavailable));
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn a_file_that_is_missing_or_too_long_is_a_fault() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("keys.json");
    let signer = Signer::p256();
    let settings = settings(KeyPlace::File(path.clone()));
    let tokens = Arc::new(Tokens::new(vec![settings], fetcher()).unwrap());
    beside(&tokens, async {
        assert_eq!(tokens.signs()[0].failures, 1);
        let keys = jwks(&[signer.jwk("a")]);
        let padded = format!("{keys}{}", " ".repeat(256 * 1024));
        std::fs::write(&path, padded).unwrap();
        tokens.reload().await;
        assert_eq!(tokens.signs()[0].failures, 2);
        std::fs::write(&path, keys).unwrap();
        tokens.reload().await;
        let signs = tokens.signs();
        assert_eq!((signs[0].failures, signs[0].keys), (2, 1));
        assert_eq!(signs[0].fetched_at, Some(now()));
        assert!(tokens.verify(&token(&signer, "a"), now()).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn keeping_fresh_ends_when_it_is_told_to() {
    let server = KeyServer::start(&ok("{}"));
    let stop = CancellationToken::new();
    stop.cancel();
    tokens(&server).keep_fresh(stop).await;
}

#[tokio::test]
async fn what_waits_can_move_between_threads() {
    fn check<T: Send + 'static>(future: T) -> T {
        future
    }
    let server = KeyServer::start(&ok("{}"));
    let tokens = tokens(&server);
    let shared = Arc::clone(&tokens);
    let call = check(async move { shared.verify("", now()).await });
    assert_eq!(call.await.err(), Some(TokenFault::Malformed));
    drop(check(tokens.keep_fresh(CancellationToken::new())));
}
