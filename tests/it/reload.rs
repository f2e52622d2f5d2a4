//! What a server does when its policy directory changes, by itself and without a failed call.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use countersign::config::Config;
use countersign::grpc::proto::Decision;
use jiff::SignedDuration;

use crate::folder::{Folder, copy};
use crate::harness::{LIMIT, Pdp, comes_true, wait_until};
use crate::load::Load;
use crate::requests::small_start;

const FILE: &str = "compute.cedar";
/// Two machines are few.
const FEW: &str = "context.count > 8";
/// Two machines are many: a small start needs approval.
const MANY: &str = "context.count > 1";

/// The sample policies without their cases, which would not let them be changed.
fn untested() -> Folder {
    let folder = Folder::sample();
    fs::remove_dir_all(folder.path().join("tests")).unwrap();
    folder
}

/// Serves `folder`, and returns when its files are surely watched: an edit has come into force.
fn watched(folder: Folder, adjust: impl FnOnce(&mut Config)) -> Pdp {
    let pdp = Pdp::start_with(folder, adjust);
    let before = pdp.version();
    pdp.folder.write("watched.cedar", "// Seen.\n");
    wait_until("an edit is in force", || pdp.version() != before);
    pdp
}

fn decision(pdp: &Pdp) -> Decision {
    pdp.authorize(small_start()).unwrap().decision()
}

fn wait_for(pdp: &Pdp, expected: Decision) {
    wait_until(&format!("{expected:?} is decided"), || {
        decision(pdp) == expected
    });
}

/// The first file at fault in the last attempt to load; none if it succeeded.
fn broken_file(pdp: &Pdp) -> Option<String> {
    let attempt = pdp.status().last_attempt.unwrap();
    assert_eq!(
        attempt.succeeded,
        attempt.problems.is_empty(),
        "{attempt:?}"
    );
    attempt
        .problems
        .into_iter()
        .next()
        .map(|problem| problem.file)
}

fn wait_for_mistake(pdp: &Pdp, file: &str) {
    wait_until(&format!("the status names `{file}`"), || {
        broken_file(pdp).as_deref() == Some(file)
    });
}

fn wait_for_recovery(pdp: &Pdp) {
    wait_until("the status is good again", || broken_file(pdp).is_none());
}

fn edit_in(dir: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(dir.join(FILE)).unwrap();
    assert!(text.contains(old));
    fs::write(dir.join(FILE), text.replace(old, new)).unwrap();
}

#[test]
fn under_load_an_edit_is_in_force_within_two_seconds_and_no_call_fails() {
    let pdp = watched(untested(), |_| {});
    let before = pdp.version();
    let load = Load::start(&pdp);
    pdp.folder.edit(FILE, FEW, MANY);
    let changed = || decision(&pdp) == Decision::RequireApproval;
    assert!(
        comes_true(Duration::from_secs(2), changed),
        "not in force after 2 s"
    );
    load.go_on();
    let heard = load.stop(&pdp);
    assert!(heard.failures.is_empty(), "{:?}", heard.failures);
    // INVARIANT (one-version): whatever a version answers, it answers always.
    let decisions = |version: &str| {
        let mut decisions = heard.decisions[version].clone();
        decisions.dedup();
        decisions
    };
    assert_eq!(heard.decisions.len(), 2);
    assert_eq!(decisions(&before), [Decision::Allow]);
    assert_eq!(decisions(&pdp.version()), [Decision::RequireApproval]);
}

#[test]
fn a_broken_edit_keeps_what_is_in_force_until_it_is_mended() {
    let pdp = watched(untested(), |_| {});
    let before = pdp.version();
    let load = Load::start(&pdp);
    pdp.folder.edit(FILE, FEW, "context.count >");
    wait_for_mistake(&pdp, FILE);
    assert_eq!((pdp.version(), decision(&pdp)), (before, Decision::Allow));
    pdp.folder.edit(FILE, "context.count >", MANY);
    wait_for(&pdp, Decision::RequireApproval);
    assert_eq!(broken_file(&pdp), None);
    assert!(load.stop(&pdp).failures.is_empty());
}

