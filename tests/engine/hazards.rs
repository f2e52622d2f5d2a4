//! Where Cedar alone would fail open, and what closes each gap.

use std::sync::Arc;

use countersign::model::{Decision, EntityRef, Posture, Record, Request, ValidationMode};
use countersign::policy::{Engine, Snapshot};
use serde_json::json;

use crate::support::{Ask, Files, NOW, ask, decide, words};

const SCHEMA: &str = r#"
entity Org { name: String };
entity Team in [Org];
entity User in [Team] { level: Long, boss?: User } tags String;
entity Tier;
entity Region enum ["eu", "us"];
entity Folder in [Folder];
entity Doc in [Folder] { owner: User, region: Region, tier: Tier };
action "reads";
action "read" in ["reads"] appliesTo {
  principal: User, resource: Doc,
  context: { n: Long, at: datetime, span: duration, who?: User },
};
"#;

/// A store in which user `u` owns doc `d`, and the owner of doc `orphan` is nowhere.
fn stored() -> serde_json::Value {
    let user = |id: &str, boss: &str| {
        let attrs = json!({"level": 1, "boss": {"type": "User", "id": boss}});
        json!({"uid": {"type": "User", "id": id}, "attrs": attrs, "parents": []})
    };
    let doc = |id: &str, owner: &str| {
        let attrs = json!({"owner": {"type": "User", "id": owner}, "region": {"type": "Region", "id": "eu"}, "tier": {"type": "Tier", "id": "t"}});
        json!({"uid": {"type": "Doc", "id": id}, "attrs": attrs, "parents": []})
    };
    json!([
        user("u", "v"),
        user("v", "w"),
        user("w", "x"),
        doc("d", "u"),
        doc("orphan", "ghost")
    ])
}

/// A permit for everything, and a forbid or gate that must not silently vanish.
fn guarded(forbid: &str) -> Files {
    let text = format!("@id(\"p\") permit (principal, action, resource);\n@id(\"f\") {forbid};");
    Files::new(&text)
        .schema(SCHEMA)
        .entities(&stored())
        .rules(&["one"])
}

fn read(principal: &str, resource: &str) -> Ask {
    ask(principal, "read", resource).context(&json!({"n": 1, "at": "1970-01-01", "span": "1ms"}))
}

fn check(forbid: &str, request: &Ask, strict: &str, cedar: &str) {
    for (posture, expected) in [(Posture::Strict, strict), (Posture::Cedar, cedar)] {
        let snapshot = guarded(forbid).posture(posture).snapshot();
        assert_eq!(
            request.words(&snapshot),
            expected,
            "`{forbid}` in {posture}"
        );
    }
}

#[test]
fn a_forbid_that_overflows_denies() {
    let extremes = [
        ("context.n + 1 > 0", json!({"n": i64::MAX})),
        ("context.n - 1 < 0", json!({"n": i64::MIN})),
        ("context.n * 2 > 0", json!({"n": i64::MAX})),
        ("-context.n > 0", json!({"n": i64::MIN})),
        (
            "context.at.offset(context.span) > context.at",
            json!({"at": "9999-12-31", "span": "9223372036854775807ms"}),
        ),
        (
            "context.at.offset(context.span).durationSince(datetime(\"1960-01-01\")) > duration(\"0ms\")",
            json!({"span": "9223372036854775807ms"}),
        ),
    ];
    for (condition, extreme) in extremes {
        let mut context = json!({"n": 1, "at": "1970-01-01", "span": "1ms"});
        for (name, value) in extreme.as_object().unwrap() {
            context[name] = value.clone();
        }
        let request = ask("User::\"u\"", "read", "Doc::\"d\"").context(&context);
        let forbid = format!(
            "forbid (principal, action == Action::\"read\", resource) when {{ {condition} }}"
        );
        check(
            &forbid,
            &request,
            "DENY policy error; errors f",
            "ALLOW by p; errors f",
        );
        check(
            &format!("@approval(\"one\") {forbid}"),
            &request,
            "DENY policy error; errors f",
            "ALLOW by p; errors f",
        );
    }
}

#[test]
fn a_principal_that_is_nowhere_is_not_outside_of_every_group() {
    let ghost = read("User::\"ghost\"", "Doc::\"d\"");
    for forbid in [
        "forbid (principal in Team::\"contractors\", action, resource)",
        "forbid (principal is User in Team::\"contractors\", action, resource)",
        "forbid (principal, action, resource) when { principal in Team::\"contractors\" }",
        "forbid (principal, action, resource) when { principal in [Team::\"a\", Team::\"b\"] }",
        "@approval(\"one\") forbid (principal in Team::\"contractors\", action, resource)",
    ] {
        check(forbid, &ghost, "DENY missing User::\"ghost\"", "ALLOW by p");
        check(
            forbid,
            &read("User::\"u\"", "Doc::\"d\""),
            "ALLOW by p",
            "ALLOW by p",
        );
    }
}

