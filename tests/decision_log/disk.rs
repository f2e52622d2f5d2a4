//! Logs in memory that fail as they are told, and the log under test on top of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::audit::proto::{self, record::What};
use countersign::audit::tree::{Frontier, leaf_hash};
use countersign::storage::decision_log::{
    BufferedLog, DecisionLogSettings, DecisionLogThread, DecisionLogWriter, FailedLog, LogHead,
    LogSink, OpenLog, RoundRecords, SinkError,
};
use countersign::usecase::decision_log::{DecisionLog, NoRoom, OnFailure};
use prost::Message;

/// What a round that fails leaves on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Nothing,
    Half,
    Everything,
    /// It does not fail but panics.
    Panic,
}

/// One log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) checkpoints: Vec<usize>,
    pub(crate) is_closed: bool,
}

#[derive(Debug, Default)]
struct Drive {
    logs: Vec<Content>,
    rounds: u64,
    faults: BTreeMap<u64, Fault>,
    failing_checkpoints: u64,
    refused_opens: u64,
    failed: Vec<FailedLog>,
    is_held: bool,
    is_waiting: bool,
    delay: Duration,
}

/// A disk with logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<(Mutex<Drive>, Condvar)>);

struct MemorySink {
    disk: Disk,
    log: usize,
    is_dead: bool,
}

impl Disk {
    fn drive(&self) -> MutexGuard<'_, Drive> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the round after `after` more rounds fail; no round is counted twice.
    pub(crate) fn fail_round(&self, after: u64, fault: Fault) {
        let mut drive = self.drive();
        let round = drive.rounds + after;
        drive.faults.insert(round, fault);
    }

    pub(crate) fn fail_next_checkpoint(&self) {
        self.drive().failing_checkpoints = 1;
    }

    /// Refuses to open a log so many times.
    pub(crate) fn refuse_opens(&self, count: u64) {
        self.drive().refused_opens = count;
    }

    pub(crate) fn slow_down(&self, delay: Duration) {
        self.drive().delay = delay;
    }

    /// Holds whoever writes, until [`Disk::release`].
    pub(crate) fn hold(&self) {
        self.drive().is_held = true;
    }

    pub(crate) fn release(&self) {
        self.drive().is_held = false;
        self.0.1.notify_all();
    }

    /// Whether somebody is held.
    pub(crate) fn is_waiting(&self) -> bool {
        self.drive().is_waiting
    }

    pub(crate) fn logs(&self) -> Vec<Content> {
        self.drive().logs.clone()
    }

    pub(crate) fn failed(&self) -> Vec<FailedLog> {
        self.drive().failed.clone()
    }

    /// All records of all logs.
    pub(crate) fn records(&self) -> Vec<Vec<u8>> {
        let drive = self.drive();
        drive
            .logs
            .iter()
            .flat_map(|log| log.records.clone())
            .collect()
    }

    pub(crate) fn holds(&self, record: &[u8]) -> bool {
        let drive = self.drive();
        let mut records = drive.logs.iter().flat_map(|log| &log.records);
        records.any(|each| each == record)
    }

    fn new_log(&self) -> Box<dyn LogSink> {
        let mut drive = self.drive();
        drive.logs.push(Content::default());
        Box::new(MemorySink {
            disk: self.clone(),
            log: drive.logs.len() - 1,
            is_dead: false,
        })
    }

    /// Starts the log under test on this disk.
    pub(crate) fn start(
        &self,
        settings: DecisionLogSettings,
    ) -> (Arc<BufferedLog>, DecisionLogThread) {
        DecisionLogWriter::start(settings, self.new_log(), Box::new(self.clone())).unwrap()
    }
}

