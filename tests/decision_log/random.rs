//! Many short lives of a log, with faults, several threads, and an end at any moment.
//!
//! `COUNTERSIGN_ROUNDS` says how many lives (300 unless told otherwise). The seed of a life that went wrong is in the message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign::model::Decision;
use countersign::storage::decision_log::{BufferedLog, LogSummary};
use countersign::usecase::decision_log::{DecisionLog, Logged, OnFailure};
use fastrand::Rng;

use crate::disk::{Disk, Fault, append, gap, settings};

/// What a thread was told.
#[derive(Default)]
struct Told {
    kept: Vec<Vec<u8>>,
    /// To be durable, and refused: may be in the log.
    unknown: u64,
    counted: [u64; 3],
}

#[test]
fn what_is_accepted_is_logged_or_lost() {
    let rounds = std::env::var_os("COUNTERSIGN_ROUNDS");
    let rounds = rounds.and_then(|rounds| rounds.to_str()?.parse().ok());
    let rounds = rounds.unwrap_or(300);
    for seed in 0..rounds {
        live(seed);
    }
}

fn live(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let disk = Disk::default();
    let modes = [OnFailure::Deny, OnFailure::Shed, OnFailure::Count];
    let mut settings = settings(modes[rng.usize(..3)]);
    settings.shards = rng.usize(1..4);
    settings.wait = Duration::from_millis(rng.u64(0..4));
    settings.commit_interval = Duration::from_micros(rng.u64(0..3000));
    settings.checkpoint_interval = Duration::from_micros(rng.u64(100..5000));
    settings.retry = Duration::from_micros(rng.u64(0..1500));
    if rng.u8(..3) == 0 {
        disk.slow_down(Duration::from_micros(rng.u64(0..3000)));
    }
    for _ in 0..rng.u64(0..4) {
        let faults = [Fault::Nothing, Fault::Half, Fault::Everything];
        disk.fail_round(rng.u64(0..12), faults[rng.usize(..3)]);
    }
    if rng.u8(..4) == 0 {
        disk.fail_next_checkpoint();
    }
    disk.refuse_opens(rng.u64(0..3) * rng.u64(0..4));

    let (log, thread) = disk.start(settings);
    let producers: Vec<_> = (0..rng.u8(1..5))
        .map(|name| {
            let (log, disk, rng) = (Arc::clone(&log), disk.clone(), rng.fork());
            std::thread::spawn(move || produce(name, &log, &disk, rng))
        })
        .collect();
    std::thread::sleep(Duration::from_micros(rng.u64(0..12_000)));
    let summary = thread.stop();
    let late = append(&log, b"late");
    let told = producers.into_iter().map(|thread| thread.join().unwrap());
    let told: Vec<Told> = told.collect();
    assert!(late.is_err(), "seed {seed}");
    judge(seed, &disk, &summary, &told);
}

/// Appends records in every way until the log has ended, or long enough.
fn produce(name: u8, log: &BufferedLog, disk: &Disk, mut rng: Rng) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut told = Told::default();
    let is_large = rng.u8(..3) == 0;
    for n in 0..rng.u32(1..400) {
        let length = if is_large {
            rng.usize(..12_000)
        } else {
            rng.usize(..300)
        };
        let record = format!("{}{n:06}{}", char::from(b'a' + name), "x".repeat(length));
        let record = record.into_bytes();
        let is_durable = rng.u8(..20) == 0;
        if !is_durable && append(log, &record).is_ok() {
            told.kept.push(record);
            continue;
        }
        let decisions = [Decision::Allow, Decision::Deny, Decision::RequireApproval];
        let decision = rng.usize(..3);
        let answer = log.append_waiting(decisions[decision], record.clone(), is_durable);
        match runtime.block_on(answer) {
            Ok(Logged::Kept) => {
                assert!(!is_durable || disk.holds(&record), "answered is durable");
                told.kept.push(record);
            }
            Ok(Logged::Counted) => told.counted[decision] += 1,
            Err(_) => told.unknown += u64::from(is_durable),
        }
        if rng.u8(..10) == 0 {
            std::thread::sleep(Duration::from_micros(rng.u64(..300)));
        }
    }
    told
}

fn judge(seed: u64, disk: &Disk, summary: &LogSummary, told: &[Told]) {
    assert_eq!(
        summary.accepted,
        summary.logged + summary.lost,
        "seed {seed}"
    );
    let kept: u64 = told.iter().map(|told| told.kept.len() as u64).sum();
    let unknown: u64 = told.iter().map(|told| told.unknown).sum();
    let counted: u64 = told.iter().flat_map(|told| told.counted).sum();
    let accepted = kept + counted..=kept + counted + unknown;
    assert!(
        accepted.contains(&summary.accepted),
        "seed {seed}: {summary:?} {accepted:?}"
    );

    let logs = disk.logs();
    let records: BTreeSet<&[u8]> = logs
        .iter()
        .flat_map(|log| &log.records)
        .map(Vec::as_slice)
        .collect();
    let gaps = records.iter().filter_map(|record| gap(record));
    let declared = gaps.fold([0; 3], |[allowed, denied, approval_required], gap| {
        [
            allowed + gap.allowed,
            denied + gap.denied,
            approval_required + gap.approval_required,
        ]
    });
    let logged = records
        .iter()
        .filter(|record| gap(record).is_none())
        .count() as u64;
    let abandoned = summary.lost - counted;
    let is_closed = summary.head.is_some();
    assert!(
        !is_closed || summary.undeclared == 0,
        "seed {seed}: a log that could be closed could be written"
    );
    if summary.undeclared == 0 {
        let lost = told.iter().fold([0; 3], |[a, d, r], told| {
            [
                a + told.counted[0],
                d + told.counted[1],
                r + told.counted[2],
            ]
        });
        assert_eq!(declared, lost, "seed {seed}");
        assert_eq!(abandoned, 0, "seed {seed}");
        assert_eq!(logged, summary.logged, "seed {seed}");
        let mut kept = told.iter().flat_map(|told| &told.kept);
        assert!(
            kept.all(|record| records.contains(record.as_slice())),
            "seed {seed}"
        );
    }
    // Abandoned records may have reached the disk in a round that failed.
    assert!(
        logged >= summary.logged && logged <= summary.logged + abandoned,
        "seed {seed}"
    );
    if let Some(head) = &summary.head {
        let last = logs.last().unwrap();
        assert!(last.is_closed, "seed {seed}");
        assert_eq!(head.size, last.records.len() as u64, "seed {seed}");
    }
    judge_order(seed, disk);
}

/// In each log the records of a thread stand in its order; and none appears for the first time after a later one did.
fn judge_order(seed: u64, disk: &Disk) {
    let mut seen = BTreeMap::<u8, BTreeSet<u32>>::new();
    for log in disk.logs() {
        let mut before = BTreeMap::<u8, u32>::new();
        for record in log.records.iter().filter(|record| gap(record).is_none()) {
            let n: u32 = std::str::from_utf8(&record[1..7]).unwrap().parse().unwrap();
            let before = before.insert(record[0], n);
            assert!(before < Some(n), "seed {seed}: {before:?} before {n}");
            let seen = seen.entry(record[0]).or_default();
            let is_behind = seen.last().is_none_or(|last| *last < n);
            assert!(is_behind || seen.contains(&n), "seed {seed}: {n} is late");
            seen.insert(n);
        }
    }
}