#[test]
fn an_edit_that_is_taken_back_leaves_no_trace() {
    let pdp = watched(untested(), |_| {});
    let before = pdp.status().active;
    pdp.folder.edit(FILE, FEW, "context.count >");
    wait_for_mistake(&pdp, FILE);
    pdp.folder.edit(FILE, "context.count >", FEW);
    wait_for_recovery(&pdp);
    assert_eq!(pdp.status().active, before, "nothing was put in force anew");
}

#[test]
fn a_half_written_file_is_not_in_force() {
    let pdp = watched(untested(), |_| {});
    let whole = pdp.folder.read(FILE).replace(FEW, MANY);
    // In the middle of a policy, so that no part of the file is in force by itself.
    pdp.folder.write(FILE, &whole[..whole.find(MANY).unwrap()]);
    wait_for_mistake(&pdp, FILE);
    assert_eq!(decision(&pdp), Decision::Allow);
    pdp.folder.write(FILE, &whole);
    wait_for(&pdp, Decision::RequireApproval);
}

#[test]
fn a_case_that_does_not_hold_keeps_an_edit_from_being_in_force() {
    let pdp = watched(Folder::sample(), |_| {});
    let before = pdp.version();
    pdp.folder.edit(FILE, FEW, MANY);
    wait_for_mistake(&pdp, "tests/compute.yaml");
    let problem = pdp.status().last_attempt.unwrap().problems.remove(0);
    assert!(
        problem
            .message
            .contains("does not hold: expected ALLOW, got REQUIRE_APPROVAL"),
        "{}",
        problem.message
    );
    assert!(problem.source_line.contains("name:"), "{problem:?}");
    assert_eq!((pdp.version(), decision(&pdp)), (before, Decision::Allow));
    pdp.folder.edit(FILE, MANY, FEW);
    wait_for_recovery(&pdp);
}

#[test]
fn a_file_that_is_replaced_by_renaming_is_read() {
    let pdp = watched(untested(), |_| {});
    pdp.folder
        .replace(FILE, &pdp.folder.read(FILE).replace(FEW, MANY));
    wait_for(&pdp, Decision::RequireApproval);
    pdp.folder
        .replace(FILE, &pdp.folder.read(FILE).replace(MANY, FEW));
    wait_for(&pdp, Decision::Allow);
}

#[test]
fn a_new_folder_is_watched_too() {
    let pdp = watched(untested(), |_| {});
    let gate = "@id(\"all\") @approval(\"cloud-spend\")\nforbid (principal, action == Action::\"StartInstances\", resource);";
    pdp.folder
        .write("more/below/all.cedar", "// Nothing yet.\n");
    let before = pdp.version();
    pdp.folder.write("more/below/all.cedar", gate);
    wait_for(&pdp, Decision::RequireApproval);
    assert_ne!(pdp.version(), before);
    fs::remove_dir_all(pdp.folder.path().join("more")).unwrap();
    wait_for(&pdp, Decision::Allow);
}

#[test]
fn a_directory_that_disappears_takes_nothing_with_it() {
    let pdp = watched(untested(), |_| {});
    let before = pdp.version();
    let (here, away) = (pdp.folder.path(), pdp.folder.beside("away"));
    fs::rename(&here, &away).unwrap();
    wait_for_mistake(&pdp, "");
    assert_eq!((pdp.version(), decision(&pdp)), (before, Decision::Allow));
    let problem = pdp.status().last_attempt.unwrap().problems.remove(0);
    assert!(
        problem.message.contains(here.to_str().unwrap()),
        "{}",
        problem.message
    );
    fs::rename(&away, &here).unwrap();
    wait_for_recovery(&pdp);
    pdp.folder.edit(FILE, FEW, MANY);
    wait_for(&pdp, Decision::RequireApproval);
}

