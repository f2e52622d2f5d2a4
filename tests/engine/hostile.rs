//! Hostile text: whatever stands in the files, compiling ends with a snapshot or with an error that has its place.

use std::sync::Arc;

use countersign::model::Request;
use countersign::policy::{Engine, Snapshot, explain};
use serde_json::json;

use crate::support::{Files, NOW, ask};

/// The stack of the threads that serve.
const SERVING_STACK_BYTES: usize = 8 * 1024 * 1024;

/// Compiles, and if that succeeds decides, explains and forgets the snapshot, all on the stacks of production.
pub(crate) fn survive(what: &str, files: &Files) -> Option<String> {
    let report = files.compile();
    let Some(snapshot) = report.snapshot else {
        let error = &report.problems[0];
        assert!(error.is_error());
        assert!(!error.file.is_empty(), "{what}: {error:?} is about no file");
        return Some(error.to_string());
    };
    let request = ask("User::\"u\"", "act", "Doc::\"d\"")
        .context(&json!({"n": 1, "s": "a".repeat(2_000), "t": true}));
    std::thread::Builder::new()
        .stack_size(SERVING_STACK_BYTES)
        .spawn(move || use_up(snapshot, request.0))
        .unwrap()
        .join()
        .unwrap();
    None
}

fn use_up(snapshot: Arc<Snapshot>, request: Request) {
    if let Ok(prepared) = snapshot.prepare(request.clone()) {
        let plan = snapshot.plan(&prepared, NOW).unwrap();
        assert_eq!(plan.decide(Engine::Index), plan.decide(Engine::Full));
        explain(&snapshot, request, NOW).unwrap();
    }
    drop(snapshot);
}

pub(crate) fn loads(what: &str, files: &Files) {
    assert_eq!(survive(what, files), None, "{what}");
}

/// It is refused with an error that contains `expected`.
pub(crate) fn refused(what: &str, files: &Files, expected: &str) {
    let error = survive(what, files).unwrap_or_else(|| panic!("{what} is accepted"));
    let start: String = error.chars().take(500).collect();
    assert!(error.contains(expected), "{what}: {start}");
}

/// A permit with a condition.
fn when(condition: &str) -> Files {
    Files::new(&format!(
        "@id(\"p\") permit (principal, action, resource) when {{ {condition} }};"
    ))
}

pub(crate) fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn nested_brackets_are_bounded() {
    for (open, inner, close) in [
        ("(", "true", ")"),
        ("!(", "true", ")"),
        ("[", "1", "]"),
        ("{a: ", "1", "}"),
        ("{\"a\": [", "1", "]}"),
        ("-(", "1", ")"),
        ("(1 + ", "1", ")"),
        ("if (", "true", ") then true else false"),
        ("[1].contains(", "1", ")"),
        ("principal[", "\"a\"", "]"),
        ("ip(", "\"::1\"", ")"),
    ] {
        for depth in [10, 28] {
            let condition = nested(open, inner, close, depth);
            survive(&format!("{depth} times `{open}`"), &when(&condition));
        }
        for depth in [80, 100, 1_000, 10_000] {
            let what = format!("{depth} times `{open}`");
            let condition = nested(open, inner, close, depth);
            refused(&what, &when(&condition), "policies.cedar:1:");
            let unclosed = open.repeat(depth);
            refused(&what, &when(&unclosed), "policies.cedar:1:");
            survive(&what, &when(&close.repeat(depth)));
        }
    }
}

#[test]
fn brackets_hide_nowhere() {
    let deep = nested("(", "true", ")", 10_000);
    for prefix in [
        "// \r",
        "// \n",
        "//\u{85}\n",
        "\u{feff}",
        "\u{2028}",
        "\"\" == \"",
        "\"\\\" == \"",
        "/ / ",
    ] {
        let text =
            format!("@id(\"p\") permit (principal, action, resource) when {{ {prefix} {deep} }};");
        survive(&format!("after {prefix:?}"), &Files::new(&text));
        let schema = format!(
            "{prefix} entity User {{ a: {} }};",
            nested("Set<", "Long", ">", 10_000)
        );
        survive(
            &format!("schema after {prefix:?}"),
            &Files::new("").schema(&schema),
        );
    }
}

#[test]
fn chains_of_operators_are_bounded() {
    for (start, link, end) in [
        ("true", " && true", ""),
        ("false", " || false", ""),
        ("true", " && context.t || false", ""),
        ("1", " + 1", " == 0"),
        ("context.n", " - context.n", " == 0"),
        ("2", " * 0", " == 0"),
        ("context", ".a", ""),
        ("principal", ".a", " == 1"),
        ("context", "[\"a\"]", ""),
        ("context has a", ".a", ""),
        ("principal has a", ".a", ""),
        ("\"\"", ".a()", ""),
        ("[1]", ".contains(1)", ""),
        ("1", " < 1", ""),
        ("1", " == 1", ""),
        ("principal", " in principal", ""),
        ("principal is User", " in Team::\"t\"", ""),
        ("!", "!", "true"),
        ("-", "-", "1 == 1"),
        ("", "! ", "true"),
        ("", "-", "9223372036854775808 == 1"),
        ("[1", ", 1", "].isEmpty()"),
        ("context like \"", "*a", "b\""),
        ("context.s like \"", "*a", "b\""),
        ("A", "::A", "::\"x\" == principal"),
        ("if true then true", " else if true then true", " else true"),
        ("", "if true then ", "true"),
    ] {
        for length in [2, 100, 1_000, 2_000, 2_700, 4_000, 8_000, 100_000] {
            let condition = format!("{start}{}{end}", link.repeat(length));
            survive(&format!("{length} times `{link}`"), &when(&condition));
        }
    }
}

