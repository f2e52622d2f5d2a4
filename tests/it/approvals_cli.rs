//! The tour on the command line: the program serves, an agent asks, people vote.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::time::Duration;

use tokio::time::Instant;

use crate::folder::Folder;
use crate::harness::wait_until;
use crate::program::{Run, Served, command, run};

const CONTEXT: &str = r#"{"version":"2.5.0","migration":false,"provenance":{"builder":"github-actions","commit":"61d0e42"}}"#;
const JUSTIFICATION: &str = "Fixes the crash of the payments page.";

/// A server in a process of its own, with its file of approvals.
struct Tour {
    served: Served,
    _folder: Folder,
}

impl Tour {
    fn start() -> Self {
        let folder = Folder::sample();
        let policies = folder.path();
        let mut serve = command(&[
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--policies",
            policies.to_str().unwrap(),
        ]);
        serve.env("COUNTERSIGN_APPROVALS__STORE", "sqlite").env(
            "COUNTERSIGN_APPROVALS__PATH",
            folder.beside("kept/a.sqlite"),
        );
        serve
            .env("COUNTERSIGN_AUDIT__ENABLED", "true")
            .env("COUNTERSIGN_AUDIT__PATH", folder.beside("kept/audit"))
            .env("COUNTERSIGN_AUDIT__HEADS", folder.beside("heads.txt"));
        Self {
            served: Served::spawn(&mut serve),
            _folder: folder,
        }
    }

    /// The agent asks, with more `arguments`.
    fn asking(&self, arguments: &[&str]) -> Command {
        let words = [
            "authorize",
            "--server",
            self.served.address(),
            "--principal",
            "Agent::\"deploy-bot\"",
            "--action",
            "Deploy",
            "--resource",
            "Service::\"payments-api\"",
            "--context",
            CONTEXT,
        ];
        command(&[&words[..], arguments].concat())
    }

    fn ask(&self, arguments: &[&str]) -> Run {
        let words = [&["--justification", JUSTIFICATION][..], arguments].concat();
        run(&mut self.asking(&words), "")
    }

    /// `countersign approvals`.
    fn approvals(&self, arguments: &[&str]) -> Run {
        run(&mut self.approving(arguments), "")
    }

    fn approving(&self, arguments: &[&str]) -> Command {
        let words = ["approvals", "--server", self.served.address()];
        command(&[&words[..], arguments].concat())
    }

    /// The id of the approval that the agent's request needs.
    fn open(&self) -> String {
        let asked = self.ask(&["--format", "json"]);
        assert_eq!(asked.code, 4, "{asked:?}");
        asked.json()["approval"]["id"].as_str().unwrap().to_owned()
    }

    fn approve(&self, name: &str, id: &str) {
        self.approvals(&["approve", id, "--as", name, "--yes"])
            .expect(0, "");
    }
}

