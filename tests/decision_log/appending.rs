//! Records get from many threads to the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use countersign::usecase::decision_log::{DecisionLog, OnFailure};

use crate::disk::{Disk, append, settings, until};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn every_thread_finds_its_records_in_order() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.shards = 2;
    let (log, thread) = disk.start(settings);
    std::thread::scope(|scope| {
        for producer in 0..5 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..4000 {
                    let record = format!("{}{n}", char::from(b'a' + producer));
                    while append(log, record.as_bytes()).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    let summary = thread.stop();
    assert_eq!(
        (summary.accepted, summary.logged, summary.lost),
        (20_000, 20_000, 0)
    );
    assert_eq!(summary.head.unwrap().size, 20_000);
    let mut next = [0; 5];
    for record in disk.records() {
        let n: u64 = std::str::from_utf8(&record[1..]).unwrap().parse().unwrap();
        let next = &mut next[usize::from(record[0] - b'a')];
        assert_eq!(n, *next);
        *next += 1;
    }
}

#[test]
fn an_idle_log_is_woken_by_a_record() {
    let disk = Disk::default();
    let (log, thread) = disk.start(settings(OnFailure::Deny));
    for n in 0..3 {
        std::thread::sleep(Duration::from_millis(1200));
        let record = format!("r{n}");
        append(&log, record.as_bytes()).unwrap();
        until(|| disk.holds(record.as_bytes()));
    }
    assert_eq!(thread.stop().logged, 3);
}

#[test]
fn a_mebibyte_does_not_wait_for_its_time() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.commit_interval = HOUR;
    settings.buffer_bytes = 4 << 20;
    let (log, thread) = disk.start(settings);
    let record = vec![b'r'; 1 << 16];
    for _ in 0..16 {
        append(&log, &record).unwrap();
    }
    until(|| disk.records().len() == 16);
    assert_eq!(thread.stop().logged, 16);
}

#[test]
fn one_record_may_be_larger_than_a_buffer() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.commit_interval = HOUR;
    settings.shards = 1;
    let (log, thread) = disk.start(settings);
    let record = vec![b'r'; 1_000_000];
    append(&log, &record).unwrap();
    append(&log, b"no room").unwrap_err();
    assert_eq!(thread.stop().logged, 1);
    assert!(disk.records() == [record]);
}

#[test]
fn whoever_panics_while_writing_leaves_no_trace() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.commit_interval = HOUR;
    let (log, thread) = disk.start(settings);
    append(&log, b"before").unwrap();
    let write = || {
        log.append(&mut |buffer| {
            buffer.extend_from_slice(b"half a rec");
            panic!("as told");
        })
    };
    catch_unwind(AssertUnwindSafe(write)).unwrap_err();
    append(&log, b"after").unwrap();
    let summary = thread.stop();
    assert_eq!((summary.accepted, summary.logged), (2, 2));
    assert_eq!(disk.records(), [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn a_log_that_grows_gets_checkpoints_and_another_one_none() {
    let disk = Disk::default();
    let (log, thread) = disk.start(settings(OnFailure::Deny));
    append(&log, b"one").unwrap();
    until(|| disk.logs()[0].checkpoints == [1]);
    append(&log, b"two").unwrap();
    until(|| disk.logs()[0].checkpoints == [1, 2]);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(disk.logs()[0].checkpoints, [1, 2]);
    // The last one is for good measure.
    assert_eq!(thread.stop().head.unwrap().size, 2);
    assert_eq!(disk.logs()[0].checkpoints, [1, 2, 2]);
    assert!(disk.logs()[0].is_closed);
}

#[test]
fn the_numbers_tell_how_the_log_does() {
    let disk = Disk::default();
    let (log, thread) = disk.start(settings(OnFailure::Deny));
    let stats = log.stats();
    assert_eq!((stats.accepted, stats.logged, stats.rounds), (0, 0, 0));
    assert!(stats.is_writable);
    disk.hold();
    append(&log, b"one").unwrap();
    until(|| disk.is_waiting());
    let stats = log.stats();
    assert_eq!((stats.accepted, stats.logged, stats.head.size), (1, 0, 0));
    disk.release();
    until(|| log.stats().logged == 1);
    let stats = log.stats();
    assert_eq!((stats.rounds, stats.lost, stats.head.size), (1, 0, 1));
    assert!(stats.time_to_durable > Duration::ZERO);
    let head = thread.stop().head.unwrap();
    assert_eq!(head, log.stats().head);
    assert!(!log.stats().is_writable);
}
