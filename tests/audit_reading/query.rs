//! Every query answers as a scan of everything would, page by page and in both directions.

use countersign::audit::filter::{EntityName, RecordFilter, at_us};
use countersign::audit::proto::Outcome;
use countersign::storage::audit_folder::AuditFolder;
use countersign::usecase::audit_reading::{
    Cursor, LogLibrary, LoggedRecord, Query, ReadError, SEARCH_LIMIT,
};
use proptest::prelude::*;

use crate::support::{Log, ONE, TWO, decision, folder};

fn query(filter: &RecordFilter, limit: usize, oldest_first: bool) -> Query {
    Query {
        filter: filter.clone(),
        after: None,
        limit,
        oldest_first,
        search_limit: SEARCH_LIMIT,
    }
}

/// All pages, one after the other; between two of them `meanwhile` happens.
fn pages(library: &AuditFolder, first: &Query, mut meanwhile: impl FnMut()) -> Vec<LoggedRecord> {
    let mut query = first.clone();
    let mut found = Vec::new();
    loop {
        let page = library.query(&query).unwrap();
        assert!(page.records.len() <= query.limit);
        assert!(page.searched <= query.search_limit);
        found.extend(page.records);
        match page.next {
            None => return found,
            next => query.after = next,
        }
        meanwhile();
    }
}

/// What a scan of everything finds, by time.
fn scan(logs: &[Log], filter: &RecordFilter, oldest_first: bool) -> Vec<LoggedRecord> {
    let of_log = |log: &&Log| filter.log.as_ref().is_none_or(|name| *name == log.name);
    let records = logs.iter().filter(of_log).flat_map(Log::records);
    let mut found: Vec<_> = records.filter(|it| filter.fits(&it.leaf)).collect();
    found.sort_by_key(|it| at_us(&it.leaf));
    if !oldest_first {
        found.reverse();
    }
    found
}

fn filters() -> impl Strategy<Value = RecordFilter> {
    let start = 1_700_000_000_000_000_i64;
    let time = move || proptest::option::of((0..15_000_000_i64).prop_map(move |us| start + us));
    let entity = |kind: &'static str, most: u64| {
        let name = (0..most).prop_map(move |n| {
            EntityName::parse(&format!("{kind}::\"{}{n}\"", &kind[..1].to_lowercase()))
        });
        proptest::option::of(name).prop_map(Option::flatten)
    };
    let outcome = proptest::sample::select(vec![Outcome::Allow, Outcome::Deny]);
    let text = |values: Vec<&'static str>| {
        proptest::option::of(proptest::sample::select(values).prop_map(str::to_owned))
    };
    (
        entity("User", 5),
        text(vec!["a0", "a4", "Action::\"a1\"", "none"]),
        entity("Doc", 8),
        proptest::option::of(outcome),
        text(vec!["approval-0", "approval-6", "none"]),
        (time(), time()),
        text(vec!["control", ONE, TWO]),
    )
        .prop_map(
            |(principal, action, resource, outcome, approval_id, times, log)| RecordFilter {
                principal,
                action,
                resource,
                outcome,
                approval_id,
                decision_id: None,
                from_us: times.0,
                to_us: times.1,
                log,
            },
        )
}

#[test]
fn every_query_answers_as_a_scan_of_everything() {
    let (_root, logs, library) = folder([700, 1_100, 300]);
    let strategy = (filters(), any::<bool>(), 1..400_usize, 50..2_000_u64);
    let config = ProptestConfig::with_cases(200);
    proptest!(config, |((filter, oldest_first, limit, search_limit) in strategy)| {
        let query = Query { search_limit, ..query(&filter, limit, oldest_first) };
        let found = pages(&library, &query, || ());
        prop_assert_eq!(found, scan(&logs, &filter, oldest_first));
    });
}

#[test]
fn time_narrows_the_search_and_finds_the_same() {
    // 80 s of records: most bundles are further from the time than clocks step.
    let (_root, logs, library) = folder([0, 8_000, 8_000]);
    let start = 1_700_000_000_000_000;
    for (from, to) in [(20, 21), (0, 1), (79, 90), (35, 36), (90, 95)] {
        let filter = RecordFilter {
            from_us: Some(start + from * 1_000_000),
            to_us: Some(start + to * 1_000_000),
            ..RecordFilter::default()
        };
        for oldest_first in [false, true] {
            let page = library
                .query(&query(&filter, 100_000, oldest_first))
                .unwrap();
            assert_eq!(page.records, scan(&logs, &filter, oldest_first));
            assert!(page.searched < 7_000, "{from}: {}", page.searched);
        }
    }
}

