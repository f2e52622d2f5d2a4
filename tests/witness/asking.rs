//! One question, and every answer that can come.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use countersign::audit::tree::leaf_hash;
use countersign::channel::{Answer, WitnessError};

use crate::http;
use crate::witness::client;

/// What comes of a witness that gives `answer`.
async fn outcome_of(answer: impl Into<Vec<u8>>) -> Result<Answer, WitnessError> {
    let port = http::start_with(answer);
    client(&format!("http://127.0.0.1:{port}/t0ken"))
        .ask(7, &[], "note\n")
        .await
}

#[tokio::test]
async fn what_is_asked_is_what_the_specification_says() {
    let (sender, requests) = channel();
    let port = http::start(move |request, stream| {
        sender.send(request).unwrap();
        let answer = http::answer(200, "text/plain", "— w AAAAAAA=\n");
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let proof = [leaf_hash(b"a"), leaf_hash(b"b")];
    let witness = client(&format!("http://127.0.0.1:{port}/a/b"));
    let answer = witness.ask(3, &proof, "o\n5\nr\n\n— o AAAAAAA=\n").await;
    assert_eq!(
        answer.unwrap(),
        Answer::Cosigned("— w AAAAAAA=\n".to_owned())
    );
    let request = requests.recv().unwrap();
    assert_eq!(request.head[0], "POST /a/b/add-checkpoint HTTP/1.1");
    let [a, b] = proof.map(|hash| hash.to_base64());
    assert_eq!(
        request.body,
        format!("old 3\n{a}\n{b}\n\no\n5\nr\n\n— o AAAAAAA=\n")
    );
    witness.ask(0, &[], "n\n").await.unwrap();
    assert_eq!(requests.recv().unwrap().body, "old 0\n\nn\n");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (status, kind, body, expected) in [
        (
            404,
            "text/plain",
            "",
            "the witness does not know the log (404)",
        ),
        (403, "text/plain", "", "the witness trusts none"),
        (422, "text/plain", "", "the witness refuses the proof"),
        (
            409,
            "text/plain",
            "5\n",
            "the witness says that it has seen another",
        ),
        (
            409,
            "text/x.tlog.size",
            "five\n",
            "the witness answered with status 409",
        ),
        (
            409,
            "text/x.tlog.size",
            "-5\n",
            "the witness answered with status 409",
        ),
        (
            409,
            "text/x.tlog.size",
            "18446744073709551616\n",
            "the witness answered with status 409",
        ),
        (
            400,
            "text/plain",
            "",
            "the witness answered with status 400",
        ),
        (
            429,
            "text/plain",
            "",
            "the witness answered with status 429",
        ),
        (
            500,
            "text/plain",
            "",
            "the witness answered with status 500",
        ),
        (
            201,
            "text/plain",
            "— w AAAAAAA=\n",
            "the witness answered with status 201",
        ),
    ] {
        let error = outcome_of(http::answer(status, kind, body))
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with(expected), "{status}: {error}");
        assert_eq!(
            error.is_contradiction(),
            matches!((status, kind), (422, _) | (409, "text/plain"))
        );
    }
}

#[tokio::test]
async fn a_size_is_told() {
    for body in ["5\n", "5"] {
        let answer = outcome_of(http::answer(409, "text/x.tlog.size", body)).await;
        assert_eq!(answer.unwrap(), Answer::Behind(5));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for code in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {code} So\r\nlocation: http://127.0.0.1:{port}/\r\ncontent-length: 0\r\n\r\n"
        );
        let error = outcome_of(answer).await.unwrap_err();
        assert!(matches!(error, WitnessError::Status { code: found } if found == code));
    }
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err());
}