#[test]
fn a_resource_that_is_nowhere_is_not_outside_of_every_folder() {
    check(
        "forbid (principal, action, resource in Folder::\"secret\")",
        &read("User::\"u\"", "Doc::\"ghost\""),
        "DENY missing Doc::\"ghost\"",
        "ALLOW by p",
    );
}

#[test]
fn a_missing_entity_is_not_one_without_attributes_and_tags() {
    let ghost = read("User::\"ghost\"", "Doc::\"d\"");
    for condition in [
        "principal has boss",
        "principal has boss && principal.boss.level > 1",
        "principal.hasTag(\"leaver\")",
        "principal has boss.level",
    ] {
        let forbid = format!("forbid (principal, action, resource) when {{ {condition} }}");
        check(
            &forbid,
            &ghost,
            "DENY missing User::\"ghost\"",
            "ALLOW by p",
        );
    }
    check(
        "forbid (principal, action, resource) when { principal.level > 5 }",
        &ghost,
        "DENY missing User::\"ghost\"",
        "ALLOW by p; errors f",
    );
}

#[test]
fn a_reference_to_nowhere_denies_where_policies_can_follow_it() {
    let orphan = read("User::\"u\"", "Doc::\"orphan\"");
    check(
        "forbid (principal, action, resource) when { resource.owner.level > 5 }",
        &orphan,
        "DENY missing User::\"ghost\"",
        "ALLOW by p; errors f",
    );
    check(
        "forbid (principal, action, resource) when { resource.owner in Team::\"contractors\" }",
        &orphan,
        "DENY missing User::\"ghost\"",
        "ALLOW by p",
    );
    // Comparing the reference itself looks into nothing.
    check(
        "forbid (principal, action, resource) when { resource.owner == User::\"v\" }",
        &orphan,
        "ALLOW by p",
        "ALLOW by p",
    );
}

#[test]
fn a_nested_reference_must_be_there_within_the_level() {
    let request = read("User::\"u\"", "Doc::\"d\"");
    let boss = |depth: usize| {
        let chain = ".boss".repeat(depth);
        let guards: Vec<String> = (0..depth)
            .map(|level| format!("principal{} has boss", ".boss".repeat(level)))
            .collect();
        let guards = guards.join(" && ");
        format!(
            "forbid (principal, action, resource) when {{ {guards} && principal{chain} == User::\"nobody\" }}"
        )
    };
    // The boss of `w` is `x`, who is nowhere: three references deep it is only named, four deep it is looked into.
    check(&boss(3), &request, "ALLOW by p", "ALLOW by p");
    check(&boss(4), &request, "DENY missing User::\"x\"", "ALLOW by p");
}

#[test]
fn a_reference_in_the_context_must_be_there_if_policies_look_into_it() {
    let who =
        json!({"n": 1, "at": "1970-01-01", "span": "1ms", "who": {"type": "User", "id": "ghost"}});
    let request = ask("User::\"u\"", "read", "Doc::\"d\"").context(&who);
    let forbid =
        "forbid (principal, action, resource) when { context has who && context.who.level > 5 }";
    check(
        forbid,
        &request,
        "DENY missing User::\"ghost\"",
        "ALLOW by p; errors f",
    );
    let described = request.describe("User::\"ghost\"", &json!({"level": 9}), &[]);
    check(
        forbid,
        &described,
        "DENY forbidden by f",
        "DENY forbidden by f",
    );
}

#[test]
fn what_the_request_describes_is_not_missing() {
    let request = read("User::\"ghost\"", "Doc::\"d\"");
    let forbid = "forbid (principal in Team::\"contractors\", action, resource)";
    let inside_unknown = request.clone().describe(
        "User::\"ghost\"",
        &json!({"level": 1}),
        &["Team::\"contractors\""],
    );
    let inside = inside_unknown
        .clone()
        .describe("Team::\"contractors\"", &json!({}), &[]);
    let outside = request.describe("User::\"ghost\"", &json!({"level": 1}), &[]);
    check(
        forbid,
        &inside,
        "DENY forbidden by f",
        "DENY forbidden by f",
    );
    check(forbid, &outside, "ALLOW by p", "ALLOW by p");
    // What a team nobody knows is in is not known, and so neither is what its members are in.
    let elsewhere = "forbid (principal in Team::\"elsewhere\", action, resource)";
    check(
        elsewhere,
        &inside_unknown,
        "DENY missing Team::\"contractors\"",
        "ALLOW by p",
    );
}

