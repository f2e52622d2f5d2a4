//! What is stored reads back as it was.

use countersign::approval::{Approval, ControlRecord, Event, Transition};

use super::support::{after, approve, at, opened, redeem, rule, seat};

#[test]
fn an_approval_with_a_barred_person_reads_back() {
    let approval = opened(vec![rule("r", &[("", 1)])]);
    assert!(!approval.asked.barred.is_empty());
    let text = serde_json::to_string(&approval).unwrap();
    assert_eq!(serde_json::from_str::<Approval>(&text).unwrap(), approval);
    let records = Transition::opening(approval).records;
    let text = serde_json::to_string(&records).unwrap();
    assert_eq!(
        serde_json::from_str::<Vec<ControlRecord>>(&text).unwrap(),
        records
    );
}

#[test]
fn an_attempt_to_redeem_reads_back() {
    let pending = opened(vec![rule("r", &[("", 1)])]);
    let approved = after(&pending, &approve(&pending, "ann", &[seat("r", "")]), at(1));
    let event = redeem(&approved, Some("k"));
    let text = serde_json::to_string(&event).unwrap();
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
}
