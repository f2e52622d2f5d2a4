//! A receiver of webhooks that checks what it gets, and others that are not there.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::channel::WebhookConfig;
use countersign::config::Config;
use countersign::grpc::proto::{ApprovalStatus, Decision};
use hmac::{Hmac, KeyInit, Mac};
use jiff::SignedDuration;
use serde_json::Value;
use sha2::Sha256;
use tokio::time::Instant;

use crate::approvals_support::{grant, told_to_soc};
use crate::harness::{LIMIT, Pdp, wait_until};

/// 24 bytes, as Standard Webhooks writes them.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What one request of a webhook said.
#[derive(Clone, Debug)]
struct Message {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.trim())
    }

    fn id(&self) -> &str {
        self.header("webhook-id")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The type of the event, the version and the status.
    fn told(&self) -> (String, u64, String) {
        let json = self.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let version = json["data"]["version"].as_u64().unwrap();
        (text(&json["type"]), version, text(&json["data"]["status"]))
    }

    /// Whether one of the signatures is that of the exact bytes by `secret`, as Standard Webhooks 1.0.0 has it.
    fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let timestamp = self.header("webhook-timestamp");
        mac.update(format!("{}.{timestamp}.", self.id()).as_bytes());
        mac.update(&self.body);
        self.header("webhook-signature")
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .filter_map(|signature| STANDARD.decode(signature).ok())
            .any(|signature| mac.clone().verify_slice(&signature).is_ok())
    }

    /// How old it is by the clock of this machine, in seconds.
    fn age(&self) -> i64 {
        let now = std::process::Command::new("date")
            .arg("+%s")
            .output()
            .unwrap();
        let now: i64 = String::from_utf8(now.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        now - self.header("webhook-timestamp").parse::<i64>().unwrap()
    }
}

/// Listens on a free port; ends with the process.
struct Receiving {
    address: SocketAddr,
    messages: Mutex<Receiver<Message>>,
    /// How many of the next requests are answered with 500.
    failures: Arc<AtomicU32>,
}

impl Receiving {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, messages) = channel();
        let failures = Arc::new(AtomicU32::new(0));
        let left = Arc::clone(&failures);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (sender, left) = (sender.clone(), Arc::clone(&left));
                std::thread::spawn(move || serve(&stream.unwrap(), &sender, &left));
            }
        });
        Self {
            address,
            messages: Mutex::new(messages),
            failures,
        }
    }

    fn next(&self) -> Message {
        self.messages.lock().unwrap().recv_timeout(LIMIT).unwrap()
    }

    fn assert_silent(&self, time: Duration) {
        let next = self.messages.lock().unwrap().recv_timeout(time);
        assert!(matches!(next, Err(RecvTimeoutError::Timeout)), "{next:?}");
    }
}

/// Reads one request and answers it.
fn serve(stream: &TcpStream, sender: &Sender<Message>, failures: &AtomicU32) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert!(first.starts_with("POST /hook?token=t "), "{first}");
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let fails = failures
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .is_ok();
    sender.send(Message { headers, body }).ok();
    let status = if fails {
        "500 Internal Server Error"
    } else {
        "204 No Content"
    };
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let mut stream = stream;
    // Whoever asked may have gone.
    stream.write_all(answer.as_bytes()).ok();
}

/// Tells `webhook:soc` at `address`.
fn telling(config: &mut Config, address: SocketAddr) {
    let soc = WebhookConfig {
        url: format!("http://{address}/hook?token=t").into(),
        secret: Some(SECRET.to_owned().into()),
        secret_file: None,
        previous_secret: None,
        previous_secret_file: None,
        allow_private_addresses: true,
        allow_http: true,
        timeout: SignedDuration::from_secs(1),
    };
    config.channels.webhook.insert("soc".to_owned(), soc);
}

fn serving(address: SocketAddr) -> Pdp {
    Pdp::try_keep(told_to_soc(), |config| telling(config, address)).unwrap()
}

