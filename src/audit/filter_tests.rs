//! What fits a filter, and what does not.

use prost::Message;

use crate::audit::proto::{
    ApprovalEvent, ApprovalOpened, Decision, Entity, GrantRedeemed, Record, VoteCast,
    approval_event, record,
};

use super::*;

const ID: &str = "0199c0de-0000-7000-8000-000000000001";

fn entity(type_name: &str, id: &str) -> Entity {
    Entity {
        r#type: type_name.to_owned(),
        id: id.to_owned(),
    }
}

fn decision() -> Vec<u8> {
    let decision = Decision {
        decision_id: ID.parse::<Uuid>().unwrap().as_bytes().to_vec(),
        outcome: Outcome::Allow.into(),
        principal: Some(entity("Acme::User", "al\"ice")),
        action: "deploy".to_owned(),
        resource: Some(entity("Service", "payments")),
        approval_id: "a-1".to_owned(),
        ..Decision::default()
    };
    Record {
        at_us: 1_000,
        what: Some(record::What::Decision(decision)),
    }
    .encode_to_vec()
}

fn event(what: approval_event::What) -> Vec<u8> {
    let event = ApprovalEvent {
        approval_id: "a-1".to_owned(),
        what: Some(what),
        ..ApprovalEvent::default()
    };
    Record {
        at_us: 2_000,
        what: Some(record::What::Approval(event)),
    }
    .encode_to_vec()
}

fn check(filter: &RecordFilter, leaf: &[u8], fits: bool) {
    assert_eq!(filter.fits(leaf), fits, "{filter}");
}

fn by(set: impl FnOnce(&mut RecordFilter)) -> RecordFilter {
    let mut filter = RecordFilter::default();
    set(&mut filter);
    filter
}

#[test]
fn every_field_is_asked_of_a_decision() {
    let leaf = decision();
    let name = |text| EntityName::parse(text);
    for (is_it, text) in [
        (true, r#"Acme::User::"al\"ice""#),
        (false, r#"User::"al\"ice""#),
        (false, r#"Acme::User::"alice""#),
    ] {
        check(&by(|it| it.principal = name(text)), &leaf, is_it);
    }
    check(
        &by(|it| it.resource = name(r#"Service::"payments""#)),
        &leaf,
        true,
    );
    check(
        &by(|it| it.resource = name(r#"Service::"x""#)),
        &leaf,
        false,
    );
    for (is_it, text) in [
        (true, "deploy"),
        (true, r#"Acme::Action::"deploy""#),
        (false, "Deploy"),
    ] {
        check(&by(|it| it.action = Some(text.to_owned())), &leaf, is_it);
    }
    check(&by(|it| it.outcome = Some(Outcome::Allow)), &leaf, true);
    check(&by(|it| it.outcome = Some(Outcome::Deny)), &leaf, false);
    check(
        &by(|it| it.approval_id = Some("a-1".to_owned())),
        &leaf,
        true,
    );
    check(
        &by(|it| it.approval_id = Some("a".to_owned())),
        &leaf,
        false,
    );
    check(&by(|it| it.decision_id = ID.parse().ok()), &leaf, true);
    check(&by(|it| it.decision_id = Some(Uuid::nil())), &leaf, false);
    check(&by(|it| it.from_us = Some(1_000)), &leaf, true);
    check(&by(|it| it.from_us = Some(1_001)), &leaf, false);
    check(&by(|it| it.to_us = Some(1_001)), &leaf, true);
    check(&by(|it| it.to_us = Some(1_000)), &leaf, false);
    check(&by(|it| it.log = Some("elsewhere".to_owned())), &leaf, true);
}

#[test]
fn of_an_approval_the_opening_says_who_asked_for_what() {
    let opened = event(approval_event::What::Opened(ApprovalOpened {
        principal: Some(entity("User", "bob")),
        action: r#"Action::"deploy""#.to_owned(),
        resource: Some(entity("Service", "payments")),
        ..ApprovalOpened::default()
    }));
    let voted = event(approval_event::What::Voted(VoteCast::default()));
    let redeemed = event(approval_event::What::Redeemed(GrantRedeemed {
        decision_id: ID.parse::<Uuid>().unwrap().as_bytes().to_vec(),
        ..GrantRedeemed::default()
    }));
    let bob = by(|it| it.principal = EntityName::parse(r#"User::"bob""#));
    check(&bob, &opened, true);
    check(&bob, &voted, false);
    check(
        &by(|it| it.action = Some("deploy".to_owned())),
        &opened,
        true,
    );
    check(&by(|it| it.decision_id = ID.parse().ok()), &redeemed, true);
    for leaf in [&opened, &voted, &redeemed] {
        check(
            &by(|it| it.approval_id = Some("a-1".to_owned())),
            leaf,
            true,
        );
        check(&by(|it| it.outcome = Some(Outcome::Allow)), leaf, false);
    }
}

#[test]
fn what_is_no_record_fits_only_where_nothing_is_asked() {
    for leaf in [&b"\xff\xff"[..], b"\x0a\x7f", b"\x0b"] {
        check(&RecordFilter::default(), leaf, true);
        check(&by(|it| it.from_us = Some(i64::MIN)), leaf, false);
        assert_eq!(at_us(leaf), 0);
    }
    assert_eq!(at_us(&decision()), 1_000);
}

#[test]
fn an_id_says_about_when() {
    let made = 1_759_877_398_528_000;
    assert_eq!(made_at_us(ID.parse().unwrap()), Some(made));
    let filter = by(|it| it.decision_id = ID.parse().ok());
    let times = (Some(made - BEFORE_ID_US), Some(made + AFTER_ID_US));
    assert_eq!(filter.times(), times);
    let filter = by(|it| {
        it.approval_id = Some(ID.to_owned());
        it.to_us = Some(5);
    });
    assert_eq!(filter.times(), (Some(made - BEFORE_ID_US), Some(5)));
    let other = by(|it| it.approval_id = Some("a-1".to_owned()));
    assert_eq!(other.times(), (None, None));
}

#[test]
fn a_filter_is_written_on_one_line() {
    assert_eq!(RecordFilter::default().to_string(), "everything");
    let filter = by(|it| {
        it.principal = EntityName::parse(r#"User::"bob""#);
        it.outcome = Some(Outcome::Deny);
        it.from_us = Some(0);
    });
    let line = r#"principal=User::"bob" outcome=DENY from=1970-01-01T00:00:00Z"#;
    assert_eq!(filter.to_string(), line);
}

#[test]
fn only_a_quoted_name_is_an_entity() {
    for wrong in ["", "User", r#"User::"x"#, r#"::"x""#, "User::x"] {
        assert_eq!(EntityName::parse(wrong), None, "{wrong}");
    }
}
