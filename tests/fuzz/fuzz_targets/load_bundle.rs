//! Any policy directory: it is refused with a reason, or compiled to a snapshot that decides.
//!
//! A line `--- path` begins a file; what stands before the first one is ignored.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use countersign::model::{EntityRef, Outcome, PolicyProblem, Record, Request};
use countersign::policy::{
    Bundle, BundleFile, CompileOptions, CompileReport, Engine, Snapshot, compile, explain,
};
use countersign::usecase::on_large_stack;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

/// The stack of the threads that serve.
const SERVING_STACK_BYTES: usize = 8 * 1024 * 1024;
/// How many of a bundle's own entities and actions are asked about.
const NAMES: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    let files = split(bytes);
    let report = compiled(Bundle::new(files.clone()));
    check_report(&report);
    let again = compiled(Bundle::new(files.into_iter().rev()));
    assert_eq!(report.version, again.version, "the order of files counts");
    // Not what exactly: of a cycle, Cedar names any one member.
    let places = |report: &CompileReport| {
        let place = |problem: &PolicyProblem| (problem.severity, problem.file.clone());
        report.problems.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(places(&report), places(&again), "the order of files counts");
    if let Some(snapshot) = report.snapshot {
        // Dropped there too: a call may be the last to let go of a snapshot.
        on_serving_stack(move || {
            for request in requests(&snapshot) {
                check_decision(&snapshot, &request);
            }
        });
    }
});

/// The files that `bytes` describe, each path once.
fn split(bytes: &[u8]) -> Vec<BundleFile> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut current = None;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Some(path) = line.strip_prefix(b"--- ") {
            let path = String::from_utf8_lossy(path.trim_ascii()).into_owned();
            current = Some(files.entry(path).or_default());
        } else if let Some(file) = &mut current {
            file.extend(line);
        }
    }
    files
        .into_iter()
        .map(|(path, bytes)| BundleFile { path, bytes })
        .collect()
}

fn compiled(bundle: Bundle) -> CompileReport {
    on_large_stack(|| compile(&bundle, &CompileOptions::default())).expect("the thread ends")
}

fn check_report(report: &CompileReport) {
    let is_refused = report.problems.iter().any(PolicyProblem::is_error);
    assert_eq!(
        is_refused,
        report.snapshot.is_none(),
        "{:?}",
        report.problems
    );
    for problem in &report.problems {
        assert!(!problem.message.is_empty(), "{problem:?}");
    }
}

fn on_serving_stack(work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(SERVING_STACK_BYTES);
        let running = thread.spawn_scoped(scope, work);
        running
            .expect("the thread starts")
            .join()
            .expect("the thread ends");
    });
}

/// A fixed request, and some about what the snapshot knows.
fn requests(snapshot: &Snapshot) -> Vec<Request> {
    let mut entities: Vec<EntityRef> = snapshot.stored_entities().collect();
    entities.sort();
    entities.truncate(NAMES);
    entities.push(EntityRef::new("User", "alice"));
    let mut actions: Vec<String> = snapshot
        .relevant_context()
        .into_keys()
        .take(NAMES)
        .collect();
    actions.push("Read".to_owned());
    let mut requests = Vec::new();
    for action in &actions {
        for principal in &entities {
            for resource in &entities {
                requests.push(Request::new(
                    principal.clone(),
                    action,
                    resource.clone(),
                    Record::default(),
                ));
            }
        }
    }
    requests
}

/// The request is decided, by every way the same, or refused with a reason.
fn check_decision(snapshot: &Arc<Snapshot>, request: &Request) {
    let now = Timestamp::UNIX_EPOCH;
    let planned = snapshot
        .prepare(request.clone())
        .and_then(|prepared| snapshot.plan(&prepared, now));
    let explained = explain(snapshot, request.clone(), now).map(|explained| explained.decided);
    match planned {
        Ok(plan) => {
            let decided = plan.decide(Engine::Index);
            let in_full = plan.decide(Engine::Full);
            assert_eq!(decided, in_full, "the index disagrees: {request:?}");
            assert_eq!(explained.as_ref(), Ok(&decided), "explained otherwise");
            let is_allowed = decided.outcome == Outcome::Allow;
            assert!(
                !is_allowed || !decided.determining.is_empty(),
                "allowed by nobody: {request:?}"
            );
        }
        Err(problem) => {
            assert!(!problem.field.is_empty(), "{problem:?}");
            assert_eq!(explained, Err(problem), "explained otherwise");
        }
    }
}