#[test]
fn types_without_attributes_and_parents_and_enumerated_types_need_not_be_stored() {
    let request = read("User::\"u\"", "Doc::\"d\"");
    for condition in [
        "resource.tier in Tier::\"x\"",
        "resource.region in Region::\"us\"",
        "[resource.tier].contains(Tier::\"x\")",
    ] {
        let forbid = format!("forbid (principal, action, resource) when {{ {condition} }}");
        let files = guarded(&forbid).validation(ValidationMode::Off);
        assert_eq!(
            request.words(&files.snapshot()),
            "ALLOW by p",
            "{condition}"
        );
    }
}

#[test]
fn all_missing_entities_are_named_in_order() {
    let forbid = "forbid (principal in Team::\"c\", action, resource in Folder::\"f\") when { context has who && context.who.level > 5 }";
    let context =
        json!({"n": 1, "at": "1970-01-01", "span": "1ms", "who": {"type": "User", "id": "a"}});
    let request = ask("User::\"z\"", "read", "Doc::\"y\"").context(&context);
    check(
        forbid,
        &request,
        "DENY missing Doc::\"y\",User::\"a\",User::\"z\"",
        "ALLOW by p",
    );
}

#[test]
fn action_groups_are_there_although_no_file_describes_them() {
    let request = read("User::\"u\"", "Doc::\"d\"");
    for forbid in [
        "forbid (principal, action in Action::\"reads\", resource)",
        "forbid (principal, action in [Action::\"reads\"], resource)",
        "forbid (principal, action, resource) when { action in Action::\"reads\" }",
        "forbid (principal, action, resource) when { action in [Action::\"reads\"] }",
    ] {
        check(
            forbid,
            &request,
            "DENY forbidden by f",
            "DENY forbidden by f",
        );
    }
}

/// On a stack that holds the permit but not the deeper forbid, Cedar alone would allow.
#[test]
fn a_stack_that_is_too_small_never_allows() {
    let condition = format!("{}true{}", "!(!(".repeat(30), "))".repeat(30));
    let snapshot = Files::new(&format!(
        "@id(\"p\") permit (principal, action, resource);
         @id(\"f\") forbid (principal, action, resource) when {{ {condition} }};"
    ))
    .snapshot();
    let prepared = snapshot
        .prepare(ask("User::\"u\"", "act", "Doc::\"d\"").0)
        .unwrap();
    let plan = &snapshot.plan(&prepared, NOW).unwrap();
    let mut outcomes = Vec::new();
    for kibibytes in [112, 128, 144, 160, 192, 256, 384, 512, 1024, 2048, 4096] {
        for engine in [Engine::Index, Engine::Full] {
            let decided = std::thread::scope(|scope| {
                std::thread::Builder::new()
                    .stack_size(kibibytes * 1024)
                    .spawn_scoped(scope, || plan.decide(engine))
                    .unwrap()
                    .join()
                    .unwrap()
            });
            assert_eq!(
                decided.outcome.decision(),
                Decision::Deny,
                "{engine:?} on {kibibytes} KiB: {}",
                words(&decided)
            );
            outcomes.push(words(&decided));
        }
    }
    assert!(
        outcomes
            .iter()
            .any(|words| words.starts_with("DENY policy error")),
        "no stack was too small: {outcomes:?}"
    );
    assert_eq!(outcomes.last().unwrap(), "DENY forbidden by f");
}

fn refused(files: &Files, expected: &str) {
    let problems = files.problems();
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains(expected) && !problem.starts_with("warning")),
        "no error says `{expected}`: {problems:#?}"
    );
}

#[test]
fn a_forbid_or_gate_that_can_never_match_is_not_loaded() {
    for scope in [
        "(principal, action, resource) when { false }",
        "(principal is Doc, action == Action::\"read\", resource)",
        "(principal, action == Action::\"reads\", resource)",
        "(principal, action == Action::\"read\", resource) when { principal in resource.owner && resource is User }",
    ] {
        refused(&guarded(&format!("forbid {scope}")), "policies.cedar:2");
        refused(
            &guarded(&format!("@approval(\"one\") forbid {scope}")),
            "policies.cedar:2",
        );
    }
}

