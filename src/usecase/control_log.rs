//! What the use cases need from whoever keeps the control log.
//!
//! A record is durable as soon as what it is about is: both are written in one transaction. Its place in the log comes later, from
//! whoever holds the lease [`SEQUENCER`]. Until then nothing depends on it.

use std::fmt;

use jiff::Timestamp;

use crate::approval::ControlRecord;
use crate::audit::control_record::encode_plain;
use crate::audit::tree::Frontier;

use super::approval_store::StoreError;
use super::ports::PortFuture;

/// Who gives records their places is who holds this lease.
pub const SEQUENCER: &str = "sequencer";

/// The control log as far as it has places.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlHead {
    /// The tree over all records that have a place.
    pub frontier: Frontier,
    /// The last signed checkpoint, of the present size or an earlier one.
    pub checkpoint: Option<String>,
}

/// A record that waits for its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// Names it in the store.
    pub entry: u64,
    /// Its bytes, as they are hashed.
    pub bytes: Vec<u8>,
}

/// Gives records their places.
#[derive(Clone, Debug)]
pub struct SequenceCommand {
    /// The place of the first of them: the present size of the log.
    pub from: u64,
    /// Which, in this order.
    pub entries: Vec<u64>,
    /// The tree with them.
    pub frontier: Frontier,
    /// Who holds the lease.
    pub holder: String,
    /// The lease's epoch.
    pub epoch: u64,
    /// The one clock.
    pub now: Timestamp,
}

/// Makes the bytes of records. A store asks once for each record, inside the transaction that writes it.
pub trait RecordEncoder: fmt::Debug + Send + Sync {
    /// The bytes of `record`, as they are kept and hashed.
    fn encode(&self, record: &ControlRecord) -> Vec<u8>;
}

/// Keeps the control log: one for a cluster.
pub trait ControlLog: fmt::Debug + Send + Sync {
    /// Keeps records that belong to no approval. They are durable when this returns.
    fn append(&self, records: Vec<Vec<u8>>) -> PortFuture<'_, Result<(), StoreError>>;

    /// Records without a place behind the one called `after`, oldest first, at most `limit`; 0 is before all of them.
    fn pending(
        &self,
        after: u64,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<PendingEntry>, StoreError>>;

    /// How far the log has come.
    fn head(&self) -> PortFuture<'_, Result<ControlHead, StoreError>>;

    /// Gives records their places and replaces the head, if the log is as long as the command says and the lease still holds.
    /// Answers whether it did.
    fn sequence(&self, command: SequenceCommand) -> PortFuture<'_, Result<bool, StoreError>>;

    /// Keeps a signed checkpoint of the log at `size`, unless there is one of that size or a later one.
    fn keep_checkpoint(&self, size: u64, note: String) -> PortFuture<'_, Result<(), StoreError>>;

    /// The bytes of the records from place `from` on, at most `limit`.
    fn sequenced(&self, from: u64, limit: u32) -> PortFuture<'_, Result<Vec<Vec<u8>>, StoreError>>;

    /// The signed checkpoints of sizes above `above`, smallest first, at most `limit`, each with its size.
    fn checkpoints(
        &self,
        above: u64,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<(u64, String)>, StoreError>>;
}

/// Writes records as they are, with nothing kept out.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainRecords;

impl RecordEncoder for PlainRecords {
    fn encode(&self, record: &ControlRecord) -> Vec<u8> {
        encode_plain(record)
    }
}
