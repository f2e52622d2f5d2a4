//! Hand-made traps for the scope index, the entity slice and the cache key.

use std::sync::Arc;

use countersign::model::{Posture, ValidationMode};
use countersign::policy::Snapshot;
use serde_json::{Value, json};

use crate::support::{Ask, Files, ask};

/// Each request gets its decision, and two that get different ones have different keys.
fn check(snapshot: &Arc<Snapshot>, cases: &[(Ask, &str)]) {
    for (request, expected) in cases {
        assert_eq!(request.words(snapshot), *expected, "{:#?}", request.0);
    }
    for (at, (one, expected)) in cases.iter().enumerate() {
        for (other, other_expected) in &cases[at + 1..] {
            if expected != other_expected {
                assert_ne!(
                    one.key(snapshot),
                    other.key(snapshot),
                    "one key for `{expected}` and `{other_expected}`:\n{:#?}\n{:#?}",
                    one.0,
                    other.0
                );
            }
        }
    }
}

/// All requests have one key.
fn share(snapshot: &Arc<Snapshot>, requests: &[Ask]) {
    for request in requests {
        assert_eq!(
            request.key(snapshot),
            requests[0].key(snapshot),
            "{:#?}",
            request.0
        );
    }
}

/// Every request has a key of its own.
fn part(snapshot: &Arc<Snapshot>, requests: &[Ask]) {
    let mut keys: Vec<Vec<u8>> = requests
        .iter()
        .map(|request| request.key(snapshot))
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), requests.len(), "{requests:#?}");
}

const SCHEMA: &str = r#"
entity Org;
entity Team in [Team, Org];
entity User in [Team] { level?: Long, friends?: Set<User>, peer?: User } tags String;
entity Doc in [Doc] { owners?: Set<User>, note?: String };
entity Spare in [Team] { note?: String };
action "all";
action "reads" in ["all"];
action "read" in ["reads"] appliesTo {
  principal: [User, Spare], resource: Doc,
  context: { who?: User, ip?: ipaddr, amount?: decimal, word?: String, words?: Set<String>, deep?: { word?: String }, trace?: String },
};
action "list" in ["reads"] appliesTo { principal: User, resource: Doc };
"#;

fn stored() -> Value {
    let entity = |name: &str, attrs: Value, parents: Value| {
        let (kind, id) = name.split_once(' ').unwrap();
        json!({"uid": {"type": kind, "id": id}, "attrs": attrs, "parents": parents})
    };
    let team = |id: &str| json!([{"type": "Team", "id": id}]);
    let mut users = json!([
        entity("User u", json!({"level": 1}), team("red")),
        entity(
            "User v",
            json!({"peer": {"type": "User", "id": "u"}}),
            team("blue")
        ),
        entity("User outsider", json!({}), json!([])),
        entity("Team red", json!({}), team("colours")),
        entity("Team blue", json!({}), team("absent")),
        entity(
            "Team colours",
            json!({}),
            json!([{"type": "Org", "id": "o"}])
        ),
        entity(
            "Doc d",
            json!({"owners": [{"type": "User", "id": "u"}, {"type": "Team", "id": "x"}]}),
            json!([])
        ),
    ]);
    users[6]["attrs"]["owners"] = json!([{"type": "User", "id": "u"}]);
    users[2]["tags"] = json!({"k": "x", "": "y"});
    users
}

/// A permit for everything, and `forbid` behind it.
fn files(forbid: &str) -> Files {
    let text = format!("@id(\"p\") permit (principal, action, resource);\n@id(\"f\") {forbid};");
    Files::new(&text).schema(SCHEMA).entities(&stored())
}

fn when(condition: &str) -> Arc<Snapshot> {
    let scope = "(principal is User, action == Action::\"read\", resource)";
    files(&format!("forbid {scope} when {{ {condition} }}")).snapshot()
}