/// A program that goes on while others work; killed with this value.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// The first line of standard output or error that holds `words`.
    fn line(reader: &mut impl BufRead, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let length = reader.read_line(&mut line).unwrap();
            assert!(length > 0, "no `{words}`");
        }
        line
    }

    fn end(&mut self) -> i32 {
        wait_until("the program has ended", || {
            self.0.try_wait().unwrap().is_some()
        });
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn assert_harmless(run: &Run) {
    for text in [&run.out, &run.err] {
        let bad = text
            .chars()
            .find(|c| (c.is_control() && *c != '\n') || is_invisible(*c));
        assert_eq!(bad, None, "{run:?}");
    }
}

/// What turns the writing around, hides it, or shows nothing.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[test]
fn the_tour() {
    let tour = Tour::start();
    let asked = tour.ask(&[]);
    asked.expect(4, "REQUIRE_APPROVAL");
    let id = tour.open();
    asked.expect(4, &id);
    asked.expect(4, "0 of 2");

    let listed = tour.approvals(&["list"]);
    for words in [&id, "PENDING", "0 of 2"] {
        listed.expect(0, words);
    }
    let shown = tour.approvals(&["show", &id]);
    for words in [
        JUSTIFICATION,
        "(unverified)",
        "User::\"sofia\"",
        "prod-deploy-is-reviewed",
        "2.5.0",
        &format!("countersign approvals approve {id}"),
    ] {
        shown.expect(0, words);
    }
    tour.approvals(&["reviewers", &id]).expect(0, "yuki");

    let own = tour.approvals(&["approve", &id, "--as", "sofia", "--yes"]);
    own.expect(1, "OWN_REQUEST");
    tour.approvals(&["approve", &id, "--as", "lee", "--yes"])
        .expect(1, "NOT_ELIGIBLE");
    tour.approvals(&["approve", &id, "--yes"])
        .expect(2, "--as NAME");
    tour.approvals(&["approve", &id, "--as", "yuki"])
        .expect(2, "no terminal");
    tour.approvals(&["approve", &id, "--as", "yuki", "--yes"])
        .expect(0, "1 of 2; still needed: 1 for prod-deploy");
    tour.approvals(&["approve", &id, "--as", "yuki", "--yes"])
        .expect(1, "ALREADY_VOTED");
    tour.ask(&["--approval-id", &id]).expect(4, "1 of 2");
    tour.approvals(&["approve", &id, "--as", "sam", "--yes"])
        .expect(0, "APPROVED");
    tour.ask(&[])
        .expect(4, "repeat the call with --approval-id");

    let allowed = tour.ask(&["--approval-id", &id]);
    allowed.expect(0, "ALLOW");
    allowed.expect(0, "approved by User::\"yuki\", User::\"sam\"");
    tour.ask(&["--approval-id", &id])
        .expect(3, "the approval was already redeemed");
    tour.approvals(&["report", &id, "succeeded", "--detail", "in 40 s"])
        .expect(0, "it was done");
    let shown = tour.approvals(&["show", &id]);
    shown.expect(0, "REDEEMED");
    shown.expect(0, "in 40 s");
    tour.approvals(&["list"])
        .expect(0, "there are no such approvals");
    tour.approvals(&["list", "--all"]).expect(0, "REDEEMED");
    tour.approvals(&["show", "no-such-id"])
        .expect(1, "APPROVAL_NOT_FOUND");
}

#[test]
fn whoever_waits_is_released_by_the_votes_of_others() {
    let tour = Tour::start();
    let start = Instant::now();
    let mut waiting = Running::start(tour.asking(&["--justification", JUSTIFICATION, "--wait"]));
    let mut err = BufReader::new(waiting.0.stderr.take().unwrap());
    let line = Running::line(&mut err, "waiting for approval ");
    let id = line.trim().rsplit_once(' ').unwrap().1.to_owned();
    tour.approve("yuki", &id);
    Running::line(&mut err, "1 of 2");
    assert!(waiting.0.try_wait().unwrap().is_none());
    tour.approve("sam", &id);
    assert_eq!(waiting.end(), 0);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    let mut out = BufReader::new(waiting.0.stdout.take().unwrap());
    Running::line(&mut out, "ALLOW");
    Running::line(&mut out, &id);
    tour.ask(&["--approval-id", &id])
        .expect(3, "already redeemed");
}

#[test]
fn whoever_waits_hears_a_no_and_its_reason() {
    let tour = Tour::start();
    let mut waiting = Running::start(tour.asking(&["--justification", JUSTIFICATION, "--wait"]));
    let mut err = BufReader::new(waiting.0.stderr.take().unwrap());
    let line = Running::line(&mut err, "waiting for approval ");
    let id = line.trim().rsplit_once(' ').unwrap().1.to_owned();
    let deny = [
        "deny",
        &id,
        "--as",
        "yuki",
        "--comment",
        "Use staging first.",
    ];
    tour.approvals(&deny).expect(0, "DENIED");
    assert_eq!(waiting.end(), 3);
    let mut out = BufReader::new(waiting.0.stdout.take().unwrap());
    Running::line(&mut out, "DENY");
    Running::line(&mut out, "Use staging first.");
    let again = tour.ask(&[]);
    again.expect(3, "a reviewer denied this a short while ago");
    tour.approvals(&["show", &id])
        .expect(0, "Use staging first.");
    tour.approvals(&["show", &id, "--wait"]).expect(3, "DENIED");
}

#[test]
fn every_version_is_printed_to_whoever_watches() {
    let tour = Tour::start();
    let id = tour.open();
    let mut watching = Running::start(tour.approving(&["watch", &id]));
    let mut out = BufReader::new(watching.0.stdout.take().unwrap());
    Running::line(&mut out, "PENDING");
    tour.approve("yuki", &id);
    let half = Running::line(&mut out, "1 of 2");
    assert!(half.contains("yuki"), "{half}");
    tour.approve("sam", &id);
    Running::line(&mut out, "APPROVED");
    tour.ask(&["--approval-id", &id]).expect(0, "ALLOW");
    Running::line(&mut out, "REDEEMED");
    assert_eq!(watching.end(), 0);
}

#[test]
fn what_agents_and_people_write_cannot_speak_to_the_terminal() {
    let tour = Tour::start();
    let hostile =
        "fine\u{202e}evil\u{1b}[2J\u{1b}]0;title\u{7}\r\nAPPROVED by everybody\u{200b}\u{9b}31m";
    let asked = run(
        &mut tour.asking(&["--justification", hostile, "--format", "json"]),
        "",
    );
    assert_eq!(asked.code, 4, "{asked:?}");
    let id = asked.json()["approval"]["id"].as_str().unwrap().to_owned();
    let shown = tour.approvals(&["show", &id]);
    shown.expect(0, "⟨U+202E⟩");
    shown.expect(0, "⟨U+001B⟩");
    assert_harmless(&shown);
    let forged = shown
        .out
        .lines()
        .find(|line| line.starts_with("APPROVED by"));
    assert_eq!(forged, None, "{shown:?}");
    assert_harmless(&tour.approvals(&["list"]));
    let deny = ["deny", &id, "--as", "yuki", "--comment", hostile];
    let denied = tour.approvals(&deny);
    denied.expect(0, "DENIED");
    assert_harmless(&denied);
    // Where colours are shown, escapes of the program's own are no reason to let others pass.
    for arguments in [["show", &id], ["watch", &id], ["list", "--all"]] {
        let shown = run(tour.approving(&arguments).env("CLICOLOR_FORCE", "1"), "");
        let has_colours = shown.out.contains("\u{1b}[");
        assert_eq!(has_colours, arguments[0] != "list", "{shown:?}");
        for escape in ["\u{1b}[2J", "\u{1b}]", "\u{7}", "\u{202e}", "\u{9b}"] {
            assert!(!shown.out.contains(escape), "{escape:?}: {shown:?}");
        }
    }
    for run in [
        tour.approvals(&["show", &id]),
        tour.approvals(&["watch", &id]),
        tour.approvals(&["show", hostile]),
        run(
            &mut tour.asking(&["--justification", hostile, "--approval-id", &id]),
            "",
        ),
        run(&mut tour.asking(&["--justification", hostile]), ""),
    ] {
        assert!(!run.out.is_empty() || !run.err.is_empty(), "{run:?}");
        assert_harmless(&run);
    }
}

#[test]
fn a_login_can_come_from_the_environment() {
    let tour = Tour::start();
    let id = tour.open();
    let mut approve = command(&["approvals", "approve", &id, "--yes"]);
    approve
        .env("COUNTERSIGN_SERVER", tour.served.address())
        .env("COUNTERSIGN_LOGIN", "yuki");
    run(&mut approve, "").expect(0, "1 of 2");
}

#[test]
fn a_server_that_is_told_nothing_keeps_approvals_beside_itself() {
    let folder = Folder::of(&[]);
    let mut dev = command(&["serve", "--dev", "--listen", "127.0.0.1:0"]);
    dev.env_remove("COUNTERSIGN_APPROVALS__STORE")
        .current_dir(folder.path());
    let served = Served::spawn(&mut dev);
    let kept = folder.path().join("countersign-data/approvals.sqlite");
    assert!(kept.exists());
    // A second one would not see what the first one does.
    run(&mut dev, "").expect(2, "another process uses the database");
    served.signal("TERM");
    assert_eq!(served.end().0, Some(0));
}
