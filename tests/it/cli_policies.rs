//! `countersign check`, `test` and `fmt`: what an author of policies hears.

use std::path::Path;

use crate::folder::{Folder, sample_dir};
use crate::program::{Run, countersign};

fn on(folder: &Folder, arguments: &[&str]) -> Run {
    let path = folder.path();
    countersign(&[arguments, &[path.to_str().unwrap()]].concat())
}

/// The policies of a formatted file, each from its first annotation to its semicolon.
fn policies_of(text: &str) -> Vec<&str> {
    let starts = text.match_indices("@id(").map(|(start, _)| start);
    starts
        .map(|start| {
            let policy = &text[start..];
            &policy[..policy.find(";\n").unwrap() + 2]
        })
        .collect()
}

fn cedar_files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| Path::new(name).extension().is_some_and(|it| it == "cedar"))
        .collect()
}

#[test]
fn the_sample_is_sound_formatted_and_exercised() {
    let folder = Folder::sample();
    on(&folder, &["check", "--deny-warnings"])
        .expect(0, "17 permits, 8 forbids, 13 gates; 7 rules, 53 entities");
    on(&folder, &["fmt", "--check"]).expect(0, "0 files would be formatted, of 8");
    on(&folder, &["test", "--require-coverage", "100"]).expect(0, "80 passed, 0 failed");
}

#[test]
fn without_any_one_of_its_policies_the_sample_fails_its_cases() {
    let folder = Folder::sample();
    let (mut gates, mut others) = (0, 0);
    for file in cedar_files(&sample_dir()) {
        let text = folder.read(&file);
        for policy in policies_of(&text) {
            folder.write(&file, &text.replace(policy, ""));
            let run = on(&folder, &["test"]);
            if policy.contains("@approval(") {
                gates += 1;
                run.expect(1, "does not hold");
            } else {
                others += 1;
                // Links to a template that is gone do not even compile.
                assert!(
                    run.code == 1 || (run.code == 2 && policy.contains("?principal")),
                    "{policy}\n{run:?}"
                );
            }
        }
        folder.write(&file, &text);
    }
    assert_eq!(
        (gates, others),
        (13, 24),
        "one policy is a template with two links"
    );
    on(&folder, &["test"]).expect(0, "80 passed, 0 failed");
}

#[test]
fn a_mistake_is_shown_with_its_line() {
    let folder = Folder::sample();
    folder.edit("compute.cedar", "context.count > 8", "context.cuont > 8");
    let run = on(&folder, &["check"]);
    run.expect(
        1,
        "attribute `cuont` in context for Action::\"StartInstances\" not found",
    );
    run.expect(
        1,
        " --> compute.cedar:41:8\n   |\n41 | when { context.cuont > 8 };\n   |        ^\n",
    );
    assert_eq!(run.err, "1 error\n");
    on(&folder, &["test"]).expect(2, "the policies do not compile, so no case was run");
}

#[test]
fn a_report_for_programs_has_the_same_places() {
    let folder = Folder::sample();
    let sound = on(&folder, &["check", "--format", "json"]).json();
    assert_eq!((&sound["ok"], &sound["gates"]), (&true.into(), &13.into()));
    folder.edit("compute.cedar", "context.count > 8", "context.cuont > 8");
    let run = on(&folder, &["check", "--format", "json"]);
    let broken = run.json();
    let problem = &broken["problems"][0];
    assert_eq!((run.code, &broken["ok"]), (1, &false.into()));
    assert_eq!(
        (&problem["severity"], &problem["file"]),
        (&"error".into(), &"compute.cedar".into())
    );
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&41.into(), &8.into())
    );
    assert_eq!(problem["source_line"], "when { context.cuont > 8 };");
}

