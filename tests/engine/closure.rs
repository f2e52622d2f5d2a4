//! Who may never approve a request, and when that cannot be told.

use std::sync::Arc;

use countersign::model::ValidationMode;
use countersign::policy::Snapshot;
use serde_json::{Value, json};

use crate::eligibility::{SCHEMA, entities};
use crate::support::{Ask, Files, ask, uid};

fn user(id: &str) -> Value {
    json!({"type": "User", "id": id})
}

fn link(id: &str) -> Value {
    json!({"same_person_as": [user(id)]})
}

fn store() -> Value {
    let none = || json!({});
    entities(&[
        ("User::\"ann\"", none(), &[]),
        ("User::\"bob\"", none(), &[]),
        ("User::\"bob-admin\"", link("bob"), &[]),
        ("User::\"bob-root\"", link("bob-admin"), &[]),
        ("User::\"cy\"", none(), &[]),
        (
            "User::\"dan\"",
            json!({"same_person_as": [user("cy"), user("lost")]}),
            &[],
        ),
        ("User::\"eve\"", link("eve2"), &[]),
        ("User::\"eve2\"", none(), &[]),
        ("Agent::\"bot\"", json!({"owner": user("ann")}), &[]),
        (
            "Agent::\"child\"",
            json!({"owners": [{"type": "Agent", "id": "bot"}]}),
            &[],
        ),
        (
            "Agent::\"loop\"",
            json!({"owners": [{"type": "Agent", "id": "loop"}], "owner": user("bob")}),
            &[],
        ),
        ("Agent::\"orphan\"", none(), &[]),
        ("Agent::\"lost\"", json!({"owner": user("lost")}), &[]),
        ("Doc::\"d\"", json!({"secret": false}), &[]),
    ])
}

fn snapshot() -> Arc<Snapshot> {
    Files::new("").schema(SCHEMA).entities(&store()).snapshot()
}

/// The closure in a line, or why there is none.
fn closure(snapshot: &Arc<Snapshot>, asked: &Ask) -> String {
    match snapshot.requester_closure(&asked.0) {
        Ok(closure) => {
            let members = closure.members.iter().map(|(member, reason)| {
                assert_eq!(closure.contains(member), Some(reason));
                format!("{} {reason}", member.id)
            });
            members.collect::<Vec<_>>().join("; ")
        }
        Err(problem) => format!("nobody: {problem}"),
    }
}

fn by(principal: &str, on_behalf_of: &[&str]) -> Ask {
    let mut asked = ask(principal, "Act", "Doc::\"d\"");
    asked.0.on_behalf_of = on_behalf_of.iter().map(|person| uid(person)).collect();
    asked
}

fn check(asked: &Ask, expected: &str) {
    assert_eq!(closure(&snapshot(), asked), expected);
}

#[test]
fn the_requester_and_the_owners_of_its_agents_are_in_it() {
    check(&by("User::\"ann\"", &[]), "ann made the request");
    check(&by("Agent::\"orphan\"", &[]), "orphan made the request");
    check(
        &by("Agent::\"bot\"", &[]),
        "bot made the request; ann owns the agent `Agent::\"bot\"`",
    );
    check(
        &by("Agent::\"child\"", &[]),
        "bot owns the agent `Agent::\"child\"`; child made the request; ann owns the agent `Agent::\"bot\"`",
    );
}

#[test]
fn the_chain_is_in_it_with_its_owners() {
    check(
        &by("Agent::\"orphan\"", &["Agent::\"bot\"", "User::\"eve2\""]),
        "bot is whom the request is made on behalf of; orphan made the request; \
         ann owns the agent `Agent::\"bot\"`; eve is the same person as `User::\"eve2\"`; \
         eve2 is whom the request is made on behalf of",
    );
}

#[test]
fn every_account_of_an_owner_is_in_it_whichever_names_the_other() {
    check(
        &by("Agent::\"loop\"", &[]),
        "loop made the request; bob owns the agent `Agent::\"loop\"`; \
         bob-admin is the same person as `User::\"bob\"`; bob-root is the same person as `User::\"bob\"`",
    );
}

#[test]
fn what_the_request_describes_can_only_add() {
    let agent = by("Agent::\"new\"", &[])
        .describe("Agent::\"new\"", &json!({"owner": user("fay")}), &[])
        .describe("User::\"fay\"", &link("ann"), &[]);
    check(
        &agent,
        "new made the request; ann is the same person as `User::\"fay\"`; fay owns the agent `Agent::\"new\"`",
    );
    let alias = by("User::\"bob\"", &[]).describe("User::\"fay\"", &link("bob"), &[]);
    assert!(closure(&snapshot(), &alias).contains("fay is the same person as `User::\"bob\"`"));
    let redefined = by("Agent::\"bot\"", &[]).describe("Agent::\"bot\"", &json!({}), &[]);
    check(
        &redefined,
        "nobody: what the request describes cannot be read, so nobody may approve",
    );
}

