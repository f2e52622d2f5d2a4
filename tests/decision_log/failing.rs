//! A log fails, and another one takes its place.

use std::sync::Arc;

use countersign::model::Decision;
use countersign::storage::decision_log::BufferedLog;
use countersign::usecase::decision_log::{DecisionLog, Logged, OnFailure};

use crate::disk::{Disk, Fault, append, fill, gap, settings, until};

fn fail(disk: &Disk, log: &Arc<BufferedLog>, fault: Fault) {
    disk.refuse_opens(u64::MAX);
    disk.fail_round(0, fault);
    append(log, b"first").unwrap();
    until(|| !log.stats().is_writable && !disk.failed().is_empty());
}

#[test]
fn a_failed_log_takes_nothing_and_the_next_one_begins_with_what_it_had() {
    for fault in [Fault::Nothing, Fault::Half, Fault::Everything] {
        let disk = Disk::default();
        let (log, thread) = disk.start(settings(OnFailure::Deny));
        append(&log, b"zeroth").unwrap();
        until(|| disk.holds(b"zeroth"));
        fail(&disk, &log, fault);
        append(&log, b"refused").unwrap_err();
        disk.refuse_opens(0);
        until(|| log.stats().is_writable);
        append(&log, b"second").unwrap();
        let summary = thread.stop();
        assert_eq!((summary.accepted, summary.logged, summary.lost), (3, 3, 0));
        assert_eq!(
            disk.logs()[1].records,
            [b"first".to_vec(), b"second".to_vec()]
        );
        assert_eq!(summary.head.unwrap().incarnation, "1");
        let failed = &disk.failed()[0];
        assert_eq!(failed.head.incarnation, "0");
        assert_eq!(failed.reason, format!("{fault:?} was written"));
        let size = u64::try_from(disk.logs()[0].records.len()).unwrap();
        assert_eq!(failed.head.size, size);
    }
}

#[test]
fn half_a_round_is_repeated_whole_and_in_order() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.shards = 1;
    let (log, thread) = disk.start(settings);
    disk.hold();
    append(&log, b"first").unwrap();
    until(|| disk.is_waiting());
    let more = fill(&log, "more");
    disk.fail_round(1, Fault::Half);
    disk.release();
    until(|| disk.logs().len() == 2 && log.stats().is_writable);
    append(&log, b"last").unwrap();
    thread.stop();
    let logs = disk.logs();
    assert_eq!(logs[0].records.len(), 1 + more.len() / 2);
    assert_eq!(logs[1].records[..more.len()], more);
    assert_eq!(logs[1].records[more.len()..], [b"last"]);
}

#[test]
fn memory_is_bounded_while_no_log_can_be_opened() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.shards = 2;
    let (log, thread) = disk.start(settings);
    disk.hold();
    append(&log, b"first").unwrap();
    until(|| disk.is_waiting());
    disk.refuse_opens(u64::MAX);
    disk.fail_round(0, Fault::Nothing);
    // Two buffers fill while the round is under way; afterwards nothing more is taken, however long it lasts.
    let bytes: usize = std::thread::scope(|scope| {
        let fillers = (0..4).map(|_| scope.spawn(|| fill(&log, "more")));
        let fillers: Vec<_> = fillers.collect();
        let filled = fillers
            .into_iter()
            .flat_map(|filler| filler.join().unwrap());
        filled.map(|record| record.len()).sum()
    });
    assert!(bytes <= 2 * (128 << 10), "{bytes}");
    disk.release();
    until(|| disk.failed().len() > 5);
    let accepted = log.stats().accepted;
    for _ in 0..1000 {
        append(&log, b"refused").unwrap_err();
    }
    assert_eq!(log.stats().accepted, accepted);
    disk.refuse_opens(0);
    until(|| log.stats().logged == accepted);
    assert_eq!(thread.stop().logged, accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_is_declared_behind_what_was_kept() {
    let disk = Disk::default();
    let (log, thread) = disk.start(settings(OnFailure::Count));
    fail(&disk, &log, Fault::Nothing);
    for decision in [Decision::Allow, Decision::Allow, Decision::RequireApproval] {
        let answer = log.append_waiting(decision, b"lost".to_vec(), true);
        assert_eq!(answer.await, Ok(Logged::Counted));
    }
    // The declaration itself meets a disk that fails, and is repeated as it was.
    disk.fail_round(1, Fault::Everything);
    disk.refuse_opens(0);
    until(|| disk.logs().len() == 3 && log.stats().is_writable);
    let summary = thread.stop();
    assert_eq!((summary.accepted, summary.logged, summary.lost), (4, 1, 3));
    assert_eq!(summary.undeclared, 0);
    let logs = disk.logs();
    assert_eq!(logs[1].records[0], b"first");
    assert_eq!(logs[1].records[1], logs[2].records[0]);
    let gap = gap(&logs[2].records[0]).unwrap();
    assert_eq!((gap.allowed, gap.denied, gap.approval_required), (2, 0, 1));
    assert_eq!(gap.reason, "it has failed: Nothing was written");
}

#[test]
fn a_log_without_its_checkpoint_is_given_up() {
    let disk = Disk::default();
    let (log, thread) = disk.start(settings(OnFailure::Deny));
    disk.fail_next_checkpoint();
    append(&log, b"first").unwrap();
    until(|| disk.logs().len() == 2 && log.stats().is_writable);
    append(&log, b"second").unwrap();
    let summary = thread.stop();
    assert_eq!((summary.accepted, summary.logged), (2, 2));
    assert_eq!(disk.logs()[0].records, [b"first"]);
    assert_eq!(disk.logs()[1].records, [b"second"]);
}
