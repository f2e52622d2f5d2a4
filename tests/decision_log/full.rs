//! What becomes of records that find no room.

use std::sync::Arc;
use std::time::Duration;

use countersign::model::Decision;
use countersign::storage::decision_log::{BufferedLog, DecisionLogThread};
use countersign::usecase::decision_log::{DecisionLog, Logged, NoRoom, OnFailure};

use tokio::task::JoinSet;

use crate::disk::{Disk, append, fill, gap, settings, until};

/// A log whose one buffer is full, and whose disk is held while it writes the record before.
fn full(
    disk: &Disk,
    on_failure: OnFailure,
    wait: Duration,
) -> (Arc<BufferedLog>, DecisionLogThread) {
    let mut settings = settings(on_failure);
    settings.shards = 1;
    settings.wait = wait;
    let (log, thread) = disk.start(settings);
    disk.hold();
    append(&log, b"first").unwrap();
    until(|| disk.is_waiting());
    fill(&log, "more");
    (log, thread)
}

#[test]
fn a_full_buffer_does_not_call_whoever_would_write() {
    let disk = Disk::default();
    let (log, thread) = full(&disk, OnFailure::Deny, Duration::ZERO);
    let answer = log.append(&mut |_| panic!("there is no room"));
    assert_eq!(answer, Err(NoRoom));
    disk.release();
    let summary = thread.stop();
    assert_eq!(summary.accepted, summary.logged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denying_waits_for_room() {
    let disk = Disk::default();
    let (log, thread) = full(&disk, OnFailure::Deny, Duration::from_secs(3600));
    let waiting = Arc::clone(&log);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let last = b"last".to_vec();
        waiting.append_waiting(Decision::Deny, last, false).await
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(tasks.try_join_next().is_none());
    disk.release();
    assert_eq!(tasks.join_all().await, [Ok(Logged::Kept)]);
    until(|| disk.holds(b"last"));
    let summary = thread.stop();
    assert_eq!(summary.accepted, summary.logged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denying_does_not_wait_long() {
    let disk = Disk::default();
    let (log, thread) = full(&disk, OnFailure::Deny, Duration::from_millis(30));
    let begun = tokio::time::Instant::now();
    let answer = log.append_waiting(Decision::Allow, b"last".to_vec(), false);
    assert_eq!(answer.await.unwrap_err().0, "its buffers are full");
    assert!(begun.elapsed() >= Duration::from_millis(30));
    disk.release();
    thread.stop();
    assert!(!disk.holds(b"last"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shedding_does_not_wait() {
    let disk = Disk::default();
    let (log, thread) = full(&disk, OnFailure::Shed, Duration::from_secs(3600));
    for is_durable in [false, true] {
        let answer = log.append_waiting(Decision::Allow, b"last".to_vec(), is_durable);
        assert_eq!(answer.await.unwrap_err().0, "its buffers are full");
    }
    disk.release();
    let summary = thread.stop();
    assert_eq!((summary.accepted, summary.lost), (summary.logged, 0));
    assert!(!disk.holds(b"last"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_declares_what_was_lost() {
    let disk = Disk::default();
    let (log, thread) = full(&disk, OnFailure::Count, Duration::from_secs(3600));
    for (decision, count) in [
        (Decision::Allow, 4),
        (Decision::Deny, 3),
        (Decision::RequireApproval, 2),
    ] {
        for n in 0..count {
            let answer = log.append_waiting(decision, b"lost".to_vec(), n % 2 == 0);
            assert_eq!(answer.await, Ok(Logged::Counted));
        }
    }
    assert_eq!(log.stats().lost, 9);
    disk.release();
    until(|| disk.records().iter().any(|record| gap(record).is_some()));
    let summary = thread.stop();
    assert_eq!((summary.accepted, summary.lost), (summary.logged + 9, 9));
    assert_eq!(summary.undeclared, 0);
    let gaps: Vec<_> = disk
        .records()
        .iter()
        .filter_map(|record| gap(record))
        .collect();
    assert_eq!(gaps.len(), 1);
    let gap = &gaps[0];
    assert_eq!((gap.allowed, gap.denied, gap.approval_required), (4, 3, 2));
    assert_eq!((gap.since_us, gap.until_us), (1, 9));
    assert_eq!(gap.reason, "its buffers are full");
    assert!(!disk.holds(b"lost"));
}
