//! The control log: entries, their places, and the head.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use crate::storage::approval_rows::{
    bodies_from, check_sequence, head_of, micros, rows_at_once, whole_micros,
};
use crate::usecase::approval_store::StoreError;
use crate::usecase::control_log::{
    ControlHead, ControlLog, PendingEntry, SEQUENCER, SequenceCommand,
};
use crate::usecase::ports::PortFuture;

use super::PostgresStore;
use super::error::Failure;
use super::session::{Session, Work, Written};
use super::values::{count, number, whole};

const APPEND: &str = "INSERT INTO control_entries (body)
    SELECT body FROM unnest($1::bytea[]) WITH ORDINALITY AS new (body, place) ORDER BY place";

/// All that waits, and not what is behind some number: a lower number may be committed after a higher one.
pub(super) const PENDING: &str =
    "SELECT entry, body FROM control_queue JOIN control_entries USING (entry)
    WHERE entry > $1 ORDER BY entry LIMIT $2";

pub(super) const HEAD: &str =
    "SELECT size, frontier, (SELECT note FROM control_checkpoints ORDER BY size DESC LIMIT 1)
    FROM control_head";

pub(super) const SEQUENCED: &str =
    "SELECT l.idx, e.body FROM control_log AS l JOIN control_entries AS e USING (entry)
    WHERE l.idx >= $1 ORDER BY l.idx LIMIT $2";

const CHECKPOINTS: &str =
    "SELECT size, note FROM control_checkpoints WHERE size > $1 ORDER BY size LIMIT $2";

/// Whoever gives places or keeps a checkpoint holds this row, so they come one after the other.
const LOCK_HEAD: &str = "SELECT size, epoch FROM control_head FOR UPDATE";

/// A statement of its own behind the lock, so that it sees what was committed while the lock was waited for.
const CHECK: &str = "SELECT EXISTS (
        SELECT FROM leases WHERE name = $1 AND holder = $2 AND epoch = $3 AND until_us > $4
    ), (SELECT count(*) FROM control_queue WHERE entry = ANY ($5))";

/// Each place takes its entry out of the queue by itself.
const PLACE: &str = "INSERT INTO control_log (idx, entry)
    SELECT $1 + place - 1, entry FROM unnest($2::bigint[]) WITH ORDINALITY AS new (entry, place)";

const MOVE_HEAD: &str = "UPDATE control_head SET size = $1, frontier = $2, epoch = $3";

const KEEP_CHECKPOINT: &str = "INSERT INTO control_checkpoints (size, note)
    SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM control_checkpoints WHERE size >= $1)";

impl ControlLog for PostgresStore {
    fn append(&self, records: Vec<Vec<u8>>) -> PortFuture<'_, Result<(), StoreError>> {
        self.task(async move |session| session.transact(&Append { records }).await)
    }

    fn pending(
        &self,
        after: u64,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<PendingEntry>, StoreError>> {
        self.task(async move |session| {
            let rows = page(&session, PENDING, after, limit).await?;
            whole(rows.iter().map(pending_entry).collect())
        })
    }

    fn head(&self) -> PortFuture<'_, Result<ControlHead, StoreError>> {
        self.task(async move |session| head(&session.rows(HEAD, Vec::new()).await?))
    }

    fn sequence(&self, command: SequenceCommand) -> PortFuture<'_, Result<bool, StoreError>> {
        self.task(async move |session| {
            check_sequence(&command)?;
            session.transact(&Sequence { command }).await
        })
    }

    fn keep_checkpoint(&self, size: u64, note: String) -> PortFuture<'_, Result<(), StoreError>> {
        self.task(async move |session| session.transact(&KeepCheckpoint { size, note }).await)
    }

    fn sequenced(&self, from: u64, limit: u32) -> PortFuture<'_, Result<Vec<Vec<u8>>, StoreError>> {
        self.task(async move |session| bodies(from, &page(&session, SEQUENCED, from, limit).await?))
    }

    fn checkpoints(
        &self,
        above: u64,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<(u64, String)>, StoreError>> {
        self.task(async move |session| {
            let rows = page(&session, CHECKPOINTS, above, limit).await?;
            let checkpoint = |row: &Row| Ok((count::<i64, _>(row, 0)?, row.try_get(1)?));
            whole(rows.iter().map(checkpoint).collect())
        })
    }
}

/// The rows of a statement that takes where to begin and how many rows there may be.
async fn page(
    session: &Session,
    sql: &'static str,
    begin: u64,
    limit: u32,
) -> Result<Vec<Row>, StoreError> {
    let limit = i64::from(rows_at_once(limit));
    session
        .rows(sql, vec![Box::new(number(begin)), Box::new(limit)])
        .await
}

/// The entry in a row of what [`PENDING`] selects.
pub(super) fn pending_entry(row: &Row) -> Result<PendingEntry, Failure> {
    Ok(PendingEntry {
        entry: count::<i64, _>(row, 0)?,
        bytes: row.try_get(1)?,
    })
}

