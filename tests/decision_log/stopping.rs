//! The log ends, and nothing vanishes.

use std::sync::Barrier;
use std::time::Duration;

use countersign::model::Decision;
use countersign::usecase::decision_log::{DecisionLog, NoRoom, OnFailure};

use crate::disk::{Disk, Fault, append, settings, until};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_log_takes_nothing_and_counts_nothing() {
    for on_failure in [OnFailure::Deny, OnFailure::Shed, OnFailure::Count] {
        let disk = Disk::default();
        let mut settings = settings(on_failure);
        settings.wait = HOUR;
        let (log, thread) = disk.start(settings);
        append(&log, b"one").unwrap();
        let summary = thread.stop();
        assert_eq!((summary.accepted, summary.logged), (1, 1));
        assert!(disk.logs()[0].is_closed);
        assert_eq!(append(&log, b"two"), Err(NoRoom));
        let answer = log.append_waiting(Decision::Allow, b"three".to_vec(), true);
        assert_eq!(answer.await.unwrap_err().0, "it has stopped");
        assert_eq!(log.stats().accepted, 1);
    }
}

#[test]
fn appends_under_way_at_the_end_are_written_or_refused() {
    for life in 0..200 {
        let disk = Disk::default();
        let (log, thread) = disk.start(settings(OnFailure::Deny));
        let begin = Barrier::new(4);
        let (accepted, summary) = std::thread::scope(|scope| {
            let produce = || {
                begin.wait();
                // Some appends find a full buffer; only the end is final.
                let appended = (0..).take_while(|_| log.stats().is_writable);
                appended.filter(|_| append(&log, b"record").is_ok()).count()
            };
            let producers: Vec<_> = (0..3).map(|_| scope.spawn(produce)).collect();
            begin.wait();
            std::thread::sleep(Duration::from_micros(life * 10));
            let summary = thread.stop();
            let accepted = producers.into_iter().map(|each| each.join().unwrap());
            (accepted.sum::<usize>(), summary)
        });
        assert_eq!(disk.records().len(), accepted);
        let accepted = u64::try_from(accepted).unwrap();
        assert_eq!((summary.accepted, summary.logged), (accepted, accepted));
        assert_eq!((summary.lost, summary.undeclared), (0, 0));
    }
}

#[test]
fn a_dropped_thread_writes_what_is_left() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.commit_interval = HOUR;
    let (log, thread) = disk.start(settings);
    for _ in 0..100 {
        append(&log, b"record").unwrap();
    }
    drop(thread);
    assert_eq!(disk.records().len(), 100);
    assert!(disk.logs()[0].is_closed);
}

#[test]
fn what_is_left_is_written_to_another_log_if_need_be() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.commit_interval = HOUR;
    let (log, thread) = disk.start(settings);
    append(&log, b"record").unwrap();
    disk.fail_round(0, Fault::Half);
    disk.refuse_opens(1);
    let summary = thread.stop();
    assert_eq!((summary.accepted, summary.logged, summary.lost), (1, 1, 0));
    assert_eq!(summary.head.unwrap().incarnation, "1");
    assert_eq!(disk.logs()[1].records, [b"record"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_at_all_is_counted_as_lost() {
    let disk = Disk::default();
    let (log, thread) = disk.start(settings(OnFailure::Count));
    disk.refuse_opens(u64::MAX);
    disk.fail_round(0, Fault::Nothing);
    append(&log, b"record").unwrap();
    until(|| !disk.failed().is_empty());
    let counted = log.append_waiting(Decision::Deny, b"counted".to_vec(), false);
    counted.await.unwrap();
    let summary = thread.stop();
    assert_eq!(summary.head, None);
    assert_eq!((summary.accepted, summary.logged), (2, 0));
    assert_eq!((summary.lost, summary.undeclared), (2, 2));
}
