//! The floors of the house: a folder of `src` uses itself and the floors below it, never a peer, never up.
//!
//! Works on the text of the files, as a reader would: comments are left out, and `use` trees are written out in full.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops at the unexpected, in its helpers too"
)]

use std::fs;
use std::path::Path;

/// Every module of `src`, floor by floor from below. Only the two roots, on top, may use everything.
const FLOORS: [&[&str]; 9] = [
    &["model"],
    &["policy", "approval"],
    // Above `approval`, whose events it records and replays.
    &["audit"],
    &["usecase"],
    &["grpc", "http", "identity", "storage", "channel"],
    &["config", "telemetry"],
    &["server"],
    &["cli"],
    &["lib", "main"],
];
/// What the two lowest floors get as an argument, or do without.
const IMPURE: [&str; 13] = [
    "async",
    "await",
    "tokio",
    "tonic",
    "SystemTime",
    "Instant",
    "rand::",
    "fastrand",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
];
/// Names that belong to one place, with the paths that may use them.
const CONFINED: [(&str, &[&str]); 7] = [
    ("cedar_policy", &["policy/"]),
    ("grpc::proto", &["grpc/", "cli/"]),
    ("prost", &["grpc/", "audit/"]),
    (
        "audit::proto",
        &[
            "audit/",
            "usecase/",
            "storage/decision_log",
            "grpc/",
            "http/",
            "server/",
            "cli/",
        ],
    ),
    ("Timestamp::now", &["server/clock.rs"]),
    ("SystemTime", &[]),
    ("Zoned::now", &[]),
];
/// The floors that are pure.
const PURE_FLOORS: usize = 3;
const MAX_LINES: usize = 500;

/// Everything wrong with the file at `path`, relative to `src`.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let module = path.split(['/', '.']).next().unwrap_or(path);
    let Some(floor) = FLOORS.iter().position(|floor| floor.contains(&module)) else {
        return vec![format!("src/{path} stands on no floor")];
    };
    let mut found = Vec::new();
    for other in FLOORS[floor..].concat() {
        let is_used = names(&code, &format!("crate::{other}"));
        found.extend((is_used && other != module).then(|| format!("uses `{other}`, not below it")));
    }
    let leads_up = if path.ends_with("/mod.rs") {
        "super::"
    } else {
        "super::super"
    };
    if names(&code.replace("super::*", ""), leads_up) {
        found.push("climbs with `super`".to_owned());
    }
    let impure = IMPURE
        .iter()
        .filter(|word| floor < PURE_FLOORS && names(&code, word));
    found.extend(impure.map(|word| format!("is pure code that names `{word}`")));
    let stray = CONFINED
        .iter()
        .filter(|(_, places)| !places.iter().any(|place| path.starts_with(place)));
    let stray = stray.filter(|(word, _)| names(&code, word));
    found.extend(stray.map(|(word, places)| format!("names `{word}`, which only {places:?} may")));
    if !text.starts_with("//! ") {
        found.push("does not open with a line that says what it is for".to_owned());
    }
    let is_contract = path == "lib.rs" || path.ends_with("/mod.rs");
    if is_contract && !text.contains("\n//! Never: ") {
        found.push("has no `Never:` line".to_owned());
    }
    if text.lines().count() > MAX_LINES {
        found.push(format!("has more than {MAX_LINES} lines"));
    }
    found
        .iter()
        .map(|what| format!("src/{path} {what}"))
        .collect()
}

/// Whether `code` names something that begins with `word`.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_part))
}

/// The text without comments; behind it the paths of its `use` trees, one on each line.
fn code_of(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code: Vec<&str> = lines
        .map(|line| line.split(" // ").next().unwrap_or(line))
        .collect();
    let code = code.join("\n");
    let trees = code
        .split("use ")
        .skip(1)
        .filter_map(|rest| rest.split_once(';'));
    let mut paths = String::new();
    for (tree, _) in trees {
        write_out("", &tree.split_whitespace().collect::<String>(), &mut paths);
    }
    format!("{code}{paths}")
}