#[tokio::test]
async fn an_answer_has_its_bounds() {
    let limit = 64 * 1024;
    let long = "x".repeat(limit);
    let answer = outcome_of(http::answer(200, "text/plain", &long)).await;
    assert_eq!(answer.unwrap(), Answer::Cosigned(long.clone()));
    let endless = format!("HTTP/1.1 200 So\r\n\r\n{}", "x".repeat(10_000_000));
    for answer in [
        http::answer(200, "text/plain", &(long.clone() + "x")),
        endless,
    ] {
        let error = outcome_of(answer).await.unwrap_err();
        assert!(matches!(error, WitnessError::TooLong), "{error:?}");
    }
    let size = http::answer(409, "text/x.tlog.size", &"1".repeat(limit + 1));
    let error = outcome_of(size).await.unwrap_err();
    assert!(matches!(error, WitnessError::TooLong), "{error:?}");
    let mut bytes = http::answer(200, "text/plain", "xx").into_bytes();
    bytes.truncate(bytes.len() - 2);
    bytes.extend([0xff, 0xff]);
    let error = outcome_of(bytes).await.unwrap_err();
    assert!(matches!(error, WitnessError::NotText), "{error:?}");
}

#[tokio::test]
async fn a_slow_witness_is_not_waited_for() {
    let patience = Duration::from_millis(150);
    // It accepts and says nothing; begins and stops; drips for ever.
    let silent = http::start(|_, stream| {
        let kept = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(30));
            drop(kept);
        });
    });
    let stopping = http::start(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 So\r\ncontent-length: 9\r\n\r\nx")
            .unwrap();
        let kept = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(30));
            drop(kept);
        });
    });
    let dripping = http::start(|_, stream| {
        let mut kept = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut written = kept.write_all(b"HTTP/1.1 200 So\r\n\r\n");
            while written.is_ok() {
                std::thread::sleep(Duration::from_millis(10));
                written = kept.write_all(b"x");
            }
        });
    });
    for port in [silent, stopping, dripping] {
        let witness = client(&format!("http://127.0.0.1:{port}")).with_timeout(patience);
        let began = began();
        let error = witness.ask(0, &[], "n\n").await.unwrap_err();
        assert!(matches!(error, WitnessError::TimedOut), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
fn began() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_without_the_url() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let closed = client(&format!("http://127.0.0.1:{port}/t0ken"));
    let error = closed.ask(0, &[], "n\n").await.unwrap_err();
    assert!(
        matches!(error, WitnessError::Unreachable { .. }),
        "{error:?}"
    );
    let told = format!("{error:?}{error}{closed:?}");
    assert!(!told.contains("t0ken"), "{told}");
    let garbage = outcome_of("no HTTP\r\n\r\n").await.unwrap_err();
    assert!(
        matches!(garbage, WitnessError::Unreachable { .. }),
        "{garbage:?}"
    );
    let cut = outcome_of("HTTP/1.1 200 So\r\ncontent-length: 9\r\n\r\nx").await;
    let cut = cut.unwrap_err();
    assert!(matches!(cut, WitnessError::Unreachable { .. }), "{cut:?}");
    // Who speaks no TLS is no witness; a label of more than 63 letters is asked of no name server.
    let plain = http::start_with(http::answer(200, "text/plain", ""));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let other = listener.local_addr().unwrap().port();
    std::thread::spawn(move || drop(listener.accept()));
    for port in [plain, other] {
        let witness = client(&format!("https://127.0.0.1:{port}/t0ken"));
        let witness = witness.with_timeout(Duration::from_secs(1));
        let error = witness.ask(0, &[], "n\n").await.unwrap_err();
        assert!(
            matches!(
                error,
                WitnessError::Unreachable { .. } | WitnessError::TimedOut
            ),
            "{error:?}"
        );
    }
    let nowhere = client(&format!("https://{}.invalid/", "a".repeat(64)));
    let error = nowhere.ask(0, &[], "n\n").await.unwrap_err();
    assert!(
        matches!(error, WitnessError::Unresolved { .. }),
        "{error:?}"
    );
}
