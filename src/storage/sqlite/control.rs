//! The control log: entries, their places, and the head.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::storage::approval_rows::{
    bodies_from, check_sequence, head_of, micros, rows_at_once, whole_micros,
};
use crate::usecase::approval_store::StoreError;
use crate::usecase::control_log::{
    ControlHead, ControlLog, PendingEntry, SEQUENCER, SequenceCommand,
};
use crate::usecase::ports::PortFuture;

use super::SqliteStore;
use super::rows::{column, number};

impl ControlLog for SqliteStore {
    fn append(&self, records: Vec<Vec<u8>>) -> PortFuture<'_, Result<(), StoreError>> {
        Box::pin(self.writer.write(move |connection, _| {
            for body in &records {
                insert_entry(connection, body)?;
            }
            Ok(())
        }))
    }

    fn pending(
        &self,
        after: u64,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<PendingEntry>, StoreError>> {
        Box::pin(
            self.readers
                .read(move |connection| pending(connection, after, limit)),
        )
    }

    fn head(&self) -> PortFuture<'_, Result<ControlHead, StoreError>> {
        Box::pin(self.readers.read(head))
    }

    fn sequence(&self, command: SequenceCommand) -> PortFuture<'_, Result<bool, StoreError>> {
        Box::pin(
            self.writer
                .write(move |connection, _| sequence(connection, &command)),
        )
    }

    fn keep_checkpoint(&self, size: u64, note: String) -> PortFuture<'_, Result<(), StoreError>> {
        Box::pin(
            self.writer
                .write(move |connection, _| keep_checkpoint(connection, size, &note)),
        )
    }

    fn sequenced(&self, from: u64, limit: u32) -> PortFuture<'_, Result<Vec<Vec<u8>>, StoreError>> {
        Box::pin(
            self.readers
                .read(move |connection| sequenced(connection, from, limit)),
        )
    }

    fn checkpoints(
        &self,
        above: u64,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<(u64, String)>, StoreError>> {
        Box::pin(
            self.readers
                .read(move |connection| checkpoints(connection, above, limit)),
        )
    }
}

/// Writes an entry, which waits for its place from then on. Answers what names it.
pub(super) fn insert_entry(connection: &Connection, body: &[u8]) -> Result<i64, StoreError> {
    let sql = "INSERT INTO control_entries (body) VALUES (?1)";
    Ok(connection.prepare_cached(sql)?.insert([body])?)
}

/// The entries behind `after` that wait for their places, oldest first.
pub(super) fn pending(
    connection: &Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<PendingEntry>, StoreError> {
    let sql = "SELECT q.entry, e.body FROM control_queue AS q JOIN control_entries AS e ON e.entry = q.entry
               WHERE q.entry > ?1 ORDER BY q.entry LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((column(after)?, rows_at_once(limit)), |row| {
        Ok(PendingEntry {
            entry: number(row, 0)?,
            bytes: row.get(1)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How far the log has come.
pub(super) fn head(connection: &Connection) -> Result<ControlHead, StoreError> {
    let sql =
        "SELECT size, frontier, (SELECT note FROM control_checkpoints ORDER BY size DESC LIMIT 1)
               FROM control_head";
    let (size, frontier, checkpoint): (u64, Vec<u8>, _) = connection
        .prepare_cached(sql)?
        .query_row([], |row| Ok((number(row, 0)?, row.get(1)?, row.get(2)?)))?;
    head_of(size, &frontier, checkpoint)
}

/// Whether the lease by which places are given is held so.
fn is_held(
    connection: &Connection,
    holder: &str,
    epoch: u64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql =
        "SELECT 1 FROM leases WHERE name = ?1 AND holder = ?2 AND epoch = ?3 AND until_us > ?4";
    let held = connection.prepare_cached(sql)?.exists(params![
        SEQUENCER,
        holder,
        column(epoch)?,
        micros(whole_micros(now))
    ])?;
    Ok(held)
}

/// Whether each of `entries` waits for its place, and none is named twice.
fn all_wait(connection: &Connection, entries: &[u64]) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM control_queue WHERE entry = ?1")?;
    let mut seen = BTreeSet::new();
    for entry in entries {
        if !seen.insert(entry) || !statement.exists([column(*entry)?])? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sequence(connection: &Connection, command: &SequenceCommand) -> Result<bool, StoreError> {
    check_sequence(command)?;
    let SequenceCommand {
        from,
        entries,
        frontier,
        holder,
        epoch,
        now,
    } = command;
    let (size, last_epoch) = connection
        .prepare_cached("SELECT size, epoch FROM control_head")?
        .query_row([], |row| Ok((number(row, 0)?, number(row, 1)?)))?;
    if size != *from
        || last_epoch > *epoch
        || !is_held(connection, holder, *epoch, *now)?
        || !all_wait(connection, entries)?
    {
        return Ok(false);
    }
    if entries.is_empty() {
        return Ok(true);
    }
    // Each place takes its entry out of the queue by itself.
    let mut place =
        connection.prepare_cached("INSERT INTO control_log (idx, entry) VALUES (?1, ?2)")?;
    for (index, entry) in (*from..).zip(entries) {
        place.execute((column(index)?, column(*entry)?))?;
    }
    let sql = "UPDATE control_head SET size = ?1, frontier = ?2, epoch = ?3";
    connection.prepare_cached(sql)?.execute((
        column(frontier.size())?,
        frontier.to_bytes(),
        column(*epoch)?,
    ))?;
    Ok(true)
}

fn keep_checkpoint(connection: &Connection, size: u64, note: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO control_checkpoints (size, note)
               SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM control_checkpoints AS c WHERE c.size >= ?1)";
    connection
        .prepare_cached(sql)?
        .execute((column(size)?, note))?;
    Ok(())
}

/// The bodies of the records from place `from` on.
pub(super) fn sequenced(
    connection: &Connection,
    from: u64,
    limit: u32,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let sql =
        "SELECT l.idx, e.body FROM control_log AS l JOIN control_entries AS e ON e.entry = l.entry
               WHERE l.idx >= ?1 ORDER BY l.idx LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((column(from)?, rows_at_once(limit)), |row| {
        Ok((number(row, 0)?, row.get(1)?))
    })?;
    let rows: Vec<(u64, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
    bodies_from(from, rows)
}

fn checkpoints(
    connection: &Connection,
    above: u64,
    limit: u32,
) -> Result<Vec<(u64, String)>, StoreError> {
    let sql = "SELECT size, note FROM control_checkpoints WHERE size > ?1 ORDER BY size LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((column(above)?, rows_at_once(limit)), |row| {
        Ok((number(row, 0)?, row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