impl LogSink for MemorySink {
    fn append_round(&mut self, records: &RoundRecords<'_>) -> Result<(), SinkError> {
        assert!(!self.is_dead, "a dead sink is not written");
        assert!(!records.is_empty(), "a round has records");
        let records: Vec<Vec<u8>> = records
            .iter()
            .map(<[u8]>::to_vec)
            .inspect(|record| assert!(!record.is_empty()))
            .collect();
        let delay = self.disk.drive().delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut drive = self.disk.drive();
        while drive.is_held {
            drive.is_waiting = true;
            drive = self.disk.0.1.wait(drive).unwrap();
        }
        drive.is_waiting = false;
        let round = drive.rounds;
        drive.rounds += 1;
        let fault = drive.faults.remove(&round);
        let written = match fault {
            None | Some(Fault::Everything) => records.len(),
            Some(Fault::Nothing) => 0,
            Some(Fault::Half) => records.len() / 2,
            Some(Fault::Panic) => panic!("as told"),
        };
        let log = &mut drive.logs[self.log];
        log.records.extend(records.into_iter().take(written));
        self.is_dead = fault.is_some();
        match fault {
            None => Ok(()),
            Some(fault) => Err(SinkError(format!("{fault:?} was written"))),
        }
    }

    fn checkpoint(&mut self) -> Result<(), SinkError> {
        assert!(!self.is_dead, "a dead sink is not written");
        let mut drive = self.disk.drive();
        if drive.failing_checkpoints > 0 {
            drive.failing_checkpoints -= 1;
            self.is_dead = true;
            return Err(SinkError("no checkpoint".to_owned()));
        }
        let log = &mut drive.logs[self.log];
        log.checkpoints.push(log.records.len());
        Ok(())
    }

    fn head(&self) -> LogHead {
        let mut frontier = Frontier::new();
        let drive = self.disk.drive();
        let records = &drive.logs[self.log].records;
        // The last ones will do to tell heads apart, and tests have large logs.
        let last = records.iter().rev().take(8);
        last.for_each(|record| frontier.push(leaf_hash(record)));
        LogHead {
            incarnation: self.log.to_string(),
            size: u64::try_from(records.len()).unwrap(),
            root: frontier.root(),
        }
    }

    fn close(self: Box<Self>) -> Result<LogHead, SinkError> {
        self.disk.drive().logs[self.log].is_closed = true;
        Ok(self.head())
    }
}

impl OpenLog for Disk {
    fn open(&mut self, failed: Option<FailedLog>) -> Result<Box<dyn LogSink>, SinkError> {
        let mut drive = self.drive();
        drive.failed.extend(failed);
        if drive.refused_opens > 0 {
            drive.refused_opens -= 1;
            return Err(SinkError("no log today".to_owned()));
        }
        drop(drive);
        Ok(self.new_log())
    }
}

/// Settings whose times are short, and whose clock counts its readings.
pub(crate) fn settings(on_failure: OnFailure) -> DecisionLogSettings {
    let clock = AtomicI64::new(1);
    let now_us = Arc::new(move || clock.fetch_add(1, Ordering::Relaxed));
    DecisionLogSettings {
        buffer_bytes: 0,
        commit_interval: Duration::from_millis(1),
        wait: Duration::from_millis(20),
        on_failure,
        checkpoint_interval: Duration::from_millis(10),
        retry: Duration::from_millis(1),
        ..DecisionLogSettings::new(4, now_us)
    }
}

/// Appends `record` without waiting.
pub(crate) fn append(log: &BufferedLog, record: &[u8]) -> Result<(), NoRoom> {
    log.append(&mut |buffer| buffer.extend_from_slice(record))
}

/// Appends large records until there is no room; answers them.
pub(crate) fn fill(log: &BufferedLog, name: &str) -> Vec<Vec<u8>> {
    let record = |n: usize| format!("{name} {n} {}", "x".repeat(8000)).into_bytes();
    let mut accepted = Vec::new();
    while append(log, &record(accepted.len())).is_ok() {
        accepted.push(record(accepted.len()));
        assert!(accepted.len() < 1000, "a buffer ends");
    }
    accepted
}

/// Waits until `is_so`.
pub(crate) fn until(is_so: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("waited in vain");
}

/// The gap that `record` declares, if it is one. Other records in these tests begin with a letter.
pub(crate) fn gap(record: &[u8]) -> Option<proto::Gap> {
    if record.first()?.is_ascii_alphabetic() {
        return None;
    }
    let What::Gap(gap) = proto::Record::decode(record).unwrap().what.unwrap() else {
        panic!("nothing else is recorded here");
    };
    Some(gap)
}
