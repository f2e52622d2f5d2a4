//! Who may approve, as far as it is for the policies to say.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign::model::{Posture, Seat};
use countersign::policy::{ApproveQuestion, Eligibility, Engine, NotEligible, Snapshot};
use serde_json::json;

use crate::support::{Ask, Files, NOW, ask, uid};

pub(crate) const SCHEMA: &str = r#"
    entity Team in [Team];
    entity User in [Team] { same_person_as?: Set<User> };
    entity Agent { owner?: User, owners?: Set<Agent> };
    entity Doc { secret: Bool, owners?: Set<User> };
    entity Env enum ["dev"];
    action Act appliesTo { principal: [User, Agent, Env], resource: [Doc] };
"#;

/// Entities in short: name, attributes, and what it is in.
pub(crate) fn entities(short: &[(&str, serde_json::Value, &[&str])]) -> serde_json::Value {
    let name = |text: &str| {
        let uid = uid(text);
        json!({"type": uid.type_name, "id": uid.id})
    };
    let entity = |(uid, attributes, parents): &(&str, serde_json::Value, &[&str])| {
        let parents: Vec<_> = parents.iter().map(|parent| name(parent)).collect();
        json!({"uid": name(uid), "attrs": attributes, "parents": parents})
    };
    short.iter().map(entity).collect()
}

fn people() -> serde_json::Value {
    let none = || json!({});
    entities(&[
        ("Team::\"sre\"", none(), &[]),
        ("User::\"ann\"", none(), &["Team::\"sre\""]),
        ("User::\"bob\"", none(), &[]),
        ("User::\"cy\"", none(), &["Team::\"attic\""]),
        ("User::\"\"", none(), &["Team::\"sre\""]),
        ("Agent::\"bot\"", none(), &[]),
        ("Doc::\"d\"", json!({"secret": false}), &[]),
    ])
}

pub(crate) const SRE: &str = r#"@id("sre")
    permit (principal in Team::"sre", action == Countersign::Action::"Approve", resource);"#;

fn files(policies: &str) -> Files {
    Files::new(policies)
        .schema(SCHEMA)
        .entities(&people())
        .rules(&["r"])
}

fn question() -> Ask {
    ask("Agent::\"bot\"", "Act", "Doc::\"d\"")
}

fn seat() -> Seat {
    Seat {
        rule: "r".to_owned(),
        slot: String::new(),
    }
}

/// The answer in a line; both evaluations must give it.
fn answer(snapshot: &Arc<Snapshot>, asked: &Ask, reviewer: &str, is_escalated: bool) -> String {
    let (reviewer, seat) = (uid(reviewer), seat());
    let question = ApproveQuestion {
        asked: &asked.0,
        reviewer: &reviewer,
        seat: &seat,
        is_escalated,
        now: NOW,
    };
    let answer = snapshot.eligibility(&question);
    for engine in [Engine::Index, Engine::Full] {
        assert_eq!(answer, snapshot.eligibility_by(&question, engine));
    }
    match answer {
        Eligibility::Eligible { policies } => format!("eligible by {}", policies.join(",")),
        Eligibility::NotEligible { why } => match why {
            NotEligible::NotAPerson => "not a person".to_owned(),
            NotEligible::UnknownReviewer => "unknown".to_owned(),
            NotEligible::NoPolicy => "no policy".to_owned(),
            NotEligible::Forbidden { policies } => format!("forbidden by {}", policies.join(",")),
            NotEligible::Error { message } => format!("error {message}"),
        },
    }
}

fn check(policies: &str, expected: &str) {
    let snapshot = files(policies).snapshot();
    let found = answer(&snapshot, &question(), "User::\"ann\"", false);
    assert_eq!(found, expected, "{policies}");
}

#[test]
fn a_permit_makes_a_reviewer_only_if_its_scope_names_the_action() {
    check("", "no policy");
    check(SRE, "eligible by sre");
    check(
        r#"@id("p") permit (principal, action in [Countersign::Action::"Approve"], resource);"#,
        "eligible by p",
    );
    check(
        r#"@id("open") permit (principal, action, resource);"#,
        "no policy",
    );
    check(
        r#"@id("open") permit (principal, action, resource)
           when { action == Countersign::Action::"Approve" };"#,
        "no policy",
    );
}

#[test]
fn the_action_may_be_named_among_others() {
    let policy = r#"@id("p")
        permit (principal, action in [Action::"Act", Countersign::Action::"Approve"], resource);"#;
    let snapshot = Files::new(policy).entities(&people()).snapshot();
    let found = answer(&snapshot, &question(), "User::\"ann\"", false);
    assert_eq!(found, "eligible by p");
}

