//! Between rows and values.

use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row};

use crate::approval::{Approval, ApprovalId};
use crate::usecase::approval_store::StoreError;

use crate::storage::approval_texts::{StoredApproval, approval_of};

/// The columns that [`stored`] reads, of the table `approvals` alone.
pub(super) const APPROVAL: &str = "id, version, asked, asked_digest, course";

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
                Self::RuleBroken(text)
            }
            // Without a code: what was read does not have the type of its column.
            None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt(text)
            }
            // Busy, full, read-only, an I/O error: it may be better another time.
            Some(_) => Self::Unreachable(text),
        }
    }
}

/// A number as SQLite keeps it.
pub(super) fn column(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|error| StoreError::RuleBroken(error.to_string()))
}

/// A number that was kept by [`column()`].
pub(super) fn number(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
}

/// The name of an approval.
pub(super) fn approval_id(row: &Row<'_>, index: usize) -> rusqlite::Result<ApprovalId> {
    Ok(ApprovalId::new(row.get::<_, String>(index)?))
}

/// The columns of [`APPROVAL`].
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<StoredApproval> {
    Ok(StoredApproval {
        id: row.get(0)?,
        version: number(row, 1)?,
        asked: row.get(2)?,
        asked_digest: row.get(3)?,
        course: row.get(4)?,
    })
}

/// The approvals that `sql` selects, as [`APPROVAL`].
pub(super) fn approvals(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Vec<Approval>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, stored)?;
    rows.map(|row| approval_of(&row?)).collect()
}

/// The approval called `id`.
pub(super) fn approval(
    connection: &Connection,
    id: &ApprovalId,
) -> Result<Option<Approval>, StoreError> {
    let sql = "SELECT id, version, asked, asked_digest, course FROM approvals WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement.query_row([id.as_str()], stored).optional()?;
    row.as_ref().map(approval_of).transpose()
}
