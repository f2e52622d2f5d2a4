//! `countersign authorize` and `countersign explain`: answers, exit codes, mistakes.

use std::fs;

use serde_json::json;

use crate::folder::{Folder, sample_dir};
use crate::harness::Pdp;
use crate::program::{Run, command, countersign, run};

const START: &str = r#"{"instance_type":"t3.small","count":2,"hourly_cost_cents":4,"region":"eu-central-1","public_ip":false}"#;

/// Where a command decides.
struct Place {
    flags: [String; 2],
    /// Serves while the place is there, if it is a server.
    _pdp: Option<Pdp>,
}

impl Place {
    fn here() -> Self {
        Self {
            flags: ["--policies".to_owned(), sample_dir().display().to_string()],
            _pdp: None,
        }
    }

    fn server() -> Self {
        let pdp = Pdp::sample();
        Self {
            flags: ["--server".to_owned(), pdp.address().to_string()],
            _pdp: Some(pdp),
        }
    }

    fn unix_socket() -> Self {
        let folder = Folder::sample();
        let path = folder.beside("pdp.sock");
        let pdp = Pdp::start_with(folder, |config| config.server.unix = Some(path.clone()));
        Self {
            flags: ["--server".to_owned(), format!("unix:{}", path.display())],
            _pdp: Some(pdp),
        }
    }

    fn arguments<'a>(&'a self, subcommand: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let flags = self.flags.iter().map(String::as_str);
        [subcommand]
            .into_iter()
            .chain(flags)
            .chain(more.iter().copied())
            .collect()
    }

    fn decide(&self, principal: &str, action: &str, resource: &str, more: &[&str]) -> Run {
        let words = [
            "--principal",
            principal,
            "--action",
            action,
            "--resource",
            resource,
        ];
        countersign(&self.arguments("authorize", &[&words, more].concat()))
    }

    fn start_in(&self, environment: &str, more: &[&str]) -> Run {
        let resource = format!("Environment::\"{environment}\"");
        self.decide(
            "Agent::\"capacity-bot\"",
            "StartInstances",
            &resource,
            &[&["--context", START], more].concat(),
        )
    }
}

#[test]
fn each_decision_has_an_exit_code_of_its_own() {
    for place in [Place::here(), Place::server(), Place::unix_socket()] {
        place.start_in("dev", &[]).expect(0, "ALLOW\n");
        place.start_in("prod", &[]).expect(4, "REQUIRE_APPROVAL\n");
        let denied = place.decide("User::\"lee\"", "RunScript", "HostGroup::\"web-dev\"", &[
            "--context",
            r#"{"script_sha256":"5f","reviewed":true,"as_root":false,"destructive":false,"hosts":[],"host_count":0}"#,
        ]);
        denied.expect(3, "DENY  no permit is satisfied\n");
        place
            .decide("User::\"lee\"", "Fly", "HostGroup::\"web-dev\"", &[])
            .expect(2, "no decision: InvalidArgument (UNKNOWN_ACTION)");
    }
}

#[test]
fn an_answer_shows_what_it_rests_on() {
    let run = Place::here().start_in("prod", &[]);
    run.expect(
        4,
        "  gate prod-instances-need-sign-off  Starting instances in production needs a sign-off.\n",
    );
    run.expect(4, "  rule cloud-spend  Cloud spending (1 to approve)\n");
    assert_eq!(run.err, "");
}

#[test]
fn an_answer_for_programs_is_the_json_of_the_api() {
    for place in [Place::here(), Place::server()] {
        let answer = place
            .start_in("prod", &["--format", "json", "--check"])
            .json();
        assert_eq!(answer["decision"], "DECISION_REQUIRE_APPROVAL");
        assert_eq!(
            answer["determining"][0]["id"],
            "prod-instances-need-sign-off"
        );
        assert_eq!(answer["approval"]["requirements"][0]["rule"], "cloud-spend");
    }
}

#[test]
fn a_request_comes_from_a_file_or_from_standard_input() {
    let text = json!({
        "principal": { "type": "Agent", "id": "capacity-bot" },
        "action": "StartInstances",
        "resource": { "type": "Environment", "id": "dev" },
        "context": serde_json::from_str::<serde_json::Value>(START).unwrap(),
        "labels": { "ticket": "OPS-1" },
    })
    .to_string();
    let folder = Folder::of(&[("request.json", &text)]);
    let file = folder.path().join("request.json");
    for place in [Place::here(), Place::server()] {
        countersign(&place.arguments("authorize", &["--request", file.to_str().unwrap()]))
            .expect(0, "ALLOW");
        run(
            &mut command(&place.arguments("authorize", &["--request", "-"])),
            &text,
        )
        .expect(0, "ALLOW");
    }
}

