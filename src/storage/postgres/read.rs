//! What is read of approvals without changing them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::approval::{Approval, ApprovalId, Status};
use crate::storage::approval_rows::{cursor_behind, micros, rows_at_once};
use crate::storage::approval_texts::{StoredApproval, approval_of, record_of};
use crate::usecase::approval_store::{
    ApprovalFilter, ApprovalPage, ListCursor, StoreError, StoredRecord,
};

use super::error::Failure;
use super::session::{Parameters, Session};
use super::values::{count, text, whole};

/// The columns here are those that [`approval`] reads, wherever an approval is read.
pub(super) const FIND: &str =
    "SELECT id, version, asked::text, asked_digest, course::text FROM approvals WHERE id = $1";

/// What time has ended has ended, whether or not anybody has written it down.
const LIST: &str = "SELECT id, version, asked::text, asked_digest, course::text FROM approvals
    WHERE ($1::text[] IS NULL OR $1 && rules)
        AND ($2::text IS NULL OR (hashtextextended(requester, 0) = hashtextextended($2, 0) AND requester = $2))
        AND ($3::text[] IS NULL OR CASE
            WHEN status = 'PENDING' AND deadline_us <= $4 THEN 'EXPIRED'
            WHEN status = 'APPROVED' AND deadline_us <= $4 THEN 'LAPSED'
            ELSE status END = ANY ($3))
        AND ($5::bigint IS NULL OR (opened_us, id) < ($5, $6::text))
    ORDER BY opened_us DESC, id DESC LIMIT $7";

const DUE: &str =
    "SELECT id FROM approvals WHERE next_timer_us <= $1 ORDER BY next_timer_us, id LIMIT $2";

const VERSIONS: &str = "SELECT id, version FROM approvals WHERE id = ANY ($1)";

const RECORDS: &str =
    "SELECT sequence, body::text FROM control_records WHERE approval = $1 ORDER BY sequence";

/// The approval in a row of what [`FIND`] selects.
pub(super) fn approval(row: &Row) -> Result<Approval, Failure> {
    let stored = StoredApproval {
        id: row.try_get(0)?,
        version: count::<i64, _>(row, 1)?,
        asked: row.try_get(2)?,
        asked_digest: row.try_get(3)?,
        course: row.try_get(4)?,
    };
    Ok(approval_of(&stored)?)
}

pub(super) async fn find(
    session: &Session,
    id: ApprovalId,
) -> Result<Option<Approval>, StoreError> {
    let rows = session
        .rows(FIND, vec![Box::new(text(id.as_str()))])
        .await?;
    whole(rows.first().map(approval).transpose())
}

/// A set as a filter: none lets everything pass.
fn any_of<'a>(set: impl ExactSizeIterator<Item = &'a str>) -> Option<Vec<String>> {
    (set.len() > 0).then(|| set.map(text).collect())
}

pub(super) async fn list(
    session: &Session,
    filter: ApprovalFilter,
    after: Option<ListCursor>,
    limit: u32,
    now: Timestamp,
) -> Result<ApprovalPage, StoreError> {
    let limit = rows_at_once(limit);
    let statuses: &BTreeSet<Status> = &filter.statuses;
    let parameters: Parameters = vec![
        Box::new(any_of(filter.rules.iter().map(String::as_str))),
        Box::new(filter.requester.as_deref().map(text)),
        Box::new(any_of(statuses.iter().map(|status| status.as_str()))),
        Box::new(micros(now)),
        Box::new(after.as_ref().map(|after| after.opened_us)),
        Box::new(after.as_ref().map(|after| text(after.id.as_str()))),
        // One more than is shown says whether the list goes on.
        Box::new(i64::from(limit) + 1),
    ];
    let rows = session.rows(LIST, parameters).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let approvals: Vec<Approval> = whole(rows.iter().take(shown).map(approval).collect())?;
    let goes_on = rows.len() > shown;
    let next = approvals.last().filter(|_| goes_on).map(cursor_behind);
    Ok(ApprovalPage { approvals, next })
}

pub(super) async fn due(
    session: &Session,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<ApprovalId>, StoreError> {
    let limit = i64::from(rows_at_once(limit));
    let rows = session
        .rows(DUE, vec![Box::new(micros(now)), Box::new(limit)])
        .await?;
    let id = |row: &Row| Ok(ApprovalId::new(row.try_get::<_, String>(0)?));
    whole(rows.iter().map(id).collect())
}

pub(super) async fn versions(
    session: &Session,
    ids: Vec<ApprovalId>,
) -> Result<Vec<(ApprovalId, u64)>, StoreError> {
    let ids: Vec<String> = ids.iter().map(|id| text(id.as_str())).collect();
    let rows = session.rows(VERSIONS, vec![Box::new(ids)]).await?;
    let version = |row: &Row| {
        let id = ApprovalId::new(row.try_get::<_, String>(0)?);
        Ok((id, count::<i64, _>(row, 1)?))
    };
    whole(rows.iter().map(version).collect())
}

pub(super) async fn records(
    session: &Session,
    id: ApprovalId,
) -> Result<Vec<StoredRecord>, StoreError> {
    let rows = session
        .rows(RECORDS, vec![Box::new(text(id.as_str()))])
        .await?;
    let record = |row: &Row| {
        Ok(StoredRecord {
            sequence: count::<i64, _>(row, 0)?,
            record: record_of(row.try_get(1)?)?,
        })
    };
    whole(rows.iter().map(record).collect())
}
