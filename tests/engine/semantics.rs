//! What a decision is: from satisfied and erring permits, forbids and gates to one answer.

use countersign::model::{Effect, Posture};
use serde_json::json;

use crate::support::{Ask, Files, ask, words};

/// Policies in short: `p` holds, `p-` does not, `p!` cannot be evaluated; the first letter says permit, forbid or gate, and a
/// gate names its rule behind a colon.
fn policies(short: &str) -> String {
    short.split_whitespace().map(policy).collect()
}

fn policy(short: &str) -> String {
    let (name, rule) = short.split_once(':').unwrap_or((short, ""));
    let id = name.trim_end_matches(['-', '!']);
    let condition = match name.strip_prefix(id) {
        Some("-") => "context.no",
        Some("!") => "context.absent",
        _ => "context.yes",
    };
    let head = match name.chars().next() {
        Some('p') => "permit".to_owned(),
        Some('f') => "forbid".to_owned(),
        _ => format!("@approval(\"{rule}\") forbid"),
    };
    format!("@id(\"{id}\") {head} (principal, action, resource) when {{ {condition} }};\n")
}

fn question() -> Ask {
    ask("User::\"u\"", "act", "Doc::\"d\"").context(&json!({"yes": true, "no": false}))
}

fn files(short: &str) -> Files {
    Files::new(&policies(short)).rules(&["one", "two"])
}

fn check(short: &str, strict: &str, cedar: &str) {
    for (posture, expected) in [(Posture::Strict, strict), (Posture::Cedar, cedar)] {
        let snapshot = files(short).posture(posture).snapshot();
        let found = question().words(&snapshot);
        assert_eq!(found, expected, "`{short}` in posture {posture}");
    }
}

fn check_both(short: &str, expected: &str) {
    check(short, expected, expected);
}

#[test]
fn a_satisfied_forbid_denies_whatever_else_is_said() {
    check_both("f", "DENY forbidden by f");
    check_both("p f", "DENY forbidden by f");
    check_both("p f g:one", "DENY forbidden by f");
    check_both("p f1 f2", "DENY forbidden by f1,f2");
    check_both("p f1 f2!", "DENY forbidden by f1; errors f2");
    check_both("p! f g!:one", "DENY forbidden by f; errors g,p");
}

#[test]
fn a_forbid_that_errs_denies() {
    check(
        "p f!",
        "DENY policy error; errors f",
        "ALLOW by p; errors f",
    );
    check(
        "f!",
        "DENY policy error; errors f",
        "DENY no permit; errors f",
    );
    check(
        "p f! g:one",
        "DENY policy error; errors f",
        "REQUIRE_APPROVAL one[g]; errors f",
    );
    check(
        "p- f! f2-",
        "DENY policy error; errors f",
        "DENY no permit; errors f",
    );
}

#[test]
fn without_a_permit_nobody_is_asked() {
    check_both("", "DENY no permit");
    check_both("p-", "DENY no permit");
    check_both("g:one", "DENY no permit");
    check_both("p- g:one", "DENY no permit");
    check_both("p- f- g-:one", "DENY no permit");
    check_both("p! g:one", "DENY no permit; errors p");
    check_both("p- g!:one", "DENY no permit; errors g");
}

#[test]
fn a_gate_that_errs_denies() {
    check(
        "p g!:one",
        "DENY policy error; errors g",
        "ALLOW by p; errors g",
    );
    check(
        "p g1:one g2!:two",
        "DENY policy error; errors g2",
        "REQUIRE_APPROVAL one[g1]; errors g2",
    );
}

#[test]
fn satisfied_gates_require_approval() {
    check_both("p g:one", "REQUIRE_APPROVAL one[g]");
    check_both("p f- g:one", "REQUIRE_APPROVAL one[g]");
    check_both("p g1:one g2-:two", "REQUIRE_APPROVAL one[g1]");
}

#[test]
fn every_rule_of_the_satisfied_gates_must_be_fulfilled() {
    check_both("p g1:two g2:one", "REQUIRE_APPROVAL one[g2] two[g1]");
    check_both(
        "p g3:one g1:one g2:two",
        "REQUIRE_APPROVAL one[g1,g3] two[g2]",
    );
}

#[test]
fn what_is_left_is_allowed() {
    check_both("p", "ALLOW by p");
    check_both("p f- g-:one", "ALLOW by p");
    check_both("p2 p1 p3-", "ALLOW by p1,p2");
}

#[test]
fn a_permit_that_errs_grants_nothing_and_is_only_reported() {
    check_both("p!", "DENY no permit; errors p");
    check_both("p1 p2!", "ALLOW by p1; errors p2");
    check_both("p1 p2! g:one", "REQUIRE_APPROVAL one[g]; errors p2");
}