#[test]
fn a_linked_forbid_that_can_never_match_is_not_loaded() {
    for (template, slots) in [
        (
            "(principal == ?principal, action, resource) when { false }",
            json!({"?principal": "User::\"u\""}),
        ),
        (
            "(principal, action == Action::\"read\", resource == ?resource)",
            json!({"?resource": "Org::\"o\""}),
        ),
    ] {
        let links = json!([{"template_id": "f", "link_id": "l", "args": slots}]);
        for annotation in ["", "@approval(\"one\") "] {
            let files = guarded(&format!("{annotation}forbid {template}")).links(&links);
            assert!(
                files.compile().snapshot.is_none(),
                "`{annotation}{template}` is loaded: {:#?}",
                files.problems()
            );
        }
    }
}

#[test]
fn a_gate_template_without_a_link_is_not_loaded() {
    refused(
        &guarded("@approval(\"one\") forbid (principal == ?principal, action, resource)"),
        "the gate template `f` has no link",
    );
}

#[test]
fn an_approval_on_a_permit_is_not_loaded() {
    refused(
        &Files::new("@id(\"p\") @approval(\"one\") permit (principal, action, resource);")
            .rules(&["one"]),
        "the permit `p` carries `@approval`",
    );
}

#[test]
fn a_forbid_without_a_name_is_not_loaded() {
    for forbid in [
        "forbid (principal, action, resource);",
        "@approval(\"one\") forbid (principal, action, resource);",
        "@id forbid (principal, action, resource);",
        "@id(\"\") forbid (principal, action, resource);",
    ] {
        assert!(
            Files::new(forbid)
                .rules(&["one"])
                .compile()
                .snapshot
                .is_none(),
            "`{forbid}` is loaded"
        );
    }
}

#[test]
fn a_gate_whose_rule_is_missing_is_not_loaded() {
    for rule in ["@approval(\"two\")", "@approval(\"\")", "@approval"] {
        refused(
            &guarded(&format!("{rule} forbid (principal, action, resource)")),
            "`@approval` names the rule",
        );
    }
}

#[test]
fn one_name_for_two_policies_is_not_loaded() {
    let one = "@id(\"x\") permit (principal, action, resource);";
    refused(
        &Files::new(one).with("sub/other.cedar", one),
        "sub/other.cedar:1:1: the id `x` is taken by the policy at policies.cedar:1",
    );
    let template = "@id(\"x\") permit (principal == ?principal, action, resource);";
    refused(
        &Files::new(one).with("sub/other.cedar", template),
        "the id `x` is taken",
    );
}

#[test]
fn looking_into_an_entity_that_a_policy_names_is_not_loaded() {
    for condition in [
        "User::\"u\".level > 1",
        "User::\"u\" in Team::\"t\"",
        "User::\"u\".hasTag(\"t\")",
    ] {
        refused(
            &guarded(&format!(
                "forbid (principal, action, resource) when {{ {condition} }}"
            )),
            "policies.cedar:2",
        );
    }
}

#[test]
fn looking_deeper_than_four_references_is_not_loaded() {
    let condition = |depth: usize| {
        let guards: Vec<String> = (0..depth)
            .map(|level| format!("principal{} has boss", ".boss".repeat(level)))
            .collect();
        format!(
            "forbid (principal, action, resource) when {{ {} }}",
            guards.join(" && ")
        )
    };
    assert!(guarded(&condition(4)).compile().snapshot.is_some());
    refused(&guarded(&condition(5)), "level");
}

#[test]
fn any_text_is_an_id() {
    let ids = [
        "",
        " ",
        "\"",
        "\\",
        "\n",
        "\0",
        "\u{1f480}",
        "User::\"u\"",
        "::",
        "a\"b\\c\r\n\t",
        "\u{202e}",
        "e\u{301}",
    ];
    let template = "forbid (principal == ?principal, action, resource)";
    for id in ids {
        let name = format!("User::\"{}\"", id.escape_unicode());
        let links = json!([{"template_id": "f", "link_id": "l", "args": {"?principal": name}}]);
        let snapshot = guarded(template).links(&links).snapshot();
        for other in ids {
            let expected = if id == other {
                "DENY forbidden by l"
            } else {
                "ALLOW by p"
            };
            assert_eq!(
                words(&by_id(&snapshot, other)),
                expected,
                "{other:?} where {id:?} is forbidden"
            );
        }
    }
}

fn by_id(snapshot: &Arc<Snapshot>, id: &str) -> countersign::model::Decided {
    let mut request = Request::new(
        EntityRef::new("User", id),
        "read",
        EntityRef::new("Doc", id),
        Record::default(),
    );
    request.context = read("User::\"u\"", "Doc::\"d\"").0.context;
    decide(snapshot, request).unwrap()
}
