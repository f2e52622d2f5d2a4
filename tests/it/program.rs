//! Runs the program itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::wait_until;

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless the program ended with `code` and wrote `words` somewhere.
    pub(crate) fn expect(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(
            self.out.contains(words) || self.err.contains(words),
            "no `{words}` in {self:?}"
        );
    }
}

/// The program with `arguments`, and an environment that says nothing of it or of colours.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.env_clear().env("TERM", "xterm-256color");
    // Programs side by side would want the same files; a test of approvals or of the log names some of its own.
    command.env("COUNTERSIGN_APPROVALS__STORE", "none");
    command.env("COUNTERSIGN_AUDIT__ENABLED", "false");
    // A test of who may call says so itself.
    command.env("COUNTERSIGN_IDENTITY__UNAUTHENTICATED_CALLERS", "true");
    command
}

pub(crate) fn countersign(arguments: &[&str]) -> Run {
    run(&mut command(arguments), "")
}

/// Runs `command` with `input` on its standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Run {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A program that does not read its input may have ended before this is written.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// `countersign serve` in a process of its own, which ends with this value.
pub(crate) struct Served {
    child: Child,
    /// What it said about itself when it was ready.
    pub(crate) announced: serde_json::Value,
}

impl Served {
    /// Serves `policies` on a free port, with more `arguments`.
    pub(crate) fn start(policies: &Path, arguments: &[&str]) -> Self {
        let policies = policies.to_str().unwrap();
        let mut all = vec!["serve", "--policies", policies, "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        Self::spawn(&mut command(&all))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut first_line)
            .unwrap();
        match serde_json::from_str(&first_line) {
            Ok(announced) => Self { child, announced },
            Err(error) => {
                child.kill().ok();
                let output = child.wait_with_output().unwrap();
                panic!(
                    "{error}: {first_line:?}, {}",
                    String::from_utf8_lossy(&output.stderr)
                )
            }
        }
    }

    pub(crate) fn address(&self) -> &str {
        self.announced["listening"][0].as_str().unwrap()
    }

    /// Sends a signal by its short name, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        // A shell has `kill` built in; the program of that name may be missing.
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &id])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end, and tells the exit code with what was written to standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        wait_until("the server has ended", || !self.is_running());
        let code = self.child.wait().unwrap().code();
        let mut err = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        (code, err)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ends at once if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
