//! `countersign serve`: configuration, announcements, signals.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::runtime::Runtime;

use crate::folder::Folder;
use crate::harness::wait_until;
use crate::program::{Served, command, countersign, run};
use crate::wire::AUTHORIZE;

fn file(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.beside(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The version that a server decides with.
fn version(served: &Served) -> String {
    let words = [
        "--principal",
        "User::\"ada\"",
        "--action",
        "RunScript",
        "--resource",
        "HostGroup::\"none\"",
    ];
    let context = r#"{"script_sha256":"5f","reviewed":true,"as_root":false,"destructive":false,"hosts":[],"host_count":0}"#;
    let ask = [
        "authorize",
        "--server",
        served.address(),
        "--format",
        "json",
        "--context",
        context,
    ];
    countersign(&[&ask[..], &words].concat()).json()["policy_version"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn the_effective_configuration_is_shown_and_can_be_read_back() {
    let folder = Folder::of(&[]);
    let given = file(
        &folder,
        "given.toml",
        "[server]\nthreads = 3\nmax_connections = 7\n[policy]\ndir = \"/given\"\n",
    );
    let mut checked = command(&[
        "serve",
        "--check-config",
        "--config",
        &given,
        "--threads",
        "5",
    ]);
    let shown = run(
        checked
            .env("COUNTERSIGN_POLICY__DIR", "/variable")
            .env("COUNTERSIGN_SERVER__THREADS", "4"),
        "",
    );
    shown.expect(0, "threads = 5\nmax_connections = 7\n");
    shown.expect(0, "dir = \"/variable\"\n");
    let shown_again = file(&folder, "shown.toml", &shown.out);
    assert_eq!(
        countersign(&["serve", "--check-config", "--config", &shown_again]).out,
        shown.out
    );
}

#[test]
fn a_configuration_that_is_not_right_is_refused_with_the_place() {
    let folder = Folder::of(&[]);
    let misspelt = file(&folder, "a.toml", "[server]\nthreds = 3\n");
    let unreadable = file(&folder, "b.toml", "[server\n");
    let impossible = file(&folder, "c.toml", "[policy]\nposture = \"lax\"\n");
    let idle = file(&folder, "d.toml", "[server]\nlisten = []\n");
    for (path, words) in [
        (
            misspelt.as_str(),
            "line 2, column 1: unknown field `threds`",
        ),
        (&unreadable, "line 1, column 8"),
        (
            &impossible,
            "`policy.posture`: `lax` is not one of `strict`, `cedar`",
        ),
        (&idle, "neither an address nor a unix socket"),
        ("/nowhere.toml", "`/nowhere.toml` cannot be read"),
    ] {
        let checked = countersign(&["serve", "--check-config", "--config", path]);
        checked.expect(2, words);
        countersign(&["serve", "--config", path]).expect(2, words);
        assert_eq!(checked.out, "");
    }
    for (name, value, words) in [
        ("COUNTERSIGN_SERVER__THREDS", "3", "threds"),
        (
            "COUNTERSIGN_THREADS",
            "3",
            "`COUNTERSIGN_THREADS` names no key",
        ),
        ("COUNTERSIGN_SERVER__THREADS", "many", "`server.threads`"),
        (
            "COUNTERSIGN_SERVER__DRAIN_TIMEOUT",
            "0s",
            "`server.drain_timeout`",
        ),
    ] {
        run(command(&["serve", "--check-config"]).env(name, value), "").expect(2, words);
    }
}

#[test]
fn development_stays_on_loopback() {
    let refusal = "`--dev` listens on loopback only, and `0.0.0.0:0` is not";
    countersign(&["serve", "--dev", "--listen", "0.0.0.0:0"]).expect(2, refusal);
    let by_variable = (
        "COUNTERSIGN_SERVER__LISTEN",
        "[\"127.0.0.1:0\", \"0.0.0.0:0\"]",
    );
    run(
        command(&["serve", "--dev"]).env(by_variable.0, by_variable.1),
        "",
    )
    .expect(2, refusal);
}

#[test]
fn development_needs_no_file_at_all() {
    let folder = Folder::of(&[]);
    let mut dev = command(&["serve", "--dev", "--listen", "127.0.0.1:0"]);
    let empty = folder.beside("empty");
    fs::create_dir(&empty).unwrap();
    let served = Served::spawn(dev.current_dir(empty));
    assert_eq!(version(&served), served.announced["policy_version"]);
    served.signal("TERM");
    let (code, err) = served.end();
    assert_eq!(code, Some(0));
    assert!(
        err.contains("development: loopback only, callers are not authenticated"),
        "{err}"
    );
    assert!(err.contains("the sample set inside the program"), "{err}");
}

#[test]
fn a_server_without_policies_starts_and_says_what_is_wrong() {
    let folder = Folder::of(&[(
        "a.cedar",
        "permit (principal, action, resource) when { context. };\n",
    )]);
    let served = Served::start(&folder.path(), &[]);
    assert_eq!(served.announced["policy_version"], serde_json::Value::Null);
    let words = [
        "--principal",
        "User::\"ada\"",
        "--action",
        "Fly",
        "--resource",
        "Team::\"ml\"",
    ];
    countersign(&[&["authorize", "--server", served.address()], &words[..]].concat())
        .expect(2, "NO_POLICIES");
    served.signal("TERM");
    let (code, err) = served.end();
    assert_eq!(code, Some(0));
    assert!(err.contains(" --> a.cedar:1:54"), "{err}");
}

#[test]
fn a_weak_posture_is_told_at_the_start() {
    let folder = Folder::of(&[("a.cedar", "permit (principal, action, resource);\n")]);
    let served = Served::start(&folder.path(), &["--posture", "cedar"]);
    served.signal("INT");
    let (code, err) = served.end();
    assert_eq!(code, Some(0));
    assert!(
        err.contains("posture cedar: policies that cannot be evaluated are skipped"),
        "{err}"
    );
    assert!(!err.contains('\u{1b}'), "{err}");
}

#[test]
fn a_hang_up_reloads_what_watching_does_not_see() {
    let folder = Folder::sample();
    let elsewhere = folder.beside("compute.cedar");
    fs::rename(folder.path().join("compute.cedar"), &elsewhere).unwrap();
    symlink(&elsewhere, folder.path().join("compute.cedar")).unwrap();
    let served = Served::start(&folder.path(), &[]);
    let before = version(&served);
    fs::OpenOptions::new()
        .append(true)
        .open(&elsewhere)
        .unwrap()
        .write_all(b"// More.\n")
        .unwrap();
    assert_eq!(version(&served), before);
    served.signal("HUP");
    wait_until("another version is in force", || version(&served) != before);
}

#[test]
fn both_signals_to_stop_end_it_in_order() {
    for signal in ["TERM", "INT"] {
        let folder = Folder::sample();
        let socket = folder.beside("pdp.sock");
        let served = Served::start(&folder.path(), &["--unix", socket.to_str().unwrap()]);
        assert_eq!(
            served.announced["unix"].as_str().map(Path::new),
            Some(socket.as_path())
        );
        let silent = TcpStream::connect(served.address()).unwrap();
        served.signal(signal);
        let (code, err) = served.end();
        assert_eq!(code, Some(0), "{signal}: {err}");
        assert!(!socket.exists());
        drop(silent);
    }
}

#[test]
fn a_second_signal_to_stop_cuts_off_what_is_under_way() {
    let folder = Folder::sample();
    let config = file(&folder, "c.toml", "[server]\ndrain_timeout = \"1h\"\n");
    let served = Served::start(&folder.path(), &["--config", &config]);
    let runtime = Runtime::new().unwrap();
    // A client that begins a call and does not finish it.
    let (call, requests) = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(served.address())
            .await
            .unwrap();
        let (requests, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        runtime.spawn(connection);
        let mut requests = requests.ready().await.unwrap();
        let call = http::Request::post(format!("http://{}{AUTHORIZE}", served.address()))
            .body(())
            .unwrap();
        let call = requests.send_request(call, false).unwrap();
        let requests = requests.ready().await.unwrap();
        // Once it is answered the server has read what was sent before it: the call is under way.
        pings.ping(h2::Ping::opaque()).await.unwrap();
        (call, requests)
    });
    served.signal("TERM");
    wait_until("the client is asked to leave", || {
        runtime.block_on(requests.clone().ready()).is_err()
    });
    served.signal("TERM");
    let (code, err) = served.end();
    assert_eq!(code, Some(0));
    assert!(err.contains("connections were cut off"), "{err}");
    drop(call);
}

#[test]
fn what_stands_in_its_way_is_named_with_the_reason() {
    let folder = Folder::sample();
    let served = Served::start(&folder.path(), &[]);
    let second = countersign(&["serve", "--dev", "--listen", served.address()]);
    second.expect(
        2,
        &format!(
            "cannot listen on `{}`: Address already in use",
            served.address()
        ),
    );
}

#[test]
fn logs_for_programs_are_json() {
    let folder = Folder::sample();
    let config = file(&folder, "c.toml", "[log]\nformat = \"json\"\n");
    let served = Served::start(&folder.path(), &["--config", &config]);
    served.signal("TERM");
    let (_, err) = served.end();
    let events: Vec<serde_json::Value> = err
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let in_force = events
        .iter()
        .find(|event| event["message"] == "policies are in force")
        .unwrap();
    assert_eq!(
        (in_force["level"].as_str(), in_force["entities"].as_u64()),
        (Some("INFO"), Some(53))
    );
}
