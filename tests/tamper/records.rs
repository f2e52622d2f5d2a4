//! Changes what records say.

use countersign::approval::Status;
use countersign::audit::control_record::encode_control;
use countersign::audit::proto::{
    ApprovalEvent, Choice, Decision, Entity, Record, approval_event, record,
};
use prost::Message as _;

use crate::lives::random::dice::Dice;

/// The record in `leaf`.
pub(crate) fn decode(leaf: &[u8]) -> Record {
    Record::decode(leaf).unwrap()
}

/// The event about an approval in `leaf`, with its time.
pub(crate) fn event(leaf: &[u8]) -> Option<(i64, ApprovalEvent)> {
    let record = decode(leaf);
    match record.what {
        Some(record::What::Approval(event)) => Some((record.at_us, event)),
        _ => None,
    }
}

fn leaf(at_us: i64, event: ApprovalEvent) -> Vec<u8> {
    encode_control(at_us, record::What::Approval(event))
}

/// A record much like `leaf`, and not the same.
pub(crate) fn altered(leaf: &[u8]) -> Vec<u8> {
    let mut record = decode(leaf);
    record.at_us += 1;
    record.encode_to_vec()
}

/// Where the votes are that decided.
fn deciding(leaves: &[Vec<u8>]) -> Vec<usize> {
    let approved = i32::try_from(
        Status::ALL
            .iter()
            .position(|each| *each == Status::Approved)
            .unwrap(),
    )
    .unwrap()
        + 1;
    let is_deciding = |leaf: &Vec<u8>| {
        event(leaf).is_some_and(|(_, event)| event.from != event.to && event.to == approved)
    };
    (0..leaves.len())
        .filter(|at| is_deciding(&leaves[*at]))
        .collect()
}

fn is_about(leaf: &[u8], approval: &str) -> bool {
    event(leaf).is_some_and(|(_, event)| event.approval_id == approval)
}

fn alter(leaves: &mut [Vec<u8>], at: usize, how: impl FnOnce(&mut ApprovalEvent)) {
    let (at_us, mut changed) = event(&leaves[at]).unwrap();
    how(&mut changed);
    leaves[at] = leaf(at_us, changed);
}

/// A vote, its voter, the choice or what an approval takes: another one, so that the rules of approvals do not hold any more. Answers
/// what, and where; nothing if there is no such record.
pub(crate) fn break_rules(
    leaves: &mut Vec<Vec<u8>>,
    dice: &mut Dice,
) -> Option<(&'static str, usize)> {
    let deciding = deciding(leaves);
    if deciding.is_empty() {
        return None;
    }
    let at = *dice.pick(&deciding);
    let (_, decided) = event(&leaves[at]).unwrap();
    let opening = leaves
        .iter()
        .position(|leaf| is_about(leaf, &decided.approval_id));
    let opening = opening.unwrap();
    match dice.below(7) {
        0 => {
            alter(leaves, at, |event| {
                vote(event, |cast| {
                    let person = cast.voter.as_mut().unwrap();
                    person.account = Some(owner());
                    person.canonical = Some(owner());
                });
            });
            Some(("the voter becomes one of the requester's side", at))
        }
        1 => {
            alter(leaves, at, |event| {
                vote(event, |cast| cast.choice = Choice::Deny.into());
            });
            Some(("a yes becomes a no", at))
        }
        2 => {
            alter(leaves, at, |event| vote(event, |cast| cast.standing = None));
            Some(("the voter fills no seat", at))
        }
        3 => {
            alter(leaves, opening, |event| {
                if let Some(approval_event::What::Opened(opened)) = &mut event.what {
                    let count = &mut opened.requirements[0].seats[0].count;
                    *count += 9;
                }
            });
            Some(("the quorum becomes larger", opening))
        }
        4 => {
            alter(leaves, opening, |event| event.request_digest = vec![7; 32]);
            Some(("another request is approved", opening))
        }
        5 => {
            // The last record about an approval is not missed if it is gone: it may not have been written yet.
            leaves[at + 1..]
                .iter()
                .find(|leaf| is_about(leaf, &decided.approval_id))?;
            leaves.remove(at);
            Some(("the deciding vote is gone", at))
        }
        _ => {
            let copy = leaves[at].clone();
            leaves.insert(at, copy);
            Some(("the deciding vote is there twice", at))
        }
    }
}

fn vote(event: &mut ApprovalEvent, how: impl FnOnce(&mut countersign::audit::proto::VoteCast)) {
    if let Some(approval_event::What::Voted(cast)) = &mut event.what {
        how(cast);
    }
}

/// Who made the request.
fn owner() -> Entity {
    Entity {
        r#type: "Agent".to_owned(),
        id: "bot".to_owned(),
    }
}

/// A decision that rests on a grant nobody gave, or on none where one is needed.
pub(crate) fn forged_decision(dice: &mut Dice) -> Vec<u8> {
    let granted = dice.percent(50);
    let decision = Decision {
        decision_id: vec![9; 16],
        outcome: 1,
        rules: vec!["r1".to_owned()],
        approval_id: if granted {
            "nobody-gave-it".to_owned()
        } else {
            String::new()
        },
        is_granted: granted,
        request_digest: if granted { vec![9; 32] } else { Vec::new() },
        ..Decision::default()
    };
    encode_control(1, record::What::Decision(decision))
}