/// The table of the six sets, read literally: each of permit, forbid and gate holds, does not or errs.
#[test]
fn the_whole_table_holds() {
    for permit in ["p", "p-", "p!"] {
        for forbid in ["f", "f-", "f!"] {
            for gate in ["g", "g-", "g!"] {
                let short = format!("{permit} {forbid} {gate}:one");
                check(
                    &short,
                    &by_the_table([permit, forbid, gate], Posture::Strict),
                    &by_the_table([permit, forbid, gate], Posture::Cedar),
                );
            }
        }
    }
}

fn by_the_table([permit, forbid, gate]: [&str; 3], posture: Posture) -> String {
    let strict = posture == Posture::Strict;
    let outcome = match (permit, forbid, gate) {
        (_, "f", _) => "DENY forbidden by f",
        (_, "f!", _) if strict => "DENY policy error",
        ("p-" | "p!", _, _) => "DENY no permit",
        (_, _, "g!") if strict => "DENY policy error",
        (_, _, "g") => "REQUIRE_APPROVAL one[g]",
        _ => "ALLOW by p",
    };
    let erring: Vec<&str> = [forbid, gate, permit]
        .iter()
        .filter_map(|short| short.strip_suffix('!'))
        .collect();
    match erring.as_slice() {
        [] => outcome.to_owned(),
        ids => format!("{outcome}; errors {}", ids.join(",")),
    }
}

#[test]
fn an_answer_that_met_an_error_is_not_kept() {
    for (short, kept) in [
        ("p", true),
        ("p-", true),
        ("f", true),
        ("p g:one", true),
        ("p f!", false),
        ("p1 p2!", false),
        ("p! f", false),
        ("p g!:one", false),
    ] {
        for posture in [Posture::Strict, Posture::Cedar] {
            let snapshot = files(short).posture(posture).snapshot();
            let decided = question().decide(&snapshot);
            assert_eq!(decided.is_cacheable(), kept, "`{short}` in {posture}");
        }
    }
}

#[test]
fn what_determines_and_what_erred_is_sorted_by_id() {
    let names = "p10 p9 p1 pz pA pa p5! p4! f9- f10-";
    let snapshot = files(names).snapshot();
    assert_eq!(
        question().words(&snapshot),
        "ALLOW by p1,p10,p9,pA,pa,pz; errors p4,p5"
    );
}

#[test]
fn determining_policies_carry_their_annotations_and_effects() {
    let text = "@id(\"p\") permit (principal, action, resource);
        @id(\"g\") @approval(\"one\") @description(\"Why.\") @owner(\"\") forbid (principal, action, resource);";
    let snapshot = Files::new(text).rules(&["one"]).snapshot();
    let decided = question().decide(&snapshot);
    let policy = &decided.determining[0];
    assert_eq!((policy.id.as_str(), policy.effect), ("g", Effect::Gate));
    let annotations: Vec<(&str, &str)> = policy
        .annotations
        .iter()
        .map(|(key, text)| (key.as_str(), text.as_str()))
        .collect();
    assert_eq!(
        annotations,
        [("approval", "one"), ("description", "Why."), ("owner", "")]
    );
}

#[test]
fn an_error_names_its_policy_its_effect_and_the_cause() {
    let snapshot = files("p g!:one").snapshot();
    let decided = question().decide(&snapshot);
    let error = &decided.errors[0];
    assert_eq!((error.id.as_str(), error.effect), ("g", Effect::Gate));
    assert!(error.message.contains("absent"), "{}", error.message);
}

#[test]
fn a_linked_template_decides_like_a_policy() {
    let text = "@id(\"p\") permit (principal, action, resource);
        @id(\"t\") @approval(\"one\") forbid (principal == ?principal, action, resource == ?resource);";
    let links = json!([
        {"template_id": "t", "link_id": "l2", "args": {"?principal": "User::\"u\"", "?resource": "Doc::\"d\""}},
        {"template_id": "t", "link_id": "l1", "args": {"?principal": "User::\"u\"", "?resource": "Doc::\"d\""}},
        {"template_id": "t", "link_id": "l3", "args": {"?principal": "User::\"v\"", "?resource": "Doc::\"d\""}},
    ]);
    let snapshot = Files::new(text).rules(&["one"]).links(&links).snapshot();
    let decided = question().decide(&snapshot);
    assert_eq!(words(&decided), "REQUIRE_APPROVAL one[l1,l2]");
    assert_eq!(decided.determining[0].annotations["approval"], "one");
}
