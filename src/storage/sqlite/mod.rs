//! Keeps approvals and the control log in an SQLite file: the store of a single server, without another program to run.
//!
//! Place: floor 3, an implementation of `ApprovalStore` and `ControlLog` beside the one in memory; both share `approval_rows` and `delivery_rows`.
//! Never: a write outside the one writing thread, or an answer before its commit is on the disk.
//!
//! What must hold whatever the program does is a rule of the schema (`migrations/`): votes, redemptions, records, transitions
//! and places in the log.

mod control;
mod evidence;
mod migrate;
mod open;
mod outbox;
mod read;
mod readers;
mod rows;
mod signs;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::approval::{Approval, ApprovalId};
use crate::usecase::approval_store::{
    Applied, ApplyCommand, ApprovalFilter, ApprovalPage, ApprovalStore, Delivery, DeliveryOutcome,
    DeliveryState, ListCursor, OpenCommand, Opened, StoreError, StoredRecord,
};
use crate::usecase::control_log::{PlainRecords, RecordEncoder};
use crate::usecase::observing::ApprovalSigns;
use crate::usecase::ports::PortFuture;

pub use self::evidence::SqliteEvidence;
pub use self::open::SqliteOpenError;

use self::open::{Lock, lock, open_writer};
use self::readers::Readers;
use self::writer::Writer;
use crate::storage::approval_rows::whole_micros;

/// How many hints of changes wait for a slow listener.
const CHANGES: usize = 1024;

/// A store in an SQLite file.
///
/// Dropping it finishes what is queued, which blocks for as long as that takes.
#[derive(Debug)]
pub struct SqliteStore {
    // In this order: the writer goes last but for the lock, so that its end tidies the file up.
    readers: Readers,
    writer: Writer,
    changes: broadcast::Sender<ApprovalId>,
    encoder: Arc<dyn RecordEncoder>,
    _lock: Lock,
}

impl SqliteStore {
    /// Opens the database at `path`, and makes it if there is none; records are kept by [`PlainRecords`]. Blocks.
    ///
    /// # Errors
    /// [`SqliteOpenError`]: another process has it, a setting cannot be made, or its tables are not those this program knows.
    pub fn open(path: &Path) -> Result<Self, SqliteOpenError> {
        Self::open_with(path, Arc::new(PlainRecords))
    }

    /// Opens the database at `path`, and makes it if there is none; `encoder` makes the bytes of records. Blocks.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        path: &Path,
        encoder: Arc<dyn RecordEncoder>,
    ) -> Result<Self, SqliteOpenError> {
        let lock = lock(path)?;
        let connection = open_writer(path)?;
        let readers = Readers::open(path)?;
        let (changes, _) = broadcast::channel(CHANGES);
        let writer = Writer::start(connection, changes.clone()).map_err(SqliteOpenError::Thread)?;
        Ok(Self {
            readers,
            writer,
            changes,
            encoder,
            _lock: lock,
        })
    }
}

impl ApprovalStore for SqliteStore {
    fn open(
        &self,
        command: OpenCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Opened, StoreError>> {
        let now = whole_micros(now);
        let encoder = Arc::clone(&self.encoder);
        Box::pin(self.writer.write(move |connection, changed| {
            write::open(connection, command, now, changed, &*encoder)
        }))
    }

    fn apply(
        &self,
        command: ApplyCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Applied, StoreError>> {
        let now = whole_micros(now);
        let encoder = Arc::clone(&self.encoder);
        Box::pin(self.writer.write(move |connection, changed| {
            write::apply(connection, &command, now, changed, &*encoder)
        }))
    }

    fn find(&self, id: &ApprovalId) -> PortFuture<'_, Result<Option<Approval>, StoreError>> {
        let id = id.clone();
        Box::pin(
            self.readers
                .read(move |connection| rows::approval(connection, &id)),
        )
    }

    fn list(
        &self,
        filter: ApprovalFilter,
        after: Option<ListCursor>,
        limit: u32,
        now: Timestamp,
    ) -> PortFuture<'_, Result<ApprovalPage, StoreError>> {
        let now = whole_micros(now);
        Box::pin(
            self.readers.read(move |connection| {
                read::list(connection, &filter, after.as_ref(), limit, now)
            }),
        )
    }

    fn due(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<ApprovalId>, StoreError>> {
        let now = whole_micros(now);
        Box::pin(
            self.readers
                .read(move |connection| read::due(connection, now, limit)),
        )
    }

    fn signs(&self, now: Timestamp) -> PortFuture<'_, Result<ApprovalSigns, StoreError>> {
        let now = whole_micros(now);
        Box::pin(
            self.readers
                .read(move |connection| signs::signs(connection, now)),
        )
    }

    fn versions(
        &self,
        ids: Vec<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<(ApprovalId, u64)>, StoreError>> {
        Box::pin(
            self.readers
                .read(move |connection| read::versions(connection, ids)),
        )
    }

    fn records(&self, id: &ApprovalId) -> PortFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        let id = id.clone();
        Box::pin(
            self.readers
                .read(move |connection| read::records(connection, &id)),
        )
    }

    fn claim_deliveries(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<Delivery>, StoreError>> {
        let now = whole_micros(now);
        Box::pin(
            self.writer
                .write(move |connection, _| outbox::claim(connection, limit, lease, now)),
        )
    }

    fn finish_delivery(
        &self,
        delivery: Delivery,
        outcome: DeliveryOutcome,
        now: Timestamp,
    ) -> PortFuture<'_, Result<(), StoreError>> {
        let now = whole_micros(now);
        Box::pin(
            self.writer
                .write(move |connection, _| outbox::finish(connection, &delivery, outcome, now)),
        )
    }

    fn deliveries(
        &self,
        id: Option<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<DeliveryState>, StoreError>> {
        Box::pin(
            self.readers
                .read(move |connection| read::deliveries(connection, id.as_ref())),
        )
    }

    fn lease(
        &self,
        name: &'static str,
        holder: String,
        ttl: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Option<u64>, StoreError>> {
        let now = whole_micros(now);
        Box::pin(
            self.writer
                .write(move |connection, _| outbox::lease(connection, name, holder, ttl, now)),
        )
    }

    fn forget_commands(&self, now: Timestamp) -> PortFuture<'_, Result<u64, StoreError>> {
        let now = whole_micros(now);
        Box::pin(
            self.writer
                .write(move |connection, _| outbox::forget_commands(connection, now)),
        )
    }

    fn changes(&self) -> broadcast::Receiver<ApprovalId> {
        self.changes.subscribe()
    }
}