#[test]
fn a_request_that_cannot_be_read_is_told_with_its_place() {
    let place = Place::here();
    let ask = |text: &str| {
        run(
            &mut command(&place.arguments("authorize", &["--request", "-"])),
            text,
        )
    };
    for (text, message) in [
        (
            "{\n  \"action\": \"Deploy\",\n  \"akshun\": 1\n}",
            "`-`: line 3, column 10: unrecognized field name 'akshun'\n",
        ),
        (
            "{\n  \"context\": { \"a\": oops }\n}",
            "`-`: line 2, column 21: expected value\n",
        ),
        ("{} {}", "`-`: line 1, column 4: trailing characters\n"),
        ("", "`-`: line 1, column 0: EOF while parsing a value\n"),
    ] {
        let run = ask(text);
        assert_eq!(
            (run.code, run.out.as_str(), run.err),
            (2, "", format!("error: {message}"))
        );
    }
}

#[test]
fn a_flag_that_cannot_be_read_is_named() {
    let place = Place::here();
    let principal = |text| place.decide(text, "Deploy", "Service::\"search\"", &[]);
    principal("User::ada").expect(
        2,
        "`--principal`: `User::ada` is not an entity: write `Type::\"id\"`",
    );
    for (json, message) in [
        (
            "[1]",
            "`--context` is not a JSON object: line 1, column 0: ",
        ),
        (
            "{\"a\":\n nul}",
            "`--context` is not a JSON object: line 2, column 5: ",
        ),
        ("null", "`--context` is not a JSON object"),
        (
            "{}, \"action\": \"Fly\"",
            "`--context` is not a JSON object: line 1, column 3: ",
        ),
    ] {
        let run = place.decide(
            "User::\"ada\"",
            "Deploy",
            "Service::\"search\"",
            &["--context", json],
        );
        run.expect(2, message);
    }
}

#[test]
fn flags_that_would_be_ignored_are_refused() {
    let place = Place::here();
    for more in [
        ["--context", "{}"],
        ["--justification", "why"],
        ["--principal", "User::\"ada\""],
    ] {
        let run =
            countersign(&place.arguments("authorize", &[&["--request", "-"], &more[..]].concat()));
        run.expect(2, "cannot be used with");
    }
    countersign(&[
        "authorize",
        "--server",
        "a:1",
        "--policies",
        "b",
        "--request",
        "-",
    ])
    .expect(2, "cannot be used with");
    countersign(&["authorize", "--request", "-"]).expect(2, "--policies <DIR>");
}

#[test]
fn where_nobody_decides_there_is_no_decision() {
    let ask = |flag, place| {
        run(
            &mut command(&["authorize", flag, place, "--request", "-"]),
            "{}",
        )
    };
    ask("--server", "127.0.0.1:1").expect(2, "`127.0.0.1:1` cannot be reached");
    ask("--server", "http://[").expect(2, "is not an address");
    ask("--policies", "/nowhere").expect(2, "`/nowhere` cannot be read");
    ask("--policies", "/nowhere").expect(2, "nothing was decided");
    let broken = Folder::of(&[(
        "a.cedar",
        "permit (principal, action, resource) when { context. };\n",
    )]);
    let run = ask("--policies", broken.path().to_str().unwrap());
    run.expect(2, " --> a.cedar:1:54");
    assert_eq!(run.out, "");
}

#[test]
fn an_explanation_says_why_and_ends_as_the_decision_does() {
    for place in [Place::here(), Place::server()] {
        let explain = |context: &str| {
            let words = [
                "--principal",
                "Agent::\"capacity-bot\"",
                "--action",
                "StartInstances",
                "--resource",
                "Environment::\"dev\"",
                "--context",
                context,
            ];
            countersign(&place.arguments("explain", &words))
        };
        let run = explain(&START.replace("eu-central-1", "us-east-1"));
        run.expect(
            3,
            "Nearest permits\n  capacity-agents-start-instances  compute.cedar:5\n",
        );
        run.expect(3, "the condition `[\"eu-central-1\", \"eu-west-1\"].contains(context.region)` does not hold");
        explain(START).expect(0, "because of  context.count > 8");
    }
}

#[test]
fn colours_are_for_terminals_and_for_those_who_insist() {
    let place = Place::here();
    let words = [
        "--principal",
        "User::\"ada\"",
        "--action",
        "Fly",
        "--resource",
        "Team::\"ml\"",
    ];
    let arguments = place.arguments("authorize", &words);
    let escapes = |variable: &str| {
        let run = run(command(&arguments).env(variable, "1"), "");
        assert_eq!(run.code, 2);
        run.out.contains('\u{1b}') || run.err.contains('\u{1b}')
    };
    assert!(!escapes("NO_COLOR"));
    assert!(!escapes("UNRELATED"), "a pipe is no terminal");
    assert!(escapes("CLICOLOR_FORCE"));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    for arguments in [
        vec!["completions", "bash"],
        vec!["test", "--format", "json"],
        vec!["--help"],
    ] {
        let mut child = command(&arguments)
            .current_dir(sample_dir().parent().unwrap())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(!err.contains("panicked"), "{arguments:?}: {err}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {err}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = countersign(&["completions", shell]);
        run.expect(0, "authorize");
        assert!(run.out.contains("serve") && run.err.is_empty(), "{shell}");
    }
    let folder = Folder::of(&[]);
    let script = folder.beside("completions.bash");
    fs::write(&script, countersign(&["completions", "bash"]).out).unwrap();
    let read = std::process::Command::new("bash")
        .arg("-n")
        .arg(&script)
        .status()
        .unwrap();
    assert!(read.success());
}