/// Writes `a::{b, c::{d}}` as `a::b` and `a::c::d`.
fn write_out(prefix: &str, tree: &str, paths: &mut String) {
    let Some((head, branches)) = tree.split_once('{') else {
        paths.extend(["\n", prefix, tree]);
        return;
    };
    let mut depth = 0;
    let branches = branches
        .strip_suffix('}')
        .unwrap_or(branches)
        .split(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
    branches.for_each(|branch| write_out(&format!("{prefix}{head}"), branch, paths));
}

fn check_folder(folder: &Path, below: &str, found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{below}{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            files += check_folder(&entry.path(), &format!("{name}/"), found);
        } else if entry.path().extension().is_some_and(|it| it == "rs") {
            files += 1;
            found.extend(complaints(
                &name,
                &fs::read_to_string(entry.path()).unwrap(),
            ));
        }
    }
    files
}

#[test]
fn every_file_keeps_to_its_floor() {
    let mut found = Vec::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = check_folder(&src, "", &mut found);
    assert!(files > 50, "only {files} files were found");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_rule_can_be_broken() {
    const GOOD: &str = "//! Is for this.\n//! Never: that.\n";
    let long = "\n".repeat(MAX_LINES);
    for (path, code, complaint) in [
        ("attic/a.rs", "", "stands on no floor"),
        (
            "grpc/a.rs",
            "use crate::storage::policy_dir;",
            "uses `storage`",
        ),
        (
            "grpc/a.rs",
            "use crate::{\n  model::Value,\n  server::{Server, Parts},\n};",
            "uses `server`",
        ),
        (
            "usecase/a.rs",
            "fn f() { crate::grpc::json::read() }",
            "uses `grpc`",
        ),
        ("model/mod.rs", "use super::policy;", "climbs"),
        (
            "policy/a.rs",
            "fn f() { super::super::server::start() }",
            "climbs",
        ),
        (
            "policy/a.rs",
            "use std::{collections::{HashMap, HashSet}, fs};",
            "names `std::fs`",
        ),
        (
            "policy/a.rs",
            "use std::time::{Duration, Instant};",
            "names `Instant`",
        ),
        ("model/a.rs", "async fn f() {}", "names `async`"),
        (
            "model/a.rs",
            "fn f() -> u8 { rand::random() }",
            "names `rand::`",
        ),
        (
            "server/a.rs",
            "use cedar_policy_core::ast;",
            "names `cedar_policy`",
        ),
        (
            "server/a.rs",
            "use crate::grpc::{json, proto};",
            "names `grpc::proto`",
        ),
        (
            "cli/a.rs",
            "fn f(fields: prost_types::Struct) {}",
            "names `prost`",
        ),
        (
            "storage/a.rs",
            "fn f() { jiff::Timestamp::now(); }",
            "names `Timestamp::now`",
        ),
        ("cli/a.rs", &long, "has more than 500 lines"),
    ] {
        let found = complaints(path, &format!("{GOOD}{code}")).join("\n");
        assert!(found.contains(complaint), "{path}, {code}: {found}");
    }
    assert!(complaints("cli/a.rs", "use std::fs;")[0].contains("does not open with"));
    assert!(complaints("cli/mod.rs", "//! Is for this.")[0].contains("no `Never:` line"));
}

#[test]
fn what_only_looks_wrong_is_accepted() {
    for (path, code) in [
        (
            "model/a.rs",
            "// Not async, unlike crate::server.\nuse super::Value; // not crate::policy",
        ),
        (
            "policy/a.rs",
            "use crate::model::{Request, Record};\nfn operand::f(brand: u8) {}",
        ),
        ("config/mod.rs", "mod tests { use super::*; }"),
        (
            "cli/a.rs",
            "use crate::grpc::proto::AuthorizeRequest;\nuse std::fs;",
        ),
        ("server/clock.rs", "fn f() { Timestamp::now(); }"),
    ] {
        let found = complaints(path, &format!("//! Is for this.\n//! Never: that.\n{code}"));
        assert!(found.is_empty(), "{found:?}");
    }
}
