//! A real receiver on a free port of this machine, and what reaches it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const MESSAGE: WebhookMessage<'static> = WebhookMessage {
    id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
    body: br#"{"test": 2432232314}"#,
    trace: Some(TraceContext {
        trace_id: [0xab; 16],
        span_id: [0x12; 8],
        is_sampled: true,
    }),
};
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn now() -> Timestamp {
    Timestamp::from_second(1_614_265_330).unwrap()
}

/// What a receiver got.
struct Received {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let mut values = self.head.iter().filter_map(|line| line.split_once(": "));
        let (_, value) = values.find(|(key, _)| *key == name).unwrap();
        assert!(
            values.all(|(key, _)| key != name),
            "`{name}` is there twice"
        );
        value
    }
}

fn answer_one(stream: impl Read + Write, answer: &str) -> Received {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    let mut line = String::new();
    while stream.read_line(&mut line).unwrap() > 2 {
        head.push(line.trim_end().to_owned());
        line.clear();
    }
    let mut received = Received {
        head,
        body: Vec::new(),
    };
    let length: usize = received.header("content-length").parse().unwrap();
    received.body.resize(length, 0);
    stream.read_exact(&mut received.body).unwrap();
    // The sender may have heard enough.
    drop(stream.get_mut().write_all(answer.as_bytes()));
    drop(stream.get_mut().flush());
    received
}

/// Answers one request with `answer`.
fn receiver(answer: impl Into<String>) -> (u16, Receiver<Received>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.into();
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        sender.send(answer_one(stream, &answer)).unwrap();
    });
    (port, received)
}

/// Answers one request over TLS, with a certificate for `name`; answers the certificate too.
fn tls_receiver(name: &str) -> (u16, Receiver<Received>, RootCertStore) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
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
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = stream;
        // A sender that does not trust us leaves here.
        if connection.complete_io(&mut stream).is_ok() && !connection.is_handshaking() {
            let stream = StreamOwned::new(connection, stream);
            sender.send(answer_one(stream, OK)).unwrap();
        }
    });
    (port, received, roots)
}