#[test]
fn warnings_count_when_they_are_asked_to() {
    let folder = Folder::sample();
    folder.write(
        "more.cedar",
        "permit (principal == User::\"ada\", action == Action::\"RunScript\", resource);\n",
    );
    on(&folder, &["check"]).expect(0, "warning: a permit has no `@id`");
    on(&folder, &["check", "--deny-warnings"]).expect(1, "warning: a permit has no `@id`");
}

#[test]
fn the_attributes_that_matter_are_shown_on_request() {
    let run = on(&Folder::sample(), &["check", "--keys"]);
    run.expect(
        0,
        "  Action::\"StartInstances\": count, hourly_cost_cents, public_ip, region\n",
    );
}

#[test]
fn a_case_that_does_not_hold_is_shown_in_every_format() {
    let folder = Folder::sample();
    folder.edit("compute.cedar", "context.count > 8", "context.count > 9");
    let text = on(&folder, &["test"]);
    text.expect(
        1,
        "FAIL Capacity agent starts EC2 instances: 10 of 11 hold\n",
    );
    text.expect(
        1,
        "expected REQUIRE_APPROVAL, got ALLOW by capacity-agents-start-instances",
    );
    text.expect(1, "79 passed, 1 failed\n");
    let json = on(&folder, &["test", "--format", "json"]);
    let results = json.json()["results"].as_array().unwrap().clone();
    let failed: Vec<_> = results
        .iter()
        .filter(|result| result["passed"] == false)
        .collect();
    assert_eq!((json.code, results.len(), failed.len()), (1, 80, 1));
    assert_eq!(failed[0]["problem"]["file"], "tests/compute.yaml");
    let junit = on(&folder, &["test", "--format", "junit"]);
    junit.expect(1, "<testsuites name=\"countersign test\" tests=\"80\" skipped=\"0\" failures=\"1\" errors=\"0\">");
    junit.expect(1, "<failure message=\"tests/compute.yaml:");
}

#[test]
fn a_policy_that_no_case_exercises_is_named() {
    let folder = Folder::sample();
    folder.write("more.cedar", "@id(\"lonely\")\npermit (principal == User::\"ada\", action == Action::\"RunScript\", resource);\n");
    on(&folder, &["test"]).expect(0, "no case exercises the permit `lonely` (more.cedar:1)");
    on(&folder, &["test", "--require-coverage", "100"])
        .expect(1, "97 % of the policies, less than 100 %");
}

#[test]
fn a_case_that_cannot_be_read_is_a_finding() {
    let folder = Folder::sample();
    folder.write("tests/more.yaml", "cases:\n  - nmae: x\n");
    on(&folder, &["test"]).expect(1, "tests/more.yaml");
}

#[test]
fn formatting_changes_what_it_must_and_no_more() {
    let folder = Folder::sample();
    let formatted = folder.read("agents.cedar");
    let sprawling = formatted.replace("forbid (\n", "forbid    (\n");
    folder.write("agents.cedar", &sprawling);
    let run = on(&folder, &["fmt", "--check"]);
    run.expect(1, "1 file would be formatted, of 8");
    assert!(run.out.ends_with("agents.cedar\n"), "{run:?}");
    assert_eq!(
        folder.read("agents.cedar"),
        sprawling,
        "checking changes nothing"
    );
    on(&folder, &["fmt"]).expect(0, "1 file formatted, of 8");
    assert_eq!(folder.read("agents.cedar"), formatted);
}

#[test]
fn a_file_that_does_not_parse_is_left_alone() {
    let folder = Folder::sample();
    folder.write("agents.cedar", "forbid ( ;");
    on(&folder, &["fmt"]).expect(1, "agents.cedar:1:");
    assert_eq!(folder.read("agents.cedar"), "forbid ( ;");
}

#[test]
fn a_directory_that_is_not_there_cannot_be_judged() {
    for subcommand in ["check", "test", "fmt"] {
        let run = countersign(&[subcommand, "/nowhere"]);
        run.expect(2, "`/nowhere` cannot be read");
        assert_eq!(run.out, "");
    }
}
