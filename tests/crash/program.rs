//! The program in a process of its own, and the folder that outlives it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use countersign::grpc::client::{ClientTls, connect};
use rusqlite::Connection;
use tempfile::TempDir;
use tonic::transport::Channel;

const SCHEMA: &str = r#"
entity User;
entity Agent { owner: User };
entity Thing;
action "Spend" appliesTo { principal: Agent, resource: Thing, context: { number: Long } };
"#;
const POLICIES: &str = r#"
@id("agents-spend")
permit (principal is Agent, action == Action::"Spend", resource);

@id("spending-needs-two")
@approval("two")
forbid (principal, action == Action::"Spend", resource);

@id("anybody-approves")
permit (principal, action == Countersign::Action::"Approve", resource)
when { context.rule == "two" };
"#;
const RULES: &str = "[rule.two]\ntitle = \"Two people\"\napprovals = 2\nexpires_after = \"24h\"\nredeem_within = \"24h\"\nnotify = [\"webhook:nowhere\"]\n";
const ENTITIES: &str = r#"[
  { "uid": { "type": "User", "id": "olga" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "User", "id": "ann" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "User", "id": "bob" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Agent", "id": "bot" }, "attrs": { "owner": { "type": "User", "id": "olga" } }, "parents": [] },
  { "uid": { "type": "Thing", "id": "budget" }, "attrs": {}, "parents": [] }
]"#;
const CONFIG: &str = "[approvals]\npending_per_requester = 4000000000\nopened_per_minute = 4000000000\n\
    [identity]\ndevelopment_logins = true\nunauthenticated_callers = true\n[policy]\nshadow_one_in = 0\n[log]\nfilter = \"error\"\n";
const FILE: &str = "approvals.sqlite";

/// A folder with policies and the file of approvals; goes away with this value.
pub(crate) struct Place {
    folder: TempDir,
    program: PathBuf,
}

impl Place {
    /// A folder for `program`, or for the one that was built with this test.
    pub(crate) fn new(program: Option<PathBuf>) -> Self {
        let built = env!("CARGO_BIN_EXE_countersign");
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            program: program.unwrap_or_else(|| built.into()),
        };
        for folder in ["policies/entities", "copy"] {
            fs::create_dir_all(place.path(folder)).unwrap();
        }
        for (file, text) in [
            ("policies/schema.cedarschema", SCHEMA),
            ("policies/a.cedar", POLICIES),
            ("policies/approvals.toml", RULES),
            ("policies/entities/all.json", ENTITIES),
            ("config.toml", CONFIG),
        ] {
            fs::write(place.path(file), text).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Verifies the audit log, the heads that were kept of it and the database together; says how many approvals it has.
    pub(crate) fn assert_log_intact(&self) -> String {
        let verified = Command::new(&self.program)
            .env_clear()
            .args(["audit", "verify", "--approvals"])
            .arg(self.path(FILE))
            .arg("--heads")
            .arg(self.path("heads.txt"))
            .arg(self.path("audit"))
            .output()
            .unwrap();
        let text = String::from_utf8(verified.stdout).unwrap();
        assert!(verified.status.success(), "{text}");
        let replayed = text.lines().find(|line| line.contains("replayed"));
        replayed.unwrap_or_default().to_owned()
    }

    fn spawn(&self) -> Child {
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--threads", "2"])
            .arg("--policies")
            .arg(self.path("policies"))
            .arg("--config")
            .arg(self.path("config.toml"));
        command
            .env_clear()
            .env("COUNTERSIGN_APPROVALS__PATH", self.path(FILE))
            .env("COUNTERSIGN_AUDIT__PATH", self.path("audit"))
            .env("COUNTERSIGN_AUDIT__HEADS", self.path("heads.txt"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        command.spawn().unwrap()
    }

    /// Starts the program and kills it before it can be of use, or shortly after.
    pub(crate) fn kill_while_starting(&self, life: Duration) {
        let mut child = self.spawn();
        std::thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Checks a copy of the file as it was left behind: the program itself must find it as it is.
    pub(crate) fn assert_sound(&self) {
        for suffix in ["", "-wal"] {
            let copy = self.path(&format!("copy/{FILE}{suffix}"));
            let original = self.path(&format!("{FILE}{suffix}"));
            if original.exists() {
                fs::copy(original, copy).unwrap();
            } else {
                fs::remove_file(copy).ok();
            }
        }
        // Made anew from the log.
        fs::remove_file(self.path(&format!("copy/{FILE}-shm"))).ok();
        let connection = Connection::open(self.path(&format!("copy/{FILE}"))).unwrap();
        let answer: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(answer, "ok");
        let broken = connection
            .prepare("PRAGMA foreign_key_check")
            .unwrap()
            .exists([])
            .unwrap();
        assert!(!broken, "a row refers to one that is not there");
    }
}

/// The program while it serves; killed with this value.
pub(crate) struct Program {
    child: Child,
    address: String,
}

impl Program {
    pub(crate) fn start(place: &Place) -> Self {
        let mut child = place.spawn();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let announced: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(announced["policy_version"].is_string(), "{line}");
        let address = announced["listening"][0].as_str().unwrap().to_owned();
        Self { child, address }
    }

    pub(crate) async fn connect(&self) -> Channel {
        connect(&self.address, &ClientTls::default()).await.unwrap()
    }

    /// SIGKILL: the program gets no chance to do anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
