//! Deliveries, leases and the memory of commands, inside the writer's transaction.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::approval::{Approval, ApprovalId};
use crate::usecase::approval_store::{Delivery, DeliveryOutcome, StoreError};

use super::rows::{approval_id, column, number};
use crate::storage::approval_rows::{forgotten_before, micros, rows_at_once};
use crate::storage::delivery_rows::{DeliveryRow, LeaseRow, lease_for};

/// A place of an approval.
pub(super) type Place = (ApprovalId, String);

/// Reads how telling stands: the place, and the row. From the columns `approval, destination, desired_version, posted_version,
/// attempts, due_us, leased_until_us, is_dead, error, reference`.
pub(super) fn delivery_row(row: &Row<'_>) -> rusqlite::Result<(Place, DeliveryRow)> {
    let delivery = DeliveryRow {
        desired_version: number(row, 2)?,
        posted_version: number(row, 3)?,
        attempts: row.get(4)?,
        due_us: row.get(5)?,
        leased_until_us: row.get(6)?,
        is_dead: row.get(7)?,
        error: row.get(8)?,
        reference: row.get(9)?,
    };
    Ok(((approval_id(row, 0)?, row.get(1)?), delivery))
}

fn find(connection: &Connection, place: &Place) -> Result<Option<DeliveryRow>, StoreError> {
    let sql = "SELECT approval, destination, desired_version, posted_version, attempts, due_us,
                   leased_until_us, is_dead, error, reference
               FROM outbox WHERE approval = ?1 AND destination = ?2";
    let found = connection
        .prepare_cached(sql)?
        .query_row((place.0.as_str(), &place.1), delivery_row)
        .optional()?;
    Ok(found.map(|(_, row)| row))
}

fn keep(connection: &Connection, place: &Place, row: &DeliveryRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO outbox (approval, destination, desired_version, posted_version, attempts, due_us,
                   leased_until_us, is_dead, error, reference)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
               ON CONFLICT (approval, destination) DO UPDATE SET desired_version = excluded.desired_version,
                   posted_version = excluded.posted_version, attempts = excluded.attempts, due_us = excluded.due_us,
                   leased_until_us = excluded.leased_until_us, is_dead = excluded.is_dead, error = excluded.error,
                   reference = excluded.reference";
    connection.prepare_cached(sql)?.execute(params![
        place.0.as_str(),
        place.1,
        column(row.desired_version)?,
        column(row.posted_version)?,
        row.attempts,
        row.due_us,
        row.leased_until_us,
        row.is_dead,
        row.error,
        row.reference,
    ])?;
    Ok(())
}

/// Wants `destination` to hear how `approval` stands now.
pub(super) fn desire(
    connection: &Connection,
    approval: &Approval,
    destination: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let place = (approval.id.clone(), destination.to_owned());
    let mut row = find(connection, &place)?.unwrap_or_default();
    row.desire(approval.version, now);
    keep(connection, &place, &row)
}

/// Takes deliveries that are due.
pub(super) fn claim(
    connection: &Connection,
    limit: u32,
    lease: Duration,
    now: Timestamp,
) -> Result<Vec<Delivery>, StoreError> {
    let sql = "SELECT approval, destination, desired_version, posted_version, attempts, due_us,
                   leased_until_us, is_dead, error, reference
               FROM outbox
               WHERE is_dead = 0 AND posted_version < desired_version AND due_us <= ?1
                   AND (leased_until_us IS NULL OR leased_until_us <= ?1)
               ORDER BY due_us, approval, destination LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((micros(now), rows_at_once(limit)), delivery_row)?;
    let due: Vec<(Place, DeliveryRow)> = rows.collect::<Result<_, _>>()?;
    let mut claimed = Vec::with_capacity(due.len());
    for (place, mut row) in due {
        let delivery = row.claim(place.clone(), lease, now);
        keep(connection, &place, &row)?;
        claimed.push(delivery);
    }
    Ok(claimed)
}

/// Keeps how a delivery went, unless its lease was lost.
pub(super) fn finish(
    connection: &Connection,
    delivery: &Delivery,
    outcome: DeliveryOutcome,
    now: Timestamp,
) -> Result<(), StoreError> {
    let place = (delivery.approval.clone(), delivery.destination.clone());
    let Some(mut row) = find(connection, &place)? else {
        return Ok(());
    };
    if row.finish(delivery, outcome, now) {
        keep(connection, &place, &row)?;
    }
    Ok(())
}

/// Takes or renews a lease.
pub(super) fn lease(
    connection: &Connection,
    name: &str,
    holder: String,
    ttl: Duration,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT holder, epoch, until_us FROM leases WHERE name = ?1";
    let held = connection
        .prepare_cached(sql)?
        .query_row([name], |row| {
            Ok(LeaseRow {
                holder: row.get(0)?,
                epoch: number(row, 1)?,
                until_us: row.get(2)?,
            })
        })
        .optional()?;
    let Some(row) = lease_for(held, holder, ttl, now) else {
        return Ok(None);
    };
    let sql = "INSERT INTO leases (name, holder, epoch, until_us) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = excluded.epoch,
                   until_us = excluded.until_us";
    connection.prepare_cached(sql)?.execute((
        name,
        &row.holder,
        column(row.epoch)?,
        row.until_us,
    ))?;
    Ok(Some(row.epoch))
}

/// Forgets command keys that nobody repeats any more.
pub(super) fn forget_commands(connection: &Connection, now: Timestamp) -> Result<u64, StoreError> {
    let forgotten = connection
        .prepare_cached("DELETE FROM commands WHERE at_us < ?1")?
        .execute([micros(forgotten_before(now))])?;
    Ok(u64::try_from(forgotten).unwrap_or(u64::MAX))
}
