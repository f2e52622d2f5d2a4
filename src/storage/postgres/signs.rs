//! How many approvals wait, and how telling people keeps up.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::storage::approval_rows::{micros, moment};
use crate::usecase::approval_store::StoreError;
use crate::usecase::observing::ApprovalSigns;

use super::error::Failure;
use super::session::Session;
use super::values::{count, whole};

/// Only what time will change has a timer, and there is an index of those: closed approvals are never looked at.
const SIGNS: &str = "SELECT
        count(*) FILTER (WHERE status = 'PENDING'), min(opened_us) FILTER (WHERE status = 'PENDING'),
        count(*) FILTER (WHERE status = 'APPROVED'),
        (SELECT count(*) FROM outbox WHERE posted_version < desired_version AND NOT is_dead),
        (SELECT min(due_us) FROM outbox WHERE posted_version < desired_version AND NOT is_dead AND due_us <= $1)
    FROM approvals WHERE next_timer_us IS NOT NULL AND deadline_us > $1";

pub(super) async fn signs(session: &Session, now: Timestamp) -> Result<ApprovalSigns, StoreError> {
    let rows = session.rows(SIGNS, vec![Box::new(micros(now))]).await?;
    let read = rows.first().map(signs_of).transpose();
    Ok(whole(read)?.unwrap_or_default())
}

fn signs_of(row: &Row) -> Result<ApprovalSigns, Failure> {
    let at = |column| {
        let micros: Option<i64> = row.try_get(column)?;
        Ok::<_, Failure>(micros.map(moment).transpose()?)
    };
    Ok(ApprovalSigns {
        pending: count::<i64, _>(row, 0)?,
        oldest_pending: at(1)?,
        approved: count::<i64, _>(row, 2)?,
        undelivered: count::<i64, _>(row, 3)?,
        oldest_undelivered: at(4)?,
    })
}