/// The same without any schema.
fn loosely(condition: &str) -> Arc<Snapshot> {
    Files::new(&format!(
        "@id(\"p\") permit (principal, action, resource);
         @id(\"f\") forbid (principal, action, resource) when {{ {condition} }};"
    ))
    .posture(Posture::Cedar)
    .snapshot()
}

fn read(user: &str) -> Ask {
    ask(&format!("User::\"{user}\""), "read", "Doc::\"d\"")
}

const FORBIDDEN: &str = "DENY forbidden by f";
const ALLOWED: &str = "ALLOW by p";

#[test]
fn a_link_fits_only_with_both_of_its_slots() {
    let links = json!([
        {"template_id": "f", "link_id": "f-ud", "args": {"?principal": "User::\"u\"", "?resource": "Doc::\"d\""}},
        {"template_id": "f", "link_id": "f-ve", "args": {"?principal": "User::\"v\"", "?resource": "Doc::\"e\""}},
    ]);
    let snapshot = files("forbid (principal == ?principal, action, resource in ?resource)")
        .links(&links)
        .entities(&json!([]))
        .snapshot();
    let request = |user: &str, doc: &str, parents: &[&str]| {
        read(user)
            .describe(&format!("User::\"{user}\""), &json!({}), &[])
            .on(&format!("Doc::\"{doc}\""))
            .describe(&format!("Doc::\"{doc}\""), &json!({}), parents)
    };
    check(
        &snapshot,
        &[
            (request("u", "d", &[]), "DENY forbidden by f-ud"),
            (request("v", "e", &[]), "DENY forbidden by f-ve"),
            (request("u", "e", &[]), ALLOWED),
            (request("v", "d", &[]), ALLOWED),
            (
                request("v", "d", &["Doc::\"e\""]),
                "DENY missing Doc::\"e\"",
            ),
        ][..4],
    );
}

#[test]
fn membership_is_tested_against_each_element_of_a_set() {
    let snapshot = when("resource has owners && principal in resource.owners");
    let owners = |owners: Value| {
        read("u")
            .on("Doc::\"new\"")
            .describe("Doc::\"new\"", &json!({"owners": owners}), &[])
    };
    let user = |id: &str| json!({"type": "User", "id": id});
    check(
        &snapshot,
        &[
            (read("u"), FORBIDDEN),
            (read("v"), "DENY missing Team::\"absent\""),
            (owners(json!([])), ALLOWED),
            (owners(json!([user("v")])), ALLOWED),
            (owners(json!([user("v"), user("u")])), FORBIDDEN),
        ],
    );
}

#[test]
fn action_groups_hold_through_all_their_levels() {
    for scope in [
        "action in Action::\"all\"",
        "action in Action::\"reads\"",
        "action in [Action::\"read\", Action::\"reads\", Action::\"all\"]",
    ] {
        let snapshot = files(&format!("forbid (principal, {scope}, resource)")).snapshot();
        let list = ask("User::\"u\"", "list", "Doc::\"d\"");
        check(&snapshot, &[(read("u"), FORBIDDEN), (list, FORBIDDEN)]);
    }
    let snapshot = files("forbid (principal, action == Action::\"list\", resource)").snapshot();
    let list = ask("User::\"u\"", "list", "Doc::\"d\"");
    check(&snapshot, &[(read("u"), ALLOWED), (list, FORBIDDEN)]);
}

#[test]
fn type_and_group_must_both_fit() {
    let snapshot =
        files("forbid (principal is User in Team::\"colours\", action, resource)").snapshot();
    let spare = ask("Spare::\"s\"", "read", "Doc::\"d\"").describe(
        "Spare::\"s\"",
        &json!({}),
        &["Team::\"red\""],
    );
    check(
        &snapshot,
        &[
            (read("u"), FORBIDDEN),
            (read("outsider"), ALLOWED),
            (spare, ALLOWED),
        ],
    );
}

#[test]
fn an_optional_attribute_is_absent_or_there() {
    check(
        &when("context has word"),
        &[
            (read("u"), ALLOWED),
            (read("u").context(&json!({"trace": "x"})), ALLOWED),
            (read("u").context(&json!({"word": ""})), FORBIDDEN),
        ],
    );
    check(
        &when("context has deep.word"),
        &[
            (read("u"), ALLOWED),
            (read("u").context(&json!({"deep": {}})), ALLOWED),
            (read("u").context(&json!({"deep": {"word": ""}})), FORBIDDEN),
        ],
    );
    let new = |attributes: Value| read("new").describe("User::\"new\"", &attributes, &[]);
    let snapshot = when("principal has level");
    check(
        &snapshot,
        &[
            (new(json!({})), ALLOWED),
            (new(json!({"peer": {"type": "User", "id": "u"}})), ALLOWED),
            (new(json!({"level": 0})), FORBIDDEN),
        ],
    );
    share(
        &snapshot,
        &[
            new(json!({})),
            new(json!({"peer": {"type": "User", "id": "u"}})),
            new(json!({"friends": []})),
        ],
    );
}

#[test]
fn what_no_policy_reads_is_not_in_the_key() {
    let snapshot = when("context has word && context.word == \"x\"");
    share(
        &snapshot,
        &[
            read("u"),
            read("u").context(&json!({"trace": "1"})),
            read("u").context(&json!({"trace": "2", "ip": "10.0.0.1", "words": ["x"]})),
        ],
    );
}

#[test]
fn the_whole_context_is_in_the_key_where_it_is_used_as_a_value() {
    for condition in [
        "context == {trace: \"x\"}",
        "[context].contains({trace: \"x\"})",
        "{c: context}.c == {trace: \"x\"}",
        "(if principal == resource then {trace: \"y\"} else context) == {trace: \"x\"}",
    ] {
        let snapshot = loosely(condition);
        check(
            &snapshot,
            &[
                (read("u").context(&json!({"trace": "x"})), FORBIDDEN),
                (read("u").context(&json!({"trace": "y"})), ALLOWED),
                (read("u").context(&json!({})), ALLOWED),
                (
                    read("u").context(&json!({"trace": "x", "more": 1})),
                    ALLOWED,
                ),
            ],
        );
    }
}

#[test]
fn the_attributes_of_an_entity_in_the_context_are_in_the_key() {
    let snapshot = when("context has who && context.who has level && context.who.level > 5");
    let who = |level: i64| {
        read("u")
            .context(&json!({"who": {"type": "User", "id": "new"}}))
            .describe("User::\"new\"", &json!({"level": level}), &[])
    };
    let stored = |id: &str| read("u").context(&json!({"who": {"type": "User", "id": id}}));
    check(
        &snapshot,
        &[
            (who(1), ALLOWED),
            (who(9), FORBIDDEN),
            (stored("u"), ALLOWED),
            (stored("new"), "DENY missing User::\"new\""),
        ],
    );
    part(&snapshot, &[stored("u"), stored("v")]);
}

#[test]
fn one_extension_value_may_be_written_in_several_ways() {
    let extension =
        |function: &str, argument: &str| json!({"__extn": {"fn": function, "arg": argument}});
    let with = |name: &str, value: Value| read("u").context(&json!({ name: value }));
    let snapshot = when("context has ip && context.ip == ip(\"10.0.0.1\")");
    check(
        &snapshot,
        &[
            (with("ip", json!("10.0.0.1")), FORBIDDEN),
            (with("ip", extension("ip", "10.0.0.1")), FORBIDDEN),
            (with("ip", json!("10.0.0.1/32")), FORBIDDEN),
            (with("ip", json!("10.0.0.2")), ALLOWED),
            (with("ip", json!("10.0.0.1/24")), ALLOWED),
        ],
    );
    share(
        &snapshot,
        &[
            with("ip", json!("10.0.0.1")),
            with("ip", extension("ip", "10.0.0.1")),
        ],
    );
    check(
        &when("context has amount && context.amount == decimal(\"1.0\")"),
        &[
            (with("amount", json!("1.0")), FORBIDDEN),
            (with("amount", json!("1.00")), FORBIDDEN),
            (with("amount", extension("decimal", "1.000")), FORBIDDEN),
            (with("amount", json!("1.01")), ALLOWED),
        ],
    );
}

#[test]
fn without_a_schema_a_text_is_no_address_and_a_record_is_no_reference() {
    let with = |value: Value| read("u").context(&json!({ "x": value }));
    check(
        &loosely("context.x == ip(\"10.0.0.1\")"),
        &[
            (with(json!("10.0.0.1")), ALLOWED),
            (
                with(json!({"__extn": {"fn": "ip", "arg": "10.0.0.1"}})),
                FORBIDDEN,
            ),
        ],
    );
    check(
        &loosely("context.x == User::\"u\""),
        &[
            (with(json!({"type": "User", "id": "u"})), ALLOWED),
            (
                with(json!({"__entity": {"type": "User", "id": "u"}})),
                FORBIDDEN,
            ),
        ],
    );
}

#[test]
fn with_a_schema_both_forms_of_a_reference_are_one() {
    let snapshot = when("context has who && context.who == User::\"v\"");
    let short = read("u").context(&json!({"who": {"type": "User", "id": "v"}}));
    let long = read("u").context(&json!({"who": {"__entity": {"type": "User", "id": "v"}}}));
    check(
        &snapshot,
        &[(short.clone(), FORBIDDEN), (long.clone(), FORBIDDEN)],
    );
    share(&snapshot, &[short, long]);
}

#[test]
fn what_names_a_tag_is_in_the_key() {
    let snapshot = when(
        "context has word && principal.hasTag(context.word) && principal.getTag(context.word) == \"x\"",
    );
    let with = |user: &str, word: &str| read(user).context(&json!({"word": word}));
    check(
        &snapshot,
        &[
            (with("outsider", "k"), FORBIDDEN),
            (with("outsider", ""), ALLOWED),
            (with("outsider", "other"), ALLOWED),
            (with("u", "k"), ALLOWED),
        ],
    );
}

#[test]
fn described_parents_decide_about_membership() {
    let snapshot = files("forbid (principal in Team::\"colours\", action, resource)").snapshot();
    let new = |parents: &[&str]| read("new").describe("User::\"new\"", &json!({}), parents);
    check(
        &snapshot,
        &[
            (new(&[]), ALLOWED),
            (new(&["Team::\"colours\""]), FORBIDDEN),
            (new(&["Team::\"red\""]), FORBIDDEN),
            (
                new(&["Team::\"blue\"", "Team::\"red\""]),
                "DENY missing Team::\"absent\"",
            ),
        ],
    );
    let chain = |end: &str| new(&["Team::\"new\""]).describe("Team::\"new\"", &json!({}), &[end]);
    check(
        &snapshot,
        &[
            (chain("Team::\"red\""), FORBIDDEN),
            (
                new(&[]).describe("Team::\"new\"", &json!({}), &["Team::\"red\""]),
                ALLOWED,
            ),
        ],
    );
}

/// User `v` is in team `blue`, which is in a team that is not stored, but which the request may describe.
#[test]
fn a_described_group_counts_for_the_stored_entities_in_it() {
    let snapshot = files("forbid (principal in Team::\"colours\", action, resource)").snapshot();
    let absent =
        |user: &str, parent: &[&str]| read(user).describe("Team::\"absent\"", &json!({}), parent);
    check(
        &snapshot,
        &[
            (absent("v", &[]), ALLOWED),
            (absent("v", &["Team::\"colours\""]), FORBIDDEN),
            (absent("v", &["Team::\"red\""]), FORBIDDEN),
            (absent("outsider", &["Team::\"red\""]), ALLOWED),
        ],
    );
    let below = |parent: &str| {
        absent("new", &[parent]).describe("User::\"new\"", &json!({}), &["Team::\"blue\""])
    };
    check(
        &snapshot,
        &[
            (below("Team::\"red\""), FORBIDDEN),
            (below("Org::\"o\""), ALLOWED),
        ],
    );
}

#[test]
fn an_entity_cannot_be_made_its_own_ancestor() {
    let snapshot = files("forbid (principal in Team::\"colours\", action, resource)").snapshot();
    for request in [
        read("u").describe("Team::\"new\"", &json!({}), &["Team::\"new\""]),
        read("u")
            .describe("Team::\"a\"", &json!({}), &["Team::\"b\""])
            .describe("Team::\"b\"", &json!({}), &["Team::\"a\""]),
        // Through the stored team `blue`.
        read("u").describe("Team::\"absent\"", &json!({}), &["Team::\"blue\""]),
    ] {
        let refusal = request.refusal(&snapshot);
        assert!(refusal.contains("is its own ancestor"), "{refusal}");
    }
}

#[test]
fn a_short_name_that_two_namespaces_use_is_refused() {
    let schema = "namespace A { entity U, R; action read appliesTo { principal: U, resource: R }; }
        namespace B { action read appliesTo { principal: A::U, resource: A::R }; }";
    let text = "@id(\"p\") permit (principal, action == A::Action::\"read\", resource);";
    let snapshot = Files::new(text).schema(schema).snapshot();
    let named = |action: &str| ask("A::U::\"u\"", action, "A::R::\"r\"");
    check(
        &snapshot,
        &[
            (named("A::Action::\"read\""), ALLOWED),
            (named("B::Action::\"read\""), "DENY no permit"),
            (named("B::Action::\"r\\u{65}ad\""), "DENY no permit"),
        ],
    );
    let refusal = named("read").refusal(&snapshot);
    assert!(
        refusal.contains("A::Action::\"read\"") && refusal.contains("B::Action::\"read\""),
        "{refusal}"
    );
}

#[test]
fn absent_and_the_empty_values_are_all_different() {
    let snapshot = loosely("context has x && context.x == \"\"");
    let with = |value: Value| read("u").context(&json!({ "x": value }));
    check(
        &snapshot,
        &[
            (read("u"), ALLOWED),
            (with(json!("")), FORBIDDEN),
            (with(json!([])), ALLOWED),
            (with(json!({})), ALLOWED),
            (with(json!(0)), ALLOWED),
            (with(json!(false)), ALLOWED),
        ],
    );
    let values = [
        json!(""),
        json!([]),
        json!({}),
        json!(0),
        json!(false),
        json!("0"),
        json!("\0"),
        json!([""]),
        json!([[]]),
        json!([{}]),
        json!([[], []]),
        json!({"": {}}),
        json!({"": ""}),
        json!({"a": "b"}),
        json!({"a": {"b": ""}}),
        json!({"a": "", "b": ""}),
        json!(["a", "b"]),
        json!("ab"),
        json!(["ab"]),
        json!({"__entity": {"type": "A", "id": "b"}}),
        json!({"__entity": {"type": "A", "id": ""}}),
        json!({"type": "A", "id": "b"}),
        json!({"__extn": {"fn": "ip", "arg": "::1"}}),
        json!({"fn": "ip", "arg": "::1"}),
    ];
    let mut requests: Vec<Ask> = values.map(with).into();
    requests.push(read("u"));
    part(&snapshot, &requests);
}

#[test]
fn no_bytes_in_names_make_two_requests_one() {
    let snapshot = loosely("context has a && context has b");
    let texts = [
        "",
        "a",
        "\u{1}",
        "\u{1}a",
        "a\u{0}",
        "\u{3}\u{1}a",
        "\u{80}",
    ];
    let long = "x".repeat(300);
    let mut requests = Vec::new();
    for one in texts.iter().copied().chain([long.as_str()]) {
        for other in texts {
            let context = read("u").context(&json!({"a": one, "b": other}));
            requests.push(context);
            let mut by_id = read("u");
            by_id.0.principal.id = one.to_owned();
            by_id.0.resource.id = format!("{other}!");
            requests.push(by_id);
        }
    }
    part(&snapshot, &requests);
}

#[test]
fn named_actions_are_in_their_groups_too() {
    let condition = "Action::\"read\" in Action::\"all\" && !(Action::\"all\" in Action::\"read\")";
    let forbid = format!("forbid (principal, action, resource) when {{ {condition} }}");
    let snapshot = files(&forbid).validation(ValidationMode::Off).snapshot();
    let list = ask("User::\"u\"", "list", "Doc::\"d\"");
    check(&snapshot, &[(list, FORBIDDEN), (read("u"), FORBIDDEN)]);
}

#[test]
fn without_a_schema_an_action_is_an_entity_like_any_other() {
    let stored = json!([
        {"uid": {"type": "Action", "id": "deploy"}, "attrs": {"risk": 9}, "parents": [{"type": "Action", "id": "changes"}]},
        {"uid": {"type": "Action", "id": "changes"}, "attrs": {}, "parents": []},
    ]);
    for forbid in [
        "forbid (principal in Action::\"changes\", action, resource)",
        "forbid (principal, action, resource) when { principal in Action::\"changes\" }",
        "forbid (principal, action, resource) when { principal has risk && principal.risk > 5 }",
        "forbid (principal, action, resource) when { context.via in Action::\"changes\" }",
    ] {
        let text =
            format!("@id(\"p\") permit (principal, action, resource);\n@id(\"f\") {forbid};");
        let snapshot = Files::new(&text).entities(&stored).snapshot();
        let via = json!({"via": {"__entity": {"type": "Action", "id": "deploy"}}});
        let request = ask("Action::\"deploy\"", "read", "Action::\"changes\"").context(&via);
        check(&snapshot, &[(request, FORBIDDEN)]);
    }
}

#[test]
fn an_entity_is_in_itself_stored_or_not() {
    let text = "@id(\"p\") permit (principal in User::\"x\", action, resource in Doc::\"y\");";
    let snapshot = Files::new(text)
        .schema(SCHEMA)
        .entities(&json!([]))
        .posture(Posture::Cedar)
        .snapshot();
    check(
        &snapshot,
        &[
            (ask("User::\"x\"", "read", "Doc::\"y\""), ALLOWED),
            (ask("User::\"x\"", "read", "Doc::\"x\""), "DENY no permit"),
            (ask("User::\"y\"", "read", "Doc::\"y\""), "DENY no permit"),
        ],
    );
}

/// Policies are filed under the rarer of the two entities they name; a request must look under both.
#[test]
fn a_policy_is_found_wherever_it_is_filed() {
    let mut text = String::new();
    for number in 0..20 {
        let (user, doc) = (number % 4, number % 5);
        text.push_str(&format!(
            "@id(\"p{number:02}\") permit (principal == User::\"{user}\", action, resource in Doc::\"{doc}\");\n"
        ));
    }
    let snapshot = Files::new(&text).posture(Posture::Cedar).snapshot();
    for user in 0..4 {
        for doc in 0..5 {
            let request = ask(
                &format!("User::\"{user}\""),
                "read",
                &format!("Doc::\"{doc}\""),
            );
            let number = (0..20)
                .find(|number| number % 4 == user && number % 5 == doc)
                .unwrap();
            assert_eq!(request.words(&snapshot), format!("ALLOW by p{number:02}"));
        }
    }
}
