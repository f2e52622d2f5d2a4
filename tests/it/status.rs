//! What `PolicyService` tells, and what it does when it is asked to reload.

use countersign::grpc::proto::{
    GetPolicyStatusResponse, LoadAttempt, Posture, Severity, ValidationMode,
};
use tonic::Code;

use crate::folder::Folder;
use crate::harness::Pdp;
use crate::requests::small_start;

/// A policy that does not parse, on its second line.
const BROKEN: &str = "// Not finished.\npermit (principal, action, resource) when { context. };\n";

fn attempt(status: GetPolicyStatusResponse) -> LoadAttempt {
    status.last_attempt.unwrap()
}

#[test]
fn the_status_describes_what_is_in_force() {
    let pdp = Pdp::sample();
    let status = pdp.status();
    let active = status.active.clone().unwrap();
    let version = pdp.authorize(small_start()).unwrap().policy_version;
    assert_eq!(active.version, version);
    assert_eq!(
        (
            active.version.len(),
            active.permits,
            active.forbids,
            active.gates
        ),
        (64, 17, 8, 13)
    );
    assert_eq!(
        (active.rules, active.entities, active.cases_passed),
        (7, 53, 80)
    );
    assert_eq!(
        (active.posture(), active.validation()),
        (Posture::Strict, ValidationMode::Strict)
    );
    assert!(
        active.index_enabled && active.warnings.is_empty(),
        "{:?}",
        active.warnings
    );
    let attempt = attempt(status);
    assert!(attempt.succeeded && attempt.problems.is_empty());
    assert_eq!(attempt.version, active.version);
    assert!(attempt.time.unwrap().seconds >= active.activate_time.unwrap().seconds);
}

#[test]
fn a_weaker_posture_and_validation_are_shown() {
    let folder = Folder::sample();
    // Some of the sample's cases expect the strict posture.
    std::fs::remove_dir_all(folder.path().join("tests")).unwrap();
    let pdp = Pdp::start_with(folder, |config| {
        config.policy.posture = "cedar".to_owned();
        config.policy.validation = "warn".to_owned();
    });
    let active = pdp.status().active.unwrap();
    assert_eq!(
        (active.posture(), active.validation()),
        (Posture::Cedar, ValidationMode::Warn)
    );
}

#[test]
fn warnings_are_shown_with_their_places() {
    let folder = Folder::sample();
    folder.write(
        "more.cedar",
        "\npermit (principal is User, action, resource) when { false };\n",
    );
    let active = Pdp::start(folder).status().active.unwrap();
    let places: Vec<_> = active
        .warnings
        .iter()
        .map(|it| (it.severity(), it.file.as_str(), it.line))
        .collect();
    assert!(
        places.contains(&(Severity::Warning, "more.cedar", 2)),
        "{:?}",
        active.warnings
    );
}

#[test]
fn a_reload_tells_whether_anything_changed() {
    let pdp = Pdp::sample();
    let first = pdp.version();
    let unchanged = pdp.reload().unwrap();
    assert!(!unchanged.changed);
    assert_eq!(unchanged.active.unwrap().version, first);
    pdp.folder.write("README.md", "No policy, no change.");
    assert!(!pdp.reload().unwrap().changed);
    pdp.folder.write("more.cedar", "// A change.\n");
    // Watching may have been quicker; whoever was, the new version is in force when the call returns.
    let active = pdp.reload().unwrap().active.unwrap();
    assert_ne!(active.version, first);
    assert_eq!(pdp.version(), active.version);
}

#[test]
fn a_reload_that_finds_something_broken_changes_nothing() {
    let pdp = Pdp::sample();
    let first = pdp.version();
    pdp.folder.write("broken.cedar", BROKEN);
    let refusal = pdp.reload().unwrap_err();
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::FailedPrecondition, "POLICY_LOAD_FAILED")
    );
    assert!(
        refusal.message.contains("broken.cedar:2:54: "),
        "{}",
        refusal.message
    );
    assert_eq!(pdp.authorize(small_start()).unwrap().policy_version, first);
    let attempt = attempt(pdp.status());
    assert!(!attempt.succeeded && attempt.version != first);
    let problem = &attempt.problems[0];
    assert_eq!(
        (problem.severity(), problem.file.as_str()),
        (Severity::Error, "broken.cedar")
    );
    assert_eq!((problem.line, problem.column), (2, 54));
    assert_eq!(Some(problem.source_line.as_str()), BROKEN.lines().nth(1));
}

#[test]
fn every_kind_of_mistake_is_found_where_it_is() {
    let gate = "@id(\"g\") @approval(\"cloud-spent\")\nforbid (principal, action == Action::\"Deploy\", resource);\n";
    let mistakes = [
        ("gate.cedar", gate, 1, "cloud-spent"),
        (
            "type.cedar",
            "@id(\"t\")\nforbid (principal, action == Action::\"Deploy\", resource)\nwhen { context.versoin == \"1\" };",
            3,
            "versoin",
        ),
        (
            "twice.cedar",
            "@id(\"sre-runs-scripts\") permit (principal, action, resource);",
            1,
            "scripts.cedar",
        ),
        (
            "entities/more.json",
            "[\n  { \"uid\": { \"type\": \"Tean\", \"id\": \"x\" }, \"attrs\": {}, \"parents\": [] }\n]",
            2,
            "Tean",
        ),
        (
            "links/more.json",
            "[\n  { \"template_id\": \"none\", \"link_id\": \"l\", \"args\": {} }\n]",
            2,
            "none",
        ),
        (
            "tests/more.yaml",
            "cases:\n  - name: wrong\n    request: { principal: 'User::\"lee\"', action: Fly, resource: 'Team::\"ml\"' }\n    expect: { decision: ALLOW }\n",
            2,
            "Fly",
        ),
    ];
    let pdp = Pdp::sample();
    for (file, text, line, words) in mistakes {
        pdp.folder.write(file, text);
        let refusal = pdp.reload().unwrap_err();
        let problems = attempt(pdp.status()).problems;
        let found = problems
            .iter()
            .any(|it| (it.file.as_str(), it.line) == (file, line) && it.message.contains(words));
        assert!(found, "{file}: {refusal:?} {problems:#?}");
        std::fs::remove_file(pdp.folder.path().join(file)).unwrap();
    }
    let reloaded = pdp.reload().unwrap();
    assert!(attempt(pdp.status()).succeeded && !reloaded.changed);
}