#[test]
fn without_a_schema_an_action_group_names_nobody_a_reviewer() {
    let mut stored = people();
    let approve = json!({
        "uid": {"type": "Countersign::Action", "id": "Approve"}, "attrs": {},
        "parents": [{"type": "Action", "id": "all"}]
    });
    stored.as_array_mut().unwrap().push(approve);
    let policy = r#"@id("p") permit (principal, action in Action::"all", resource);"#;
    let snapshot = Files::new(policy).entities(&stored).snapshot();
    let found = answer(&snapshot, &question(), "User::\"ann\"", false);
    assert_eq!(found, "no policy");
}

#[test]
fn a_forbid_or_gate_counts_however_it_is_written() {
    let open = r#"@id("f") forbid (principal, action, resource);"#;
    check(&format!("{SRE}{open}"), "forbidden by f");
    check(&format!("{SRE}@approval(\"r\") {open}"), "forbidden by f");
    let other = r#"@id("f") forbid (principal, action == Action::"Act", resource);"#;
    check(&format!("{SRE}{other}"), "eligible by sre");
}

#[test]
fn what_cannot_be_evaluated_makes_nobody_a_reviewer() {
    let overflow = "when { 9223372036854775807 + 1 > 0 };";
    let forbid = format!(r#"@id("f") forbid (principal, action, resource) {overflow}"#);
    let named = format!(
        r#"@id("p") permit (principal, action == Countersign::Action::"Approve", resource) {overflow}"#
    );
    let open = format!(r#"@id("p") permit (principal, action, resource) {overflow}"#);
    for posture in [Posture::Strict, Posture::Cedar] {
        for (policy, expected) in [
            (&forbid, "error `f`: "),
            (&named, "error `p`: "),
            (&open, "eligible by sre"),
        ] {
            let snapshot = files(&format!("{SRE}{policy}")).posture(posture).snapshot();
            let found = answer(&snapshot, &question(), "User::\"ann\"", false);
            assert!(found.starts_with(expected), "{found} with {policy}");
        }
    }
}

#[test]
fn only_people_who_are_stored_may_approve() {
    let anybody =
        r#"@id("p") permit (principal, action == Countersign::Action::"Approve", resource);"#;
    let snapshot = files(anybody).snapshot();
    for (reviewer, expected) in [
        ("User::\"bob\"", "eligible by p"),
        ("User::\"nobody\"", "unknown"),
        ("User::\"\"", "unknown"),
        ("Agent::\"bot\"", "not a person"),
        ("Ghost::\"ann\"", "not a person"),
    ] {
        assert_eq!(answer(&snapshot, &question(), reviewer, false), expected);
    }
}

#[test]
fn a_request_cannot_describe_its_own_reviewers() {
    let snapshot = files(SRE).snapshot();
    let asked = question().describe("User::\"eve\"", &json!({}), &["Team::\"sre\""]);
    assert_eq!(answer(&snapshot, &asked, "User::\"eve\"", false), "unknown");
    let asked = question().describe("Team::\"attic\"", &json!({}), &["Team::\"sre\""]);
    assert_eq!(answer(&snapshot, &asked, "User::\"cy\"", false), "unknown");
    assert_eq!(
        answer(&snapshot, &asked, "User::\"ann\"", false),
        "eligible by sre"
    );
}

#[test]
fn a_described_resource_is_seen_and_one_that_nobody_described_is_an_error() {
    let policy = r#"@id("owner") permit (principal, action == Countersign::Action::"Approve", resource is Doc)
        when { resource has owners && principal in resource.owners };"#;
    let snapshot = files(policy).snapshot();
    let asked = question().on("Doc::\"new\"");
    assert_eq!(
        answer(&snapshot, &asked, "User::\"bob\"", false),
        "error neither stored nor described: `Doc::\"new\"`"
    );
    let attributes = json!({"secret": false, "owners": [{"type": "User", "id": "bob"}]});
    let asked = asked.describe("Doc::\"new\"", &attributes, &[]);
    assert_eq!(
        answer(&snapshot, &asked, "User::\"bob\"", false),
        "eligible by owner"
    );
    assert_eq!(
        answer(&snapshot, &asked, "User::\"ann\"", false),
        "no policy"
    );
    let asked = question().describe("Doc::\"d\"", &attributes, &[]);
    let found = answer(&snapshot, &asked, "User::\"bob\"", false);
    assert!(
        found.starts_with("error `resource`: `Doc::\"d\"` is stored here"),
        "{found}"
    );
}

#[test]
fn an_escalation_only_adds_reviewers() {
    let snapshot = files(&format!(
        r#"{SRE}
        @id("late") permit (principal == User::"bob", action == Countersign::Action::"Approve", resource)
        when {{ context.escalated }};
        @id("stop") forbid (principal == User::"ann", action == Countersign::Action::"Approve", resource)
        when {{ context.escalated }};"#
    ))
    .snapshot();
    for (reviewer, before, after) in [
        ("User::\"ann\"", "eligible by sre", "eligible by sre"),
        ("User::\"bob\"", "no policy", "eligible by late"),
    ] {
        assert_eq!(answer(&snapshot, &question(), reviewer, false), before);
        assert_eq!(answer(&snapshot, &question(), reviewer, true), after);
    }
}

#[test]
fn without_a_schema_the_policies_are_asked_all_the_same() {
    let policy = format!(
        r#"{SRE} @id("f") forbid (principal, action == Countersign::Action::"Approve", resource)
        when {{ context.requester.id == "rogue" }};"#
    );
    let snapshot = Files::new(&policy).entities(&people()).snapshot();
    let rogue = ask("Agent::\"rogue\"", "Act", "Doc::\"d\"");
    let attic = "error neither stored nor described: `Team::\"attic\"`";
    for (asked, reviewer, expected) in [
        (question(), "User::\"ann\"", "eligible by sre"),
        (question(), "User::\"bob\"", "no policy"),
        (question(), "User::\"cy\"", attic),
        (question(), "User::\"nobody\"", "unknown"),
        (rogue, "User::\"ann\"", "forbidden by f"),
    ] {
        assert_eq!(answer(&snapshot, &asked, reviewer, false), expected);
    }
}

#[test]
fn the_action_has_one_name_in_the_context_however_it_is_written() {
    let policy = r#"@id("act") permit (principal, action == Countersign::Action::"Approve", resource)
        when { context.action == "Act" && context.slot == "" && context.on_behalf_of.contains({type: "User", id: "bob"}) };"#;
    let snapshot = files(policy).snapshot();
    for name in ["Action::\"Act\"", "Action::\"\\u{41}ct\""] {
        let mut asked = ask("Agent::\"bot\"", name, "Doc::\"d\"");
        assert_eq!(
            answer(&snapshot, &asked, "User::\"ann\"", false),
            "no policy"
        );
        asked.0.on_behalf_of.push(uid("User::\"bob\""));
        assert_eq!(
            answer(&snapshot, &asked, "User::\"ann\"", false),
            "eligible by act"
        );
    }
    let asked = ask("Agent::\"bot\"", "Nothing", "Doc::\"d\"");
    let found = answer(&snapshot, &asked, "User::\"ann\"", false);
    assert!(found.starts_with("error `action`: "), "{found}");
}

#[test]
fn each_person_who_may_approve_is_listed_once_with_all_their_seats() {
    let sre: &[&str] = &["Team::\"sre\""];
    let link = |id: &str| json!({"same_person_as": [{"type": "User", "id": id}]});
    let stored = entities(&[
        ("Team::\"sre\"", json!({}), &[]),
        ("User::\"ann\"", json!({}), &[]),
        ("User::\"ann-admin\"", link("ann"), sre),
        ("User::\"bob\"", json!({}), sre),
        ("User::\"cy\"", json!({}), sre),
        ("User::\"cy-admin\"", link("cy"), sre),
        ("User::\"dan\"", json!({}), &[]),
        (
            "Agent::\"bot\"",
            json!({"owner": {"type": "User", "id": "cy"}}),
            &[],
        ),
        ("Doc::\"d\"", json!({"secret": false}), &[]),
    ]);
    let policies = r#"
        @id("one") permit (principal in Team::"sre", action == Countersign::Action::"Approve", resource)
        when { context.slot == "one" };
        @id("two") permit (principal == User::"ann", action == Countersign::Action::"Approve", resource)
        when { context.slot == "two" };"#;
    let snapshot = Files::new(policies)
        .schema(SCHEMA)
        .entities(&stored)
        .snapshot();
    let seats = ["one", "two"].map(|slot| Seat {
        rule: "r".to_owned(),
        slot: slot.to_owned(),
    });
    let asked = question().0;
    let found = snapshot.possible_reviewers(&asked, &seats, false, NOW);
    let found: Vec<(String, BTreeSet<Seat>)> = found
        .into_iter()
        .map(|each| (each.reviewer.id, each.seats))
        .collect();
    let [one, two] = seats;
    let expected = [
        ("ann".to_owned(), BTreeSet::from([one.clone(), two])),
        ("bob".to_owned(), BTreeSet::from([one])),
    ];
    assert_eq!(found, expected);
    let unknown = ask("Agent::\"unknown\"", "Act", "Doc::\"d\"").0;
    assert!(
        snapshot
            .possible_reviewers(&unknown, &[seat()], false, NOW)
            .is_empty()
    );
}
