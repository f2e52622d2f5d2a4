//! What serving threads and the writing thread share.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::bell::Bell;
use super::buffers::{Buffers, lock};
use super::losses::Losses;
use super::settings::DecisionLogSettings;
use super::sink::{FailedLog, LogHead};

/// How the log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It takes records.
    Writable,
    /// It takes none until another log is open.
    Failed(String),
    /// It will never take one again.
    Stopped,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writable => f.write_str("its buffers are full"),
            Self::Failed(reason) => write!(f, "it has failed: {reason}"),
            Self::Stopped => f.write_str("it has stopped"),
        }
    }
}

/// How the log does, in numbers. They are read one after the other, while they change.
///
/// `accepted - logged - lost` records are on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionLogStats {
    /// How many decisions may be answered: those with a record, and those that were counted instead.
    pub accepted: u64,
    /// How many of them have a durable record.
    pub logged: u64,
    /// How many of them have none, and will have none.
    pub lost: u64,
    /// How many rounds became durable.
    pub rounds: u64,
    /// How long the oldest record of the last round waited, at most, until it was durable.
    pub time_to_durable: Duration,
    /// Whether a log is open. Records may find no room all the same.
    pub is_writable: bool,
    /// How far the log is durable: the open one, or else the last one.
    pub head: LogHead,
}

/// What serving threads and the writing thread share.
pub(super) struct Shared {
    pub(super) settings: DecisionLogSettings,
    pub(super) bell: Bell,
    pub(super) buffers: Buffers,
    pub(super) losses: Losses,
    /// Told whenever buffers were emptied, and at the end.
    pub(super) room: Notify,
    /// Changes after a log has failed and the buffers are closed.
    pub(super) failures: watch::Sender<()>,
    standing: Mutex<Standing>,
    logged: AtomicU64,
    abandoned: AtomicU64,
    rounds: AtomicU64,
    micros_to_durable: AtomicU64,
}

struct Standing {
    condition: Condition,
    head: LogHead,
}

impl Shared {
    pub(super) fn new(settings: DecisionLogSettings, head: LogHead) -> Self {
        Self {
            buffers: Buffers::new(settings.shards, settings.buffer_bytes),
            settings,
            bell: Bell::default(),
            losses: Losses::default(),
            room: Notify::new(),
            failures: watch::Sender::new(()),
            standing: Mutex::new(Standing {
                condition: Condition::Writable,
                head,
            }),
            logged: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            micros_to_durable: AtomicU64::new(0),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        lock(&self.standing).condition.clone()
    }

    /// Takes records again.
    pub(super) fn open(&self, head: LogHead) {
        *lock(&self.standing) = Standing {
            condition: Condition::Writable,
            head,
        };
        self.buffers.set_open(true);
        self.room.notify_waiters();
    }

    /// Takes no record until there is another log. What was accepted stays.
    pub(super) fn fail(&self, failed: &FailedLog) {
        {
            let mut standing = lock(&self.standing);
            standing.head = failed.head.clone();
            if standing.condition != Condition::Stopped {
                standing.condition = Condition::Failed(failed.reason.clone());
            }
        }
        self.buffers.set_open(false);
        // After the buffers are closed: whoever has a record in one hears of it.
        self.failures.send_replace(());
    }

    /// Never takes a record again, and counts no loss. What was accepted stays.
    pub(super) fn stop(&self) {
        lock(&self.standing).condition = Condition::Stopped;
        self.buffers.set_open(false);
        self.losses.close();
        self.room.notify_waiters();
    }

    /// Whether there is anything to write.
    pub(super) fn has_work(&self) -> bool {
        !self.buffers.are_empty() || self.losses.are_undeclared()
    }

    /// A round became durable: the records of `logged` decisions.
    pub(super) fn note_round(&self, logged: u64, time_to_durable: Duration, head: LogHead) {
        let micros = u64::try_from(time_to_durable.as_micros()).unwrap_or(u64::MAX);
        self.logged.fetch_add(logged, Ordering::Relaxed);
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.micros_to_durable.store(micros, Ordering::Relaxed);
        lock(&self.standing).head = head;
    }

    /// The log has ended, and the records of so many decisions could not be written.
    pub(super) fn note_abandoned(&self, decisions: u64) {
        self.abandoned.fetch_add(decisions, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> DecisionLogStats {
        // What is logged was accepted before, so that is read last.
        let logged = self.logged.load(Ordering::Relaxed);
        let counted = self.losses.total();
        let lost = counted.saturating_add(self.abandoned.load(Ordering::Relaxed));
        let (head, is_writable) = {
            let standing = lock(&self.standing);
            let is_writable = standing.condition == Condition::Writable;
            (standing.head.clone(), is_writable)
        };
        DecisionLogStats {
            accepted: self.buffers.accepted().saturating_add(counted),
            logged,
            lost,
            rounds: self.rounds.load(Ordering::Relaxed),
            time_to_durable: Duration::from_micros(self.micros_to_durable.load(Ordering::Relaxed)),
            is_writable,
            head,
        }
    }
}
