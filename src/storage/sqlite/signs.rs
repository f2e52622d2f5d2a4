//! How many approvals wait, and how telling people keeps up.

use jiff::Timestamp;
use rusqlite::{Connection, Params};

use crate::approval::Status;
use crate::storage::approval_rows::{micros, moment};
use crate::usecase::approval_store::StoreError;
use crate::usecase::observing::ApprovalSigns;

/// Only what time will change has a timer, and there is an index of those: closed approvals are never looked at.
const STANDING: &str = "SELECT count(*), min(opened_us) FROM approvals
    WHERE next_timer_us IS NOT NULL AND status = ?1 AND deadline_us > ?2";
const LATE: &str = "SELECT count(*), min(due_us) FILTER (WHERE due_us <= ?1) FROM outbox
    WHERE is_dead = 0 AND posted_version < desired_version";

pub(super) fn signs(connection: &Connection, now: Timestamp) -> Result<ApprovalSigns, StoreError> {
    let standing = |status: Status| {
        let parameters = (status.as_str(), micros(now));
        counted(connection, STANDING, parameters)
    };
    let (pending, oldest_pending) = standing(Status::Pending)?;
    let (approved, _) = standing(Status::Approved)?;
    let (undelivered, oldest_undelivered) = counted(connection, LATE, (micros(now),))?;
    Ok(ApprovalSigns {
        pending,
        approved,
        oldest_pending,
        undelivered,
        oldest_undelivered,
    })
}

fn counted(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<(u64, Option<Timestamp>), StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let (count, oldest) = statement.query_row(parameters, |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
    })?;
    let count = u64::try_from(count).unwrap_or_default();
    Ok((count, oldest.map(moment).transpose()?))
}
