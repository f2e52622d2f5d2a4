//! The audit log as those see it who serve, decide, approve and verify: the program, its folders, its commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::folder::Folder;
use crate::harness::wait_until;
use crate::program::{Run, Served, command, countersign, run};

const CONTEXT: &str = r#"{"version":"2.5.0","migration":false,"provenance":{"builder":"github-actions","commit":"61d0e42"}}"#;
const SMALL: &str = r#"{"instance_type":"t3.small","count":2,"hourly_cost_cents":4,"region":"eu-central-1","public_ip":false}"#;

/// A server that records what it decides, in folders of its own.
struct Audited {
    folder: Folder,
    served: Option<Served>,
    more: Vec<(&'static str, String)>,
}

impl Audited {
    fn start() -> Self {
        Self::started(Vec::new())
    }

    fn started(more: Vec<(&'static str, String)>) -> Self {
        let mut audited = Self {
            folder: Folder::sample(),
            served: None,
            more,
        };
        audited.serve();
        audited
    }

    fn serve(&mut self) {
        self.served = Some(Served::spawn(&mut self.to_serve()));
    }

    /// The server, not started yet.
    fn to_serve(&self) -> Command {
        let policies = self.folder.path();
        let mut serve = command(&[
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--policies",
            policies.to_str().unwrap(),
        ]);
        serve.envs(self.environment());
        serve
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.folder.beside(name).to_str().unwrap().to_owned();
        let mut environment = vec![
            ("COUNTERSIGN_APPROVALS__STORE", "sqlite".to_owned()),
            ("COUNTERSIGN_APPROVALS__PATH", path("approvals.sqlite")),
            ("COUNTERSIGN_AUDIT__ENABLED", "true".to_owned()),
            ("COUNTERSIGN_AUDIT__PATH", path("audit")),
            ("COUNTERSIGN_AUDIT__HEADS", path("heads.txt")),
        ];
        environment.extend(self.more.iter().cloned());
        environment
    }

    fn served(&self) -> &Served {
        self.served.as_ref().unwrap()
    }

    fn audit(&self) -> PathBuf {
        self.folder.beside("audit")
    }

    fn stop(&mut self) -> String {
        let served = self.served.take().unwrap();
        served.signal("TERM");
        let (code, err) = served.end();
        assert_eq!(code, Some(0), "{err}");
        err
    }

    /// Ends the server as a power cut would.
    fn kill(&mut self) {
        let served = self.served.take().unwrap();
        served.signal("KILL");
        served.end();
    }

    fn ask(&self, principal: &str, what: &[&str]) -> Run {
        let address = self.served().address();
        let words = ["authorize", "--server", address, "--principal", principal];
        countersign(&[&words[..], what].concat())
    }

    fn start_instances(&self) -> Run {
        let resource = "Environment::\"dev\"";
        let what = ["--action", "StartInstances", "--resource", resource];
        let what = [&what[..], &["--context", SMALL, "--format", "json"]].concat();
        self.ask("Agent::\"capacity-bot\"", &what)
    }

    fn deploy(&self, more: &[&str]) -> Run {
        let resource = "Service::\"payments-api\"";
        let what = ["--action", "Deploy", "--resource", resource];
        let words = ["--context", CONTEXT, "--justification", "Release 2.5.0"];
        let what = [&what[..], &words, &["--format", "json"], more].concat();
        self.ask("Agent::\"deploy-bot\"", &what)
    }

    fn approvals(&self, words: &[&str]) -> Run {
        let first = ["approvals", "--server", self.served().address()];
        countersign(&[&first[..], words].concat())
    }

    /// An action that two people approved and that ran: its approval and its decision.
    fn approved_deployment(&self) -> (String, String) {
        let asked = self.deploy(&[]);
        assert_eq!(asked.code, 4, "{asked:?}");
        let id = asked.json()["approval"]["id"].as_str().unwrap().to_owned();
        self.approvals(&["approve", &id, "--as", "sofia", "--yes"])
            .expect(1, "OWN_REQUEST");
        for name in ["yuki", "sam"] {
            self.approvals(&["approve", &id, "--as", name, "--yes"])
                .expect(0, "");
        }
        let allowed = self.deploy(&["--approval-id", &id]);
        assert_eq!(allowed.code, 0, "{allowed:?}");
        let decision = allowed.json()["decision_id"].as_str().unwrap().to_owned();
        (id, decision)
    }

    fn key(&self) -> String {
        let listed = countersign(&["audit", "keys", "--dir", self.audit().to_str().unwrap()]);
        listed.expect(0, "+");
        listed.out.lines().last().unwrap().to_owned()
    }

    /// `audit verify` with everything there is to compare with.
    fn verify(&self) -> Run {
        let path = |name: &str| self.folder.beside(name).to_str().unwrap().to_owned();
        let (heads, database, audit) = (path("heads.txt"), path("approvals.sqlite"), path("audit"));
        countersign(&[
            "audit",
            "verify",
            "--format",
            "json",
            "--key",
            &self.key(),
            "--heads",
            &heads,
            "--approvals",
            &database,
            &audit,
        ])
    }

    fn assert_intact(&self) -> serde_json::Value {
        let verified = self.verify();
        assert_eq!(verified.code, 0, "{}\n{}", verified.out, verified.err);
        verified.json()
    }
}

#[test]
fn an_approved_action_is_proved() {
    let mut audited = Audited::start();
    let plain = audited.start_instances();
    assert_eq!(plain.code, 0, "{plain:?}");
    let (approval, decision) = audited.approved_deployment();

    // Beside the running server as well as after its end.
    wait_until("the log is signed", || audited.verify().code == 0);
    let address = audited.served().address().to_owned();
    let show = || {
        countersign(&[
            "audit", "show", &decision, "--server", &address, "--as", "dana",
        ])
    };
    // The log is copied and signed once a second.
    wait_until("the whole story is proved", || {
        show().out.contains("7 of 7 records verified here")
    });
    let shown = show();
    for words in [
        "deploy-bot",
        "Release 2.5.0",
        "yuki",
        "sam",
        "sofia",
        "prod-deploy",
    ] {
        shown.expect(0, words);
    }
    let found = countersign(&[
        "audit",
        "query",
        "--approval",
        &approval,
        "--server",
        &address,
        "--as",
        "dana",
        "--format",
        "json",
    ]);
    found.expect(0, &decision);
    countersign(&["audit", "query", "--server", &address]).expect(2, "");

    audited.stop();
    let report = audited.assert_intact();
    assert_eq!(report["approvals"]["redeemed"], 1, "{report}");
    let audit = audited.audit();
    let audit = audit.to_str().unwrap();
    countersign(&["audit", "show", &approval, "--dir", audit]).expect(0, "yuki");
    // That it was read is in the log as well.
    let reads = countersign(&[
        "audit", "query", "--log", "control", "--dir", audit, "--format", "json",
    ]);
    reads.expect(0, "dana");
}

#[test]
fn a_changed_vote_is_found_in_the_log_and_in_the_database() {
    let mut audited = Audited::start();
    audited.approved_deployment();
    audited.stop();
    audited.assert_intact();
    let database = audited.folder.beside("approvals.sqlite");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.execute_batch("DROP TRIGGER votes_change_to_no_only; DROP TRIGGER votes_in_time_update; DROP TRIGGER votes_changed_are_kept;").unwrap();
    let changed = connection.execute("UPDATE votes SET person = 'User::\"eve\"', account = 'User::\"eve\"' WHERE person LIKE '%yuki%'", []);
    assert_eq!(changed.unwrap(), 1);
    drop(connection);
    let verified = audited.verify();
    assert_eq!(verified.code, 1, "{verified:?}");
    verified.expect(1, "vote");

    let tail = audited.audit().join("control/tail");
    let mut bytes = fs::read(&tail).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&tail, bytes).unwrap();
    assert_eq!(audited.verify().code, 1);
}

#[test]
fn a_killed_server_says_how_much_may_be_missing() {
    let mut audited = Audited::start();
    for _ in 0..3 {
        audited.start_instances().expect(0, "");
    }
    let (approval, _) = audited.approved_deployment();
    audited.kill();
    audited.serve();
    audited.start_instances().expect(0, "");
    // What was approved is not approved twice.
    let again = audited.deploy(&["--approval-id", &approval]);
    assert_eq!(again.code, 3, "{again:?}");
    audited.stop();
    let report = audited.assert_intact().to_string();
    assert!(report.contains("lost"), "{report}");
}

#[test]
fn a_database_that_was_set_back_stops_all_decisions() {
    let mut audited = Audited::start();
    audited.approved_deployment();
    audited.stop();
    let (database, kept) = (
        audited.folder.beside("approvals.sqlite"),
        audited.folder.beside("kept.sqlite"),
    );
    fs::copy(&database, &kept).unwrap();
    audited.serve();
    audited.approved_deployment();
    audited.stop();
    for extension in ["sqlite-wal", "sqlite-shm"] {
        fs::remove_file(database.with_extension(extension)).ok();
    }
    fs::copy(&kept, &database).unwrap();
    run(&mut audited.to_serve(), "").expect(2, "set back");
}

#[test]
fn keys_are_replaced_without_a_gap() {
    let mut audited = Audited::start();
    audited.start_instances().expect(0, "");
    audited.stop();
    let first = audited.key();
    let audit = audited.audit();
    let audit = audit.to_str().unwrap();
    countersign(&["audit", "keys", "add", "--dir", audit]).expect(0, "+");
    audited.serve();
    audited.start_instances().expect(0, "");
    audited.stop();
    assert_ne!(audited.key(), first);
    audited.assert_intact();
    countersign(&["audit", "keys", "retire", "--dir", audit]).expect(0, &first);
    audited.serve();
    audited.start_instances().expect(0, "");
    audited.stop();
    audited.assert_intact();
    // Whoever knows the first key can still verify: it vouches for the second.
    countersign(&["audit", "verify", "--key", &first, audit]).expect(0, "intact");
    let stranger = "elsewhere/control+deadbeef+AZ2ZM0ZQ69GwDUyO7/x0JyLo09y3geyufyN1mFFMeUH3";
    assert_ne!(
        countersign(&["audit", "verify", "--key", stranger, audit]).code,
        0
    );
    fs::remove_file(Path::new(audit).join("keys/control.key")).unwrap();
    run(&mut audited.to_serve(), "").expect(2, "put the file back");
}

#[test]
fn values_are_kept_out_that_policies_keep_out() {
    let mut audited = Audited::start();
    let secret = r#"
        @id("nothing-with-a-secret")
        @description("Never satisfied; keeps values out of the log.")
        @audit_drop("context.provenance.commit")
        @audit_hmac("context.version")
        forbid (principal == Agent::"nobody", action == Action::"Deploy", resource);
    "#;
    audited.stop();
    audited.folder.write("secrets.cedar", secret);
    audited.serve();
    let (approval, decision) = audited.approved_deployment();
    audited.stop();
    audited.assert_intact();
    let audit = audited.audit();
    let audit = audit.to_str().unwrap();
    let told = countersign(&[
        "audit",
        "query",
        "--approval",
        &approval,
        "--dir",
        audit,
        "--format",
        "json",
    ]);
    told.expect(0, &decision);
    assert!(!told.out.contains("61d0e42"), "{}", told.out);
    assert!(!told.out.contains("\"string\": \"2.5.0\""), "{}", told.out);
    assert!(told.out.contains("github-actions"), "{}", told.out);
    for file in walk(Path::new(audit)) {
        let bytes = fs::read(&file).unwrap();
        let is_there = bytes.windows(7).any(|window| window == b"61d0e42");
        assert!(!is_there, "{}", file.display());
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// A disk of a few megabytes that a test can fill and empty: a file system of its own, in a namespace of its own.
const FULL_DISK: &str = r#"
    set -e
    mount -t tmpfs -o size=6m tmpfs "$DISK"
    dd if=/dev/zero of="$DISK/ballast" bs=1024 count=5300 2>/dev/null
    (while [ ! -e "$OUTSIDE/release" ] && kill -0 $$; do sleep 0.05; done; rm "$DISK/ballast") > /dev/null 2>&1 &
    "$@" &
    server=$!
    echo $server > "$OUTSIDE/pid"
    code=0
    wait $server || code=$?
    cp -r "$DISK/audit" "$OUTSIDE/copy"
    exit $code
"#;

#[test]
fn a_full_disk_denies_and_room_is_all_it_takes() {
    let audited = Audited {
        folder: Folder::sample(),
        served: None,
        more: Vec::new(),
    };
    let outside = audited.folder.beside("outside");
    let disk = audited.folder.beside("disk");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&disk).unwrap();
    let mut serve = Command::new("unshare");
    serve
        .args(["-rm", "sh", "-c", FULL_DISK, "sh"])
        .arg(env!("CARGO_BIN_EXE_countersign"))
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--policies"])
        .arg(audited.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    serve
        .envs(audited.environment())
        .env("COUNTERSIGN_AUDIT__PATH", disk.join("audit"))
        .env("DISK", &disk)
        .env("OUTSIDE", &outside);
    let audited = Audited {
        served: Some(Served::spawn(&mut serve)),
        ..audited
    };
    let allowed = fill(&audited);
    // Nothing is answered that cannot be recorded; the disk is the reason.
    audited.start_instances().expect(2, "recorded");
    fs::write(outside.join("release"), "").unwrap();
    wait_until("the server has recovered by itself", || {
        audited.start_instances().code == 0
    });
    let (_, decision) = audited.approved_deployment();
    let pid = fs::read_to_string(outside.join("pid")).unwrap();
    let sent = Command::new("sh")
        .args(["-c", "kill -s TERM \"$0\"", pid.trim()])
        .status();
    assert!(sent.unwrap().success());
    let (code, err) = audited.served.unwrap().end();
    assert_eq!(code, Some(0), "{err}");
    let copy = outside.join("copy");
    let copy = copy.to_str().unwrap();
    let verified = countersign(&["audit", "verify", copy]);
    verified.expect(0, "intact");
    countersign(&["audit", "show", &decision, "--dir", copy]).expect(0, "yuki");
    // Every answer that was given is there.
    for id in allowed {
        countersign(&["audit", "show", &id, "--dir", copy]).expect(0, &id);
    }
}

/// Decides until the disk is full. Answers a few of the decisions, the last ones among them.
fn fill(audited: &Audited) -> Vec<String> {
    let mut allowed = Vec::new();
    for number in 0..5_000 {
        let resource = "Environment::\"dev\"";
        let words = noise(number);
        let what = [
            "--action",
            "StartInstances",
            "--resource",
            resource,
            "--context",
            SMALL,
        ];
        let what = [&what[..], &["--justification", &words, "--format", "json"]].concat();
        let run = audited.ask("Agent::\"capacity-bot\"", &what);
        if run.code != 0 {
            assert_eq!(run.code, 2, "{run:?}");
            let from = allowed.len() - allowed.len().min(5);
            return allowed.split_off(from);
        }
        allowed.push(run.json()["decision_id"].as_str().unwrap().to_owned());
    }
    panic!("the disk never was full");
}

/// Words that do not compress.
fn noise(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + u8::try_from(state % 26).unwrap())
    };
    (0..3_500).map(|_| letter()).collect()
}

#[test]
fn two_servers_do_not_share_a_folder() {
    let audited = Audited::start();
    let mut second = audited.to_serve();
    second.env(
        "COUNTERSIGN_APPROVALS__PATH",
        audited.folder.beside("other.sqlite"),
    );
    run(&mut second, "").expect(2, "another process");
}