#[test]
fn a_directory_that_is_replaced_by_another_is_watched() {
    let pdp = watched(untested(), |_| {});
    let (here, next) = (pdp.folder.path(), pdp.folder.beside("next"));
    copy(&here, &next);
    edit_in(&next, FEW, MANY);
    fs::rename(&here, pdp.folder.beside("old")).unwrap();
    fs::rename(&next, &here).unwrap();
    wait_for(&pdp, Decision::RequireApproval);
    pdp.folder.edit(FILE, MANY, FEW);
    wait_for(&pdp, Decision::Allow);
}

#[test]
fn a_link_to_the_directory_may_be_switched_to_another() {
    let folder = untested();
    let (first, second) = (folder.path(), folder.beside("second"));
    copy(&first, &second);
    edit_in(&second, FEW, MANY);
    let (link, beside) = (folder.beside("current"), folder.beside("next"));
    symlink(&first, &link).unwrap();
    let pdp = watched(folder, |config| config.policy.dir.clone_from(&link));
    assert_eq!(decision(&pdp), Decision::Allow);
    symlink(&second, &beside).unwrap();
    fs::rename(&beside, &link).unwrap();
    wait_for(&pdp, Decision::RequireApproval);
    edit_in(&second, MANY, FEW);
    wait_for(&pdp, Decision::Allow);
}

#[test]
fn a_mounted_config_map_is_read_through_its_links_and_swapped_whole() {
    let folder = untested();
    let mount = folder.beside("mount");
    copy(&folder.path(), &mount.join("..first"));
    symlink("..first", mount.join("..data")).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        symlink(
            Path::new("..data").join(entry.file_name()),
            mount.join(entry.file_name()),
        )
        .unwrap();
    }
    let pdp = Pdp::start_with(folder, |config| config.policy.dir.clone_from(&mount));
    assert_eq!(decision(&pdp), Decision::Allow);
    let load = Load::start(&pdp);
    // As the kubelet does it: the new data beside the old, one rename, the old data removed.
    copy(&mount.join("..first"), &mount.join("..second"));
    edit_in(&mount.join("..second"), FEW, MANY);
    symlink("..second", mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    fs::remove_dir_all(mount.join("..first")).unwrap();
    wait_for(&pdp, Decision::RequireApproval);
    assert!(load.stop(&pdp).failures.is_empty());
}

#[test]
fn a_file_that_never_rests_does_not_keep_the_others_from_being_read() {
    let pdp = watched(untested(), |_| {});
    let noise = pdp.folder.beside("policies/noise.log");
    let writer = pdp.runtime.spawn(async move {
        loop {
            fs::write(&noise, "again").unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    wait_until("there is noise", || {
        pdp.folder.path().join("noise.log").exists()
    });
    pdp.folder.edit(FILE, FEW, MANY);
    wait_for(&pdp, Decision::RequireApproval);
    writer.abort();
}

#[test]
fn what_watching_cannot_see_is_found_by_looking_again() {
    let folder = untested();
    let elsewhere = folder.beside(FILE);
    fs::rename(folder.path().join(FILE), &elsewhere).unwrap();
    symlink(&elsewhere, folder.path().join(FILE)).unwrap();
    let pdp = Pdp::start_with(folder, |config| {
        config.policy.rescan_interval = SignedDuration::from_millis(100);
    });
    edit_in(elsewhere.parent().unwrap(), FEW, MANY);
    wait_for(&pdp, Decision::RequireApproval);
}

#[test]
fn of_many_quick_edits_the_last_is_in_force() {
    let pdp = watched(untested(), |_| {});
    let text = pdp.folder.read(FILE);
    for edit in 0..50 {
        pdp.folder.write(FILE, &format!("// Edit {edit}.\n{text}"));
    }
    pdp.folder.edit(FILE, FEW, MANY);
    assert!(comes_true(LIMIT, || decision(&pdp) == Decision::RequireApproval));
}