#[test]
fn a_decision_is_found_by_its_id_and_little_is_searched() {
    let root = tempfile::tempdir().unwrap();
    let mut log = Log::create(root.path(), ONE);
    // A record a second, for hours.
    let start = 1_700_000_000_000_000;
    let leaves: Vec<_> = (0..10_000)
        .map(|n| decision(start + i64::try_from(n).unwrap() * 1_000_000, n))
        .collect();
    log.append(leaves.clone());
    let library = AuditFolder::open(root.path()).unwrap();
    let millis = u64::try_from(start / 1_000).unwrap() + 5_000 * 1_000;
    let mut tail = [0; 10];
    tail[2..].copy_from_slice(&5_000_u64.to_be_bytes());
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid();
    let filter = RecordFilter {
        decision_id: Some(id),
        ..RecordFilter::default()
    };
    let page = library.query(&query(&filter, 10, false)).unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(
        (page.records[0].index, &page.records[0].leaf),
        (5_000, &leaves[5_000])
    );
    assert!(page.searched <= 768, "{}", page.searched);
    assert_eq!(page.next, None);
}

#[test]
fn what_is_written_meanwhile_neither_shifts_nor_repeats_a_page() {
    for oldest_first in [false, true] {
        let (_root, mut logs, library) = folder([300, 500, 200]);
        let before = scan(&logs, &RecordFilter::default(), oldest_first);
        let mut log = logs.remove(1);
        let mut at = 1_700_000_100_000_000;
        let found = pages(
            &library,
            &query(&RecordFilter::default(), 90, oldest_first),
            || {
                at += 1_000;
                if log.leaves.len() < 900 {
                    log.append((0..40).map(|n| decision(at + n, 1)).collect());
                }
            },
        );
        assert_eq!(found[..before.len()], before);
        // Newest first, what came later belongs to a later search; oldest first it follows.
        let more = if oldest_first {
            log.leaves.len() - 500
        } else {
            0
        };
        assert_eq!(found.len(), before.len() + more);
    }
}

#[test]
fn a_clock_that_steps_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut logs = [Log::create(root.path(), ONE), Log::create(root.path(), TWO)];
    let mut at = 1_700_000_000_000_000;
    for n in 0..700_u64 {
        at += if n.is_multiple_of(97) {
            -3_000_000
        } else {
            20_000
        };
        logs[0].append(vec![decision(at, n)]);
        logs[1].append(vec![decision(at + 7_000_000 * i64::from(n > 300), n)]);
    }
    let library = AuditFolder::open(root.path()).unwrap();
    for oldest_first in [false, true] {
        for filter in [
            RecordFilter::default(),
            RecordFilter {
                from_us: Some(at - 2_000_000),
                to_us: Some(at - 500_000),
                ..RecordFilter::default()
            },
        ] {
            let mut found = pages(&library, &query(&filter, 33, oldest_first), || ());
            let mut all = scan(&logs, &filter, oldest_first);
            let place = |it: &LoggedRecord| (it.log.clone(), it.index);
            found.sort_by_key(place);
            all.sort_by_key(place);
            assert_eq!(found, all);
        }
    }
}

#[test]
fn a_page_ends_at_its_search_limit() {
    let (_root, _logs, library) = folder([0, 1_000, 0]);
    let filter = RecordFilter {
        action: Some("none".to_owned()),
        ..RecordFilter::default()
    };
    let page = library
        .query(&Query {
            search_limit: 300,
            ..query(&filter, 10, false)
        })
        .unwrap();
    assert_eq!((page.records.len(), page.searched), (0, 300));
    let place = Cursor([(ONE.to_owned(), 700)].into());
    assert_eq!(page.next, Some(place));
}

#[test]
fn only_names_of_logs_are_looked_for() {
    let (_root, _logs, library) = folder([10, 10, 10]);
    for wrong in [
        "../control",
        "",
        "decision",
        "CONTROL",
        "0199C0DE-0000-7000-8000-000000000001",
        "/etc",
    ] {
        let filter = RecordFilter {
            log: Some(wrong.to_owned()),
            ..RecordFilter::default()
        };
        let refused = library.query(&query(&filter, 1, false));
        assert!(matches!(refused, Err(ReadError::NoSuchLog(_))), "{wrong}");
        assert!(library.record(wrong, 0).is_err());
    }
    let names: Vec<_> = library
        .logs()
        .unwrap()
        .into_iter()
        .map(|log| log.name)
        .collect();
    assert_eq!(names, ["control", TWO, ONE]);
}