#[test]
fn an_identity_that_cannot_be_read_bars_everybody() {
    let missing = |name: &str| {
        format!("nobody: `{name}` is neither stored nor described, so nobody may approve")
    };
    check(&by("Agent::\"new\"", &[]), &missing("Agent::\"new\""));
    check(&by("Agent::\"lost\"", &[]), &missing("User::\"lost\""));
    check(
        &by("User::\"ann\"", &["User::\"new\""]),
        &missing("User::\"new\""),
    );
    check(&by("User::\"cy\"", &[]), &missing("User::\"lost\""));
    for empty in [by("User::\"\"", &[]), by("User::\"ann\"", &["User::\"\""])] {
        check(
            &empty,
            "nobody: `User::\"\"` has an empty id, so nobody may approve",
        );
    }
    check(
        &by("Usr::\"ann\"", &[]),
        "nobody: `Usr::\"ann\"` cannot exist, so nobody may approve: \
         the schema has no entity type `Usr`; did you mean `User`?",
    );
    assert!(closure(&snapshot(), &by("Env::\"prod\"", &[])).starts_with("nobody: "));
    check(&by("Env::\"dev\"", &[]), "dev made the request");
}

fn without_schema(stored: &Value) -> Files {
    Files::new("")
        .validation(ValidationMode::Off)
        .entities(stored)
}

#[test]
fn without_a_schema_an_owner_of_another_kind_bars_everybody() {
    let stored = entities(&[
        ("Agent::\"a\"", json!({"owner": "ann"}), &[]),
        (
            "Agent::\"b\"",
            json!({"owners": [{"__entity": user("ann")}, "bob"]}),
            &[],
        ),
        (
            "Agent::\"c\"",
            json!({"owners": [{"__entity": user("ann")}]}),
            &[],
        ),
        ("User::\"ann\"", json!({}), &[]),
    ]);
    let snapshot = without_schema(&stored).snapshot();
    for (agent, attribute) in [("a", "owner"), ("b", "owners")] {
        assert_eq!(
            closure(&snapshot, &by(&format!("Agent::\"{agent}\""), &[])),
            format!(
                "nobody: `{attribute}` of `Agent::\"{agent}\"` is neither an entity nor a set of entities, so nobody may approve"
            )
        );
    }
    assert_eq!(
        closure(&snapshot, &by("Agent::\"c\"", &[])),
        "c made the request; ann owns the agent `Agent::\"c\"`"
    );
}

#[test]
fn without_a_schema_a_name_written_otherwise_is_the_same_identity() {
    let stored = entities(&[("Acme::User::\"ann\"", json!({}), &[])]);
    let snapshot = without_schema(&stored).snapshot();
    let mut asked = by("Acme::User::\"ann\"", &[]);
    asked.0.principal.type_name = "Acme :: User".to_owned();
    // Either the spelling is refused or it is understood; it is never somebody else.
    match snapshot.requester_closure(&asked.0) {
        Ok(closure) => assert!(closure.contains(&uid("Acme::User::\"ann\"")).is_some()),
        Err(problem) => assert!(problem.to_string().contains("cannot exist"), "{problem}"),
    }
}

#[test]
fn a_link_that_cannot_be_read_keeps_the_set_from_loading() {
    let stored = entities(&[("User::\"ann\"", json!({"same_person_as": "bob"}), &[])]);
    assert_eq!(
        without_schema(&stored).problems()[0],
        "entities: `same_person_as` of `User::\"ann\"` is neither an entity nor a set of entities"
    );
}

#[test]
fn accounts_stand_for_one_person() {
    let snapshot = snapshot();
    let same = |one: &str, other: &str| {
        let user = |id: &str| uid(&format!("User::\"{id}\""));
        snapshot.is_same_person(&user(one), &user(other))
    };
    assert!(same("bob", "bob-root") && same("bob-root", "bob-admin") && same("ann", "ann"));
    assert!(!same("bob", "ann") && !same("bob", "cy") && !same("eve", "cy"));
    assert!(same("cy", "lost"));
    for account in ["bob", "bob-admin", "bob-root"] {
        let person = snapshot.person_of(&uid(&format!("User::\"{account}\"")));
        assert_eq!(person, uid("User::\"bob\""));
    }
    assert_eq!(
        snapshot.person_of(&uid("User::\"new\"")),
        uid("User::\"new\"")
    );
}
