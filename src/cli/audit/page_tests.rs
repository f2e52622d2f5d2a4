//! What the page of an action says, and that it fits.

use crate::audit::proto::{ApprovalEvent, ApprovalOpened, Entity, Record, approval_event, record};
use crate::audit::story::Placed;
use crate::audit::tree::leaf_hash;

use super::*;

fn story(id: &str) -> Story {
    let event = ApprovalEvent {
        approval_id: "approval-1".to_owned(),
        to: Status::Pending.into(),
        what: Some(approval_event::What::Opened(ApprovalOpened {
            principal: Some(Entity {
                r#type: "User".to_owned(),
                id: id.to_owned(),
            }),
            action: "deploy".to_owned(),
            justification: "one\ntwo".to_owned(),
            ..ApprovalOpened::default()
        })),
        ..ApprovalEvent::default()
    };
    Story::of(&[Placed {
        log: "control".to_owned(),
        index: 3,
        record: Record {
            at_us: 1_772_370_300_000_000,
            what: Some(record::What::Approval(event)),
        },
    }])
}

fn logged() -> LoggedRecord {
    LoggedRecord {
        log: "control".to_owned(),
        index: 3,
        leaf: b"leaf".to_vec(),
    }
}

fn proved() -> Checked {
    Checked::Proved(Proved {
        log: "control".to_owned(),
        leaf: leaf_hash(b"leaf"),
        origin: "acme/control".to_owned(),
        size: 9,
        root: leaf_hash(b"root"),
        is_pinned: false,
    })
}

fn shown(checked: Checked, width: usize) -> String {
    laid_out(&story("yuki"), checked, width)
}

fn laid_out(story: &Story, checked: Checked, width: usize) -> String {
    let proofs = Proofs {
        records: &[logged()],
        checked: &[checked],
        teller: "server",
    };
    page(story, &proofs, &WallClock::here(), width)
}

#[test]
fn the_page_tells_the_story_and_ends_with_the_proof() {
    let page = shown(proved(), 100);
    let leaf = leaf_hash(b"leaf").to_base64();
    let root = leaf_hash(b"root").to_base64();
    for part in [
        "User::\"yuki\" deploy",
        "it waits for votes",
        "│ one",
        "│ two",
        "approval opened for User::\"yuki\"",
        "approval-1 PENDING",
        &leaf,
        &root,
        "acme/control",
        "key as told by the server",
        "1 of 1 records verified here",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

#[test]
fn a_proof_that_is_wrong_cannot_be_overlooked() {
    let page = shown(
        Checked::Wrong("the proof leads to another root".to_owned()),
        100,
    );
    assert!(page.contains("THE PROOF IS WRONG"), "{page}");
    assert!(page.contains("0 of 1 records verified here"), "{page}");
    assert!(page.contains(RED), "{page}");
}

#[test]
fn a_narrow_page_is_wrapped_and_nothing_hidden_passes() {
    let page = shown(proved(), 60);
    let plain = anstream::adapter::strip_str(&page).to_string();
    assert!(
        plain.lines().all(|line| line.chars().count() <= 60),
        "{plain}"
    );
    let page = laid_out(&story("a\u{1b}[2J\u{202e}"), proved(), 80);
    let plain = anstream::adapter::strip_str(&page).to_string();
    assert!(!plain.contains('\u{1b}') && !plain.contains('\u{202e}'));
}