/// The head in the one row of what [`HEAD`] selects.
pub(super) fn head(rows: &[Row]) -> Result<ControlHead, StoreError> {
    let columns = |row: &Row| Ok((count::<i64, u64>(row, 0)?, row.try_get(1)?, row.try_get(2)?));
    let found: Option<(u64, Vec<u8>, _)> = whole(rows.first().map(columns).transpose())?;
    let Some((size, frontier, checkpoint)) = found else {
        let what = "the control log has no head".to_owned();
        return Err(StoreError::Corrupt(what));
    };
    head_of(size, &frontier, checkpoint)
}

/// The bodies in rows of what [`SEQUENCED`] selects.
pub(super) fn bodies(from: u64, rows: &[Row]) -> Result<Vec<Vec<u8>>, StoreError> {
    let placed = |row: &Row| Ok((count::<i64, u64>(row, 0)?, row.try_get(1)?));
    let placed: Vec<(u64, Vec<u8>)> = whole(rows.iter().map(placed).collect())?;
    bodies_from(from, placed)
}

fn quiet<T>(answer: T) -> Written<T> {
    Written {
        answer,
        changed: Vec::new(),
    }
}

/// Keeps records that belong to no approval.
#[derive(Debug)]
struct Append {
    records: Vec<Vec<u8>>,
}

impl Work for Append {
    type Answer = ();

    /// Nothing would tell a repetition from another record that says the same.
    fn is_repeatable(&self) -> bool {
        false
    }

    async fn attempt(&self, transaction: &Transaction<'_>) -> Result<Written<()>, Failure> {
        let statement = transaction.prepare_cached(APPEND).await?;
        transaction.execute(&statement, &[&self.records]).await?;
        Ok(quiet(()))
    }
}

/// Gives records their places.
#[derive(Debug)]
struct Sequence {
    command: SequenceCommand,
}

impl Work for Sequence {
    type Answer = bool;

    /// A repetition would find the log longer, and say that it did nothing.
    fn is_repeatable(&self) -> bool {
        false
    }

    async fn attempt(&self, transaction: &Transaction<'_>) -> Result<Written<bool>, Failure> {
        let SequenceCommand {
            from,
            entries,
            frontier,
            epoch,
            ..
        } = &self.command;
        // A new connection prepares everything before it holds the lock.
        let lock = transaction.prepare_cached(LOCK_HEAD).await?;
        let place = transaction.prepare_cached(PLACE).await?;
        let move_head = transaction.prepare_cached(MOVE_HEAD).await?;
        transaction.prepare_cached(CHECK).await?;
        let head = transaction.query_one(&lock, &[]).await?;
        let (size, last_epoch): (u64, u64) =
            (count::<i64, _>(&head, 0)?, count::<i64, _>(&head, 1)?);
        let entries: Vec<i64> = entries.iter().map(|entry| number(*entry)).collect();
        if size != *from || last_epoch > *epoch || !self.may_place(transaction, &entries).await? {
            return Ok(quiet(false));
        }
        if entries.is_empty() {
            return Ok(quiet(true));
        }
        transaction
            .execute(&place, &[&number(*from), &entries])
            .await?;
        let moved = transaction
            .execute(
                &move_head,
                &[
                    &number(frontier.size()),
                    &frontier.to_bytes(),
                    &number(*epoch),
                ],
            )
            .await?;
        if moved != 1 {
            return Err(Failure::corrupt("the control log has no head"));
        }
        Ok(quiet(true))
    }
}

impl Sequence {
    /// Whether the lease is held so, and each of `entries` waits; one that is named twice counts once, so they do not.
    async fn may_place(
        &self,
        transaction: &Transaction<'_>,
        entries: &[i64],
    ) -> Result<bool, Failure> {
        let SequenceCommand {
            holder, epoch, now, ..
        } = &self.command;
        let statement = transaction.prepare_cached(CHECK).await?;
        let row = transaction
            .query_one(
                &statement,
                &[
                    &SEQUENCER,
                    holder,
                    &number(*epoch),
                    &micros(whole_micros(*now)),
                    &entries,
                ],
            )
            .await?;
        let is_held: bool = row.try_get(0)?;
        let waiting: usize = usize::try_from(count::<i64, u64>(&row, 1)?).unwrap_or(usize::MAX);
        Ok(is_held && waiting == entries.len())
    }
}

/// Keeps a signed checkpoint.
#[derive(Debug)]
struct KeepCheckpoint {
    size: u64,
    note: String,
}

impl Work for KeepCheckpoint {
    type Answer = ();

    /// The second time there is one of that size.
    fn is_repeatable(&self) -> bool {
        true
    }

    async fn attempt(&self, transaction: &Transaction<'_>) -> Result<Written<()>, Failure> {
        let keep = transaction.prepare_cached(KEEP_CHECKPOINT).await?;
        let lock = transaction.prepare_cached(LOCK_HEAD).await?;
        transaction.query_one(&lock, &[]).await?;
        transaction
            .execute(&keep, &[&number(self.size), &self.note])
            .await?;
        Ok(quiet(()))
    }
}