#[test]
fn chains_of_clauses_annotations_and_records_are_bounded() {
    for length in [100, 1_000, 1_600, 10_000] {
        let clauses = "when { true } unless { false } ".repeat(length);
        survive(
            "clauses",
            &Files::new(&format!(
                "@id(\"p\") permit (principal, action, resource) {clauses};"
            )),
        );
        let annotations: String = (0..length)
            .map(|number| format!("@a{number}(\"x\") "))
            .collect();
        survive(
            "annotations",
            &Files::new(&format!(
                "{annotations} permit (principal, action, resource);"
            )),
        );
        let same = "@a(\"x\") ".repeat(length);
        survive(
            "one annotation",
            &Files::new(&format!("{same} permit (principal, action, resource);")),
        );
        let record: String = (0..length)
            .map(|number| format!("a{number}: {number}, "))
            .collect();
        survive("a record", &when(&format!("context == {{{record} z: 1}}")));
        let actions = "Action::\"a\", ".repeat(length);
        survive(
            "actions",
            &Files::new(&format!(
                "@id(\"p\") permit (principal, action in [{actions} Action::\"b\"], resource);"
            )),
        );
    }
}

#[test]
fn long_texts_are_only_long() {
    let long = "x".repeat(1_000_000);
    let escapes = "\\u{1f480}".repeat(200_000);
    loads(
        "an id",
        &Files::new(&format!(
            "@id(\"{long}\") permit (principal, action, resource);"
        )),
    );
    loads(
        "an annotation",
        &Files::new(&format!(
            "@id(\"p\") @note(\"{escapes}\") permit (principal, action, resource);"
        )),
    );
    loads(
        "a text",
        &when(&format!(
            "context.s == \"{long}\" || context.s == \"{escapes}\""
        )),
    );
    loads(
        "a pattern",
        &when(&format!("context.s like \"{}b\"", "*a".repeat(100_000))),
    );
    loads(
        "a comment",
        &Files::new(&format!(
            "//{long}\n@id(\"p\") permit (principal, action, resource); //{long}"
        )),
    );
    loads(
        "spaces",
        &Files::new(&format!(
            "{}@id(\"p\") permit (principal, action, resource);",
            " \t\r\n".repeat(500_000)
        )),
    );
    refused(
        "an open text",
        &when(&format!("\"{long}")),
        "policies.cedar:1:",
    );
    refused("a word", &when(&long), "policies.cedar:1:");
    refused(
        "a number",
        &when(&format!("{} == 1", "9".repeat(1_000_000))),
        "policies.cedar:1:",
    );
    refused(
        "words",
        &Files::new(&format!("{long} ").repeat(3)),
        "policies.cedar:1:",
    );
}

#[test]
fn odd_bytes_are_refused_with_their_place() {
    let permit = "@id(\"p\") permit (principal, action, resource)";
    loads("NUL in a text", &when("context.s == \"\0\""));
    for odd in [
        "\0",
        "\u{1}",
        "\u{7f}",
        "\u{feff}",
        "\u{202e}",
        "#",
        "`",
        "é",
        "\u{1f480}",
    ] {
        refused(
            &format!("{odd:?}"),
            &Files::new(&format!("{permit};\n{odd}")),
            "policies.cedar:2:1: ",
        );
    }
}

#[test]
fn many_errors_take_no_time() {
    for (what, text) in [
        ("semicolons", ";".repeat(100_000)),
        ("semicolons in lines", ";\n".repeat(100_000)),
        ("closing brackets", ")".repeat(8_000)),
        ("permits without an end", "permit (".repeat(60)),
        ("broken policies", "permit );\n".repeat(20_000)),
        (
            "unknown effects",
            "allow (principal, action, resource);\n".repeat(5_000),
        ),
        (
            "unknown variables",
            "permit (principal, action, resource) when { nobody };\n".repeat(5_000),
        ),
        (
            "forbids without a name",
            "forbid (principal, action, resource);\n".repeat(5_000),
        ),
        (
            "one name",
            "@id(\"p\") permit (principal, action, resource);\n".repeat(5_000),
        ),
        (
            "templates",
            "permit (principal == ?principal, action, resource);\n".repeat(5_000),
        ),
    ] {
        refused(what, &Files::new(&text), "policies.cedar:");
    }
    loads(
        "permits without a name",
        &Files::new(&"permit (principal, action, resource);\n".repeat(5_000)),
    );
}