#[test]
fn each_version_is_told_signed_and_in_order() {
    let soc = Receiving::start();
    let pdp = serving(soc.address);
    let opened = pdp.open(grant());
    let first = soc.next();
    let told =
        |kind: &str, version: u64, status: &str| (kind.to_owned(), version, status.to_owned());
    assert_eq!(first.told(), told("approval.opened", 1, "PENDING"));
    assert_eq!(first.id(), format!("{}_1", opened.id));
    assert_eq!(first.header("content-type"), "application/json");
    let data = &first.json()["data"];
    assert_eq!(data["id"], opened.id.as_str());
    assert_eq!(data["view_digest"], opened.view_digest.as_str());
    assert_eq!(data["justification_unverified"], "Lee is on call tonight.");
    let approved = pdp.approve("omar", &opened);
    let second = soc.next();
    assert_eq!(
        second.told(),
        told("approval.changed", approved.version, "APPROVED")
    );
    assert_eq!(
        second.json()["data"]["votes"][0]["person"],
        "User::\"omar\""
    );
    assert_eq!(pdp.redeem(&opened, grant()).decision(), Decision::Allow);
    let third = soc.next();
    let (kind, version, status) = third.told();
    assert_eq!(
        (kind.as_str(), status.as_str()),
        ("approval.changed", "REDEEMED")
    );
    assert!(version > approved.version);
    for message in [first, second, third] {
        assert!(message.is_signed_by(SECRET), "{message:?}");
        assert!(!message.is_signed_by("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
        let forged = Message {
            body: [&message.body[..], b" "].concat(),
            ..message.clone()
        };
        assert!(!forged.is_signed_by(SECRET));
        assert!(message.age().abs() <= 60, "{message:?}");
    }
    soc.assert_silent(Duration::from_secs(2));
    assert_eq!(pdp.get(&opened.id).unwrap().failed_notifications, []);
}

#[test]
fn what_was_not_taken_is_told_again_under_the_same_id() {
    let soc = Receiving::start();
    soc.failures.store(1, Ordering::SeqCst);
    let pdp = serving(soc.address);
    let opened = pdp.open(grant());
    let refused = soc.next();
    let start = Instant::now();
    wait_until("the failure is shown", || {
        let failed = pdp.get(&opened.id).unwrap().failed_notifications;
        failed
            .iter()
            .any(|each| each.destination == "webhook:soc" && !each.given_up)
    });
    let failed = pdp.get(&opened.id).unwrap().failed_notifications;
    assert!(failed[0].error.contains("500"), "{failed:?}");
    // The token of the URL is nobody's business.
    assert!(!failed[0].error.contains("token"), "{failed:?}");
    let taken = soc.next();
    let after = start.elapsed();
    assert_eq!(taken.id(), refused.id());
    assert!(taken.is_signed_by(SECRET));
    assert!(
        after > Duration::from_secs(4) && after < Duration::from_secs(9),
        "{after:?}"
    );
    wait_until("the failure is forgotten", || {
        pdp.get(&opened.id).unwrap().failed_notifications.is_empty()
    });
}

#[test]
fn a_receiver_that_is_not_there_is_shown_and_keeps_nobody_waiting() {
    // A port that nobody listens on.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_lives_without(address);
}

#[test]
fn a_receiver_that_never_answers_is_shown_and_keeps_nobody_waiting() {
    // Connections are taken by the system and never looked at.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_lives_without(listener.local_addr().unwrap());
}

fn assert_lives_without(address: SocketAddr) {
    let pdp = serving(address);
    let start = Instant::now();
    let opened = pdp.open(grant());
    let approved = pdp.approve("priya", &opened);
    assert_eq!(approved.status(), ApprovalStatus::Approved);
    assert_eq!(pdp.redeem(&opened, grant()).decision(), Decision::Allow);
    let took = start.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}");
    wait_until("the failure is shown", || {
        let failed = pdp.get(&opened.id).unwrap().failed_notifications;
        failed.iter().any(|each| each.destination == "webhook:soc")
    });
    let failed = pdp.get(&opened.id).unwrap().failed_notifications;
    assert!(!failed[0].error.contains("token"), "{failed:?}");
}

#[test]
fn a_place_that_is_not_configured_is_shown() {
    let pdp = Pdp::keeping();
    let opened = pdp.open(grant());
    wait_until("both are shown", || {
        pdp.get(&opened.id).unwrap().failed_notifications.len() == 2
    });
    let failed = pdp.get(&opened.id).unwrap().failed_notifications;
    let mut places: Vec<(&str, bool)> = failed
        .iter()
        .map(|each| (each.destination.as_str(), each.given_up))
        .collect();
    places.sort_unstable();
    assert_eq!(places, [("teams:security", true), ("webhook:soc", true)]);
}

#[test]
fn what_could_not_be_told_is_told_after_a_restart() {
    let soc = Receiving::start();
    soc.failures.store(1, Ordering::SeqCst);
    let pdp = serving(soc.address);
    let opened = pdp.open(grant());
    soc.next();
    wait_until("the failure is kept", || {
        !pdp.get(&opened.id).unwrap().failed_notifications.is_empty()
    });
    let address = soc.address;
    let pdp = Pdp::try_keep(pdp.into_folder(), |config| telling(config, address)).unwrap();
    assert_eq!(soc.next().id(), format!("{}_1", opened.id));
    drop(pdp);
}
