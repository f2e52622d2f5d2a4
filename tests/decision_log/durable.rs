//! A record that is to be durable is answered when it is, and not before.

use std::sync::Arc;
use std::time::Duration;

use countersign::model::Decision;
use countersign::storage::decision_log::BufferedLog;
use countersign::usecase::decision_log::{DecisionLog, LogUnavailable, Logged, OnFailure};
use tokio::task::JoinSet;

use crate::disk::{Disk, Fault, settings, until};

async fn durable(log: Arc<BufferedLog>, record: String) -> Result<Logged, LogUnavailable> {
    log.append_waiting(Decision::Allow, record.into_bytes(), true)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_durable_record_is_on_the_disk_when_it_is_answered() {
    let disk = Disk::default();
    let (log, thread) = disk.start(settings(OnFailure::Deny));
    let mut tasks = JoinSet::new();
    for n in 0..500 {
        let (log, disk) = (Arc::clone(&log), disk.clone());
        tasks.spawn(async move {
            let record = format!("r{n}");
            assert_eq!(durable(log, record.clone()).await, Ok(Logged::Kept));
            assert!(disk.holds(record.as_bytes()));
        });
    }
    tasks.join_all().await;
    assert_eq!(thread.stop().logged, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_answered_before_and_does_not_wait_for_the_next_round() {
    let disk = Disk::default();
    let mut settings = settings(OnFailure::Deny);
    settings.commit_interval = Duration::from_secs(3600);
    let (log, thread) = disk.start(settings);
    for n in 0..20 {
        disk.hold();
        let mut tasks = JoinSet::new();
        tasks.spawn(durable(Arc::clone(&log), format!("r{n}")));
        until(|| disk.is_waiting());
        assert!(tasks.try_join_next().is_none());
        disk.release();
        assert_eq!(tasks.join_all().await, [Ok(Logged::Kept)]);
    }
    assert_eq!(thread.stop().logged, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_answered_by_the_next_log_if_that_is_quick() {
    for fault in [Fault::Nothing, Fault::Half, Fault::Everything] {
        let disk = Disk::default();
        let mut settings = settings(OnFailure::Deny);
        settings.wait = Duration::from_secs(3600);
        let (log, thread) = disk.start(settings);
        disk.refuse_opens(3);
        disk.fail_round(0, fault);
        assert_eq!(
            durable(Arc::clone(&log), "r".to_owned()).await,
            Ok(Logged::Kept)
        );
        assert_eq!(disk.logs()[1].records, [b"r"]);
        assert_eq!(disk.failed().len(), 4);
        assert_eq!(thread.stop().logged, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_caller_is_told_if_the_next_log_is_late_and_it_is_written_nevertheless() {
    for on_failure in [OnFailure::Deny, OnFailure::Shed, OnFailure::Count] {
        let disk = Disk::default();
        let (log, thread) = disk.start(settings(on_failure));
        disk.refuse_opens(u64::MAX);
        disk.fail_round(0, Fault::Nothing);
        let error = durable(Arc::clone(&log), "r".to_owned()).await.unwrap_err();
        assert_eq!(error.0, "it has failed: Nothing was written");
        assert!(disk.records().is_empty());
        disk.refuse_opens(0);
        until(|| disk.holds(b"r"));
        let summary = thread.stop();
        assert_eq!((summary.accepted, summary.logged, summary.lost), (1, 1, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_thread_that_panicked() {
    let disk = Disk::default();
    let (log, thread) = disk.start(settings(OnFailure::Deny));
    disk.fail_round(0, Fault::Panic);
    let error = durable(Arc::clone(&log), "r".to_owned()).await.unwrap_err();
    assert_eq!(error.0, "it has stopped");
    let error = durable(Arc::clone(&log), "s".to_owned()).await.unwrap_err();
    assert_eq!(error.0, "it has stopped");
    let summary = thread.stop();
    assert_eq!(summary.head, None);
    assert_eq!((summary.accepted, summary.logged, summary.lost), (1, 0, 0));
}