fn endpoint_with(url: &str, changes: &Value) -> WebhookEndpoint {
    let mut config = json!({
        "url": url,
        "secret": SECRET,
        "allow_http": true,
        "allow_private_addresses": true,
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    let config: WebhookConfig = serde_json::from_value(config).unwrap();
    WebhookEndpoint::new("ops", &config).unwrap()
}

fn endpoint(port: u16) -> WebhookEndpoint {
    endpoint_with(
        &format!("http://127.0.0.1:{port}/hooks?token=t0ken"),
        &json!({}),
    )
}

/// What becomes of a message whose receiver gives `answer`.
async fn outcome_of(answer: &str) -> Result<(), WebhookFailure> {
    let (port, _received) = receiver(answer);
    endpoint(port).send(&MESSAGE, now()).await
}

#[tokio::test]
async fn a_message_arrives_as_its_exact_bytes_and_signed() {
    let (port, received) = receiver(OK);
    endpoint(port).send(&MESSAGE, now()).await.unwrap();
    let received = received.recv().unwrap();
    assert_eq!(received.head[0], "POST /hooks?token=t0ken HTTP/1.1");
    assert_eq!(received.body, MESSAGE.body);
    for (name, value) in [
        ("webhook-id", MESSAGE.id),
        ("webhook-timestamp", "1614265330"),
        (
            "webhook-signature",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        ("content-type", "application/json"),
        (
            "traceparent",
            "00-abababababababababababababababab-1212121212121212-01",
        ),
        (
            "user-agent",
            concat!("countersign/", env!("CARGO_PKG_VERSION")),
        ),
        ("host", &format!("127.0.0.1:{port}")),
    ] {
        assert_eq!(received.header(name), value);
    }
}

#[tokio::test]
async fn during_a_rotation_both_secrets_sign() {
    let (port, received) = receiver(OK);
    let url = format!("http://127.0.0.1:{port}/");
    let endpoint = endpoint_with(&url, &json!({ "previous_secret": OTHER_SECRET }));
    endpoint.send(&MESSAGE, now()).await.unwrap();
    let received = received.recv().unwrap();
    let signatures: Vec<&str> = received.header("webhook-signature").split(' ').collect();
    let expected = [SECRET, OTHER_SECRET].map(|secret| {
        let secret = WebhookSecret::parse(secret).unwrap();
        secret.sign(MESSAGE.id, now().as_second(), MESSAGE.body)
    });
    assert_eq!(signatures, expected);
}

#[tokio::test]
async fn our_own_network_is_refused_unless_allowed() {
    for (host, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("[::1]", "::1"),
        ("[::]", "::"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[::ffff:8.8.8.8]", "::ffff:8.8.8.8"),
        ("169.254.169.254", "169.254.169.254"),
        ("10.1.2.3", "10.1.2.3"),
        ("[fd00::1]", "fd00::1"),
    ] {
        // Whoever connects all the same is heard of.
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://{host}:{port}/");
        let endpoint = endpoint_with(&url, &json!({ "allow_private_addresses": false }));
        let failure = endpoint.send(&MESSAGE, now()).await.unwrap_err();
        let expected: IpAddr = address.parse().unwrap();
        assert!(
            matches!(failure, WebhookFailure::Refused { address } if address == expected),
            "{host}: {failure:?}"
        );
        assert!(failure.is_permanent());
        assert_nobody_connects(&listener);
    }
}

#[tokio::test]
async fn a_name_of_our_own_network_is_refused() {
    for url in ["http://localhost/", "http://LOCALHOST:1/"] {
        let endpoint = endpoint_with(url, &json!({ "allow_private_addresses": false }));
        let failure = endpoint.send(&MESSAGE, now()).await.unwrap_err();
        assert!(
            matches!(failure, WebhookFailure::Refused { address } if address.is_loopback()),
            "{url}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn the_checked_address_is_the_one_that_is_connected_to() {
    let (port, received) = receiver(OK);
    // No name server knows this name, so a second lookup would fail.
    let endpoint = endpoint_with(&format!("http://hooks.invalid:{port}/"), &json!({}));
    let headers = endpoint.headers(&MESSAGE, now()).unwrap();
    let addresses = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    endpoint
        .post(addresses, headers, MESSAGE.body)
        .await
        .unwrap();
    let received = received.recv().unwrap();
    assert_eq!(received.header("host"), format!("hooks.invalid:{port}"));
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let elsewhere = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for code in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {code} Elsewhere\r\nlocation: http://127.0.0.1:{port}/\r\ncontent-length: 0\r\n\r\n"
        );
        let failure = outcome_of(&answer).await.unwrap_err();
        assert!(matches!(failure, WebhookFailure::Status { code: found, .. } if found == code));
        assert_nobody_connects(&elsewhere);
    }
}

#[track_caller]
fn assert_nobody_connects(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn any_2xx_is_delivered() {
    for answer in [
        OK,
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        outcome_of(answer).await.unwrap();
    }
}

#[tokio::test]
async fn gone_is_permanent() {
    let answer = "HTTP/1.1 410 Gone\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n";
    let failure = outcome_of(answer).await.unwrap_err();
    assert!(matches!(failure, WebhookFailure::Gone));
    assert!(failure.is_permanent());
    assert_eq!(failure.retry_after(), None);
}

#[tokio::test]
async fn retry_after_is_told() {
    for (status, retry_after, expected) in [
        ("429 Slow Down", "retry-after: 120\r\n", Some(120)),
        (
            "503 Busy",
            "Retry-After: Thu, 25 Feb 2021 15:03:10 GMT\r\n",
            Some(60),
        ),
        ("500 Oh", "retry-after: 999999\r\n", Some(86_400)),
        ("500 Oh", "", None),
        ("400 No", "retry-after: soon\r\n", None),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{retry_after}content-length: 0\r\n\r\n");
        let failure = outcome_of(&answer).await.unwrap_err();
        assert!(!failure.is_permanent());
        let seconds = failure.retry_after().map(|wait| wait.as_secs());
        assert_eq!(seconds, expected, "{status}");
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_timed_out() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut endpoint = endpoint(listener.local_addr().unwrap().port());
    endpoint.timeout = Duration::from_millis(50);
    let failure = endpoint.send(&MESSAGE, now()).await.unwrap_err();
    assert!(matches!(failure, WebhookFailure::TimedOut), "{failure:?}");
    assert!(!failure.is_permanent());
}

#[tokio::test]
async fn an_endless_answer_changes_nothing() {
    let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(10_000_000));
    outcome_of(&answer).await.unwrap();
    // The promised body never comes.
    let (port, _received) = receiver("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    let mut endpoint = endpoint(port);
    endpoint.timeout = Duration::from_secs(1);
    endpoint.send(&MESSAGE, now()).await.unwrap();
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_nothing_of_the_url_is_told() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let failure = endpoint(port).send(&MESSAGE, now()).await.unwrap_err();
    assert!(
        matches!(failure, WebhookFailure::Unreachable { .. }),
        "{failure:?}"
    );
    let told = format!("{failure:?} {:?}", endpoint(port));
    assert!(!told.contains("t0ken") && !told.contains("MfKQ"), "{told}");
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_unresolved() {
    // A label of more than 63 letters is refused before any name server is asked.
    let url = format!("http://{}.invalid/", "a".repeat(64));
    let endpoint = endpoint_with(&url, &json!({}));
    let failure = endpoint.send(&MESSAGE, now()).await.unwrap_err();
    assert!(
        matches!(failure, WebhookFailure::Unresolved { .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn sending_can_be_a_task_of_its_own() {
    fn check(_: impl Future<Output = Result<(), WebhookFailure>> + Send) {}
    check(endpoint(1).send(&MESSAGE, now()));
}

#[tokio::test]
async fn an_id_that_is_no_id_is_not_sent() {
    let long = "x".repeat(129);
    for id in ["", "a.b", "a b", "a\r\nb: c", "é", &long] {
        let message = WebhookMessage { id, ..MESSAGE };
        let failure = endpoint(1).send(&message, now()).await.unwrap_err();
        assert!(matches!(failure, WebhookFailure::BadMessageId), "{id}");
    }
}

#[tokio::test]
async fn a_certificate_counts_only_if_it_is_trusted_and_for_the_host() {
    for (name, is_trusted, is_delivered) in [
        ("localhost", true, true),
        ("elsewhere.example", true, false),
        ("localhost", false, false),
    ] {
        let (port, received, roots) = tls_receiver(name);
        let mut endpoint = endpoint_with(&format!("https://localhost:{port}/"), &json!({}));
        if is_trusted {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            endpoint.tls = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        }
        match endpoint.send(&MESSAGE, now()).await {
            Ok(()) => assert_eq!(received.recv().unwrap().body, MESSAGE.body),
            Err(failure) => assert!(
                !is_delivered && matches!(failure, WebhookFailure::Unreachable { .. }),
                "{name}: {failure:?}"
            ),
        }
        assert!(received.recv().is_err(), "{name}: nothing more arrives");
    }
}
