//! What the reading side of the audit log needs: the logs of this replica as a library, and a place where reading is recorded.
//!
//! Nothing here has to be believed: what is answered can be checked against signed checkpoints.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::approval::Person;
use crate::audit::filter::RecordFilter;
use crate::audit::tree::TreeHash;

use super::ports::PortFuture;

/// The control log's name.
pub const CONTROL: &str = "control";
/// How many records one page looks at, unless the query says otherwise.
pub const SEARCH_LIMIT: u64 = 1_000_000;

/// A log that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogInfo {
    /// Its name: [`CONTROL`], or the incarnation of a decision log.
    pub name: String,
    /// Its origin, as checkpoints name it; empty if its keys cannot be read.
    pub origin: String,
    /// Its verifier keys, in the form of C2SP signed notes.
    pub keys: Vec<String>,
    /// How many records it has, pruned ones included.
    pub size: u64,
    /// The first record that was not pruned.
    pub first_index: u64,
}

/// That a record is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The size of the tree that the proof is for.
    pub size: u64,
    /// The hashes, from the leaf up.
    pub hashes: Vec<TreeHash>,
    /// The bytes of the record.
    pub leaf: Vec<u8>,
    /// A signed checkpoint of that size, if there is one.
    pub checkpoint: Option<String>,
}

/// That a log only grew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// The later size.
    pub new_size: u64,
    /// The hashes.
    pub hashes: Vec<TreeHash>,
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRecord {
    /// The log.
    pub log: String,
    /// Its index.
    pub index: u64,
    /// The bytes that are hashed.
    pub leaf: Vec<u8>,
}

/// Where a page ended: the next index of each log. Newest first it is the one above the next record, and a log that is not named
/// is finished; oldest first it is that of the next record, and a log that is not named is read from its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Cursor(pub BTreeMap<String, u64>);

/// Asks for a page of records.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which.
    pub filter: RecordFilter,
    /// Where an earlier page of the same query ended.
    pub after: Option<Cursor>,
    /// How many at most.
    pub limit: usize,
    /// The oldest first; otherwise the newest.
    pub oldest_first: bool,
    /// How many records are looked at, at most; [`SEARCH_LIMIT`] if nothing speaks against it.
    pub search_limit: u64,
}

/// A page of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records, of all logs, merged by their times.
    pub records: Vec<LoggedRecord>,
    /// Where to go on; none if nothing is left.
    pub next: Option<Cursor>,
    /// How many records were looked at.
    pub searched: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such log here.
    #[error("there is no log `{0}` here")]
    NoSuchLog(String),
    /// The log has no such record, or has it no more.
    #[error("record {index} of log `{log}` is not there, or was pruned")]
    NoSuchRecord {
        /// The log.
        log: String,
        /// The index.
        index: u64,
    },
    /// What is asked for may be there later.
    #[error("{0} is not there yet")]
    NotYet(String),
    /// The log does not hold what it says it holds.
    #[error("log `{log}` cannot be believed: {what}")]
    Damaged {
        /// The log.
        log: String,
        /// What was found.
        what: String,
    },
    /// The log cannot be read now.
    #[error("log `{log}` cannot be read: {what}")]
    Unreadable {
        /// The log.
        log: String,
        /// What the system says.
        what: String,
    },
    /// What is asked for cannot be.
    #[error("`{field}`: {message}")]
    BadFilter {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// What was exported could not be handed on.
    #[error("the export cannot be written")]
    Write(#[from] std::io::Error),
}

/// The logs of this replica. Its methods block: they are for threads that may.
///
/// What a page costs: it looks at the records between the filter's times, in all logs, in the order of the answer, until it is full.
/// It ends early, with a place to go on, after `search_limit` records, 2 s of work or 8 MiB of records. The ends of the times are
/// found by bisection, some 20 bundles a log, and 10 s of records beyond each are looked at, because clocks step.
pub trait LogLibrary: fmt::Debug + Send + Sync {
    /// The logs: the control log first, then the decision logs, latest started first.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`], [`ReadError::Damaged`].
    fn logs(&self) -> Result<Vec<LogInfo>, ReadError>;

    /// The newest signed checkpoint of `log`.
    ///
    /// # Errors
    /// [`ReadError::NotYet`] if there is none, and those of reading.
    fn checkpoint(&self, log: &str) -> Result<String, ReadError>;

    /// Proves that record `index` is among the first `size` records of `log`; of those of the newest checkpoint if none is given.
    ///
    /// # Errors
    /// [`ReadError::NoSuchRecord`], [`ReadError::NotYet`], and those of reading.
    fn inclusion(&self, log: &str, index: u64, size: Option<u64>) -> Result<Inclusion, ReadError>;

    /// Proves that the first `new` records of `log` begin with its first `old`; the newest checkpoint's if no `new` is given.
    ///
    /// # Errors
    /// [`ReadError::BadFilter`] if `old` is above `new`, [`ReadError::NotYet`], and those of reading.
    fn consistency(&self, log: &str, old: u64, new: Option<u64>) -> Result<Consistency, ReadError>;

    /// The bytes of record `index` of `log`.
    ///
    /// # Errors
    /// [`ReadError::NoSuchRecord`], and those of reading.
    fn record(&self, log: &str, index: u64) -> Result<Vec<u8>, ReadError>;

    /// A page of records that fit.
    ///
    /// # Errors
    /// [`ReadError::NoSuchLog`] if the filter names one that is not here, and those of reading.
    fn query(&self, query: &Query) -> Result<Page, ReadError>;

    /// The hashes in the tile at `path`, `tile/<L>/<N>[.p/<W>]`. Only what a checkpoint covers is in tiles: they never change.
    ///
    /// # Errors
    /// [`ReadError::BadFilter`] for what is no path, [`ReadError::NotYet`], and those of reading.
    fn tile(&self, log: &str, path: &str) -> Result<Vec<u8>, ReadError>;

    /// The records in the tile at `path`, `tile/entries/<N>[.p/<W>]`.
    ///
    /// # Errors
    /// As [`Self::tile`]; [`ReadError::NoSuchRecord`] also for a record that was pruned or is longer than a tile takes, 65,535 bytes.
    fn entries(&self, log: &str, path: &str) -> Result<Vec<u8>, ReadError>;

    /// Writes a bundle for `countersign audit verify` to `out`, a tar archive: the control log as it is, and the decision logs as
    /// they are, or of each the records that fit with their proofs. Answers how many records of decision logs are in it.
    ///
    /// # Errors
    /// [`ReadError::Write`] if `out` takes no more, [`ReadError::NoSuchLog`] if the filter names one that is not here, and those
    /// of reading.
    fn export(&self, filter: &RecordFilter, out: &mut dyn Write) -> Result<u64, ReadError>;
}

/// Reading could not be recorded, so nothing may be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading the audit log cannot be recorded: {0}")]
pub struct NotNoted(pub String);

/// Where it is recorded who read what.
pub trait ReadLog: fmt::Debug + Send + Sync {
    /// Records that `person` is about to be given `records` records that fit `filter`. It is durable when this returns.
    fn note<'a>(
        &'a self,
        person: &'a Person,
        filter: &'a str,
        records: u64,
    ) -> PortFuture<'a, Result<(), NotNoted>>;
}
