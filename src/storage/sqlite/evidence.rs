//! Looks at a database that a server may have, through one connection that only reads.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row};

use crate::approval::{ApprovalId, Choice, Digest};
use crate::storage::approval_rows::{moment, rows_at_once};
use crate::storage::approval_texts::{StoredApproval, approval_of};
use crate::usecase::approval_store::StoreError;
use crate::usecase::control_log::{ControlHead, PendingEntry};
use crate::usecase::evidence::{ApprovalEvidence, Evidence, RedemptionRow, VoteRow};

use super::control::{head, pending, sequenced};
use super::migrate::check_present;
use super::open::{SqliteOpenError, open_reader};
use super::rows::{APPROVAL, number, stored};

/// A database that is only looked at. It takes no lock that keeps a server out, and sees the database as it was when it was opened.
///
/// As long as it is open, what a server writes stays in the file's log (`-wal`), so do not keep it longer than needed.
#[derive(Debug)]
pub struct SqliteEvidence {
    connection: Connection,
}

impl SqliteEvidence {
    /// Opens the database at `path` to be looked at. Never makes or changes one. Blocks.
    ///
    /// # Errors
    /// [`SqliteOpenError`]: there is none, or its tables are not exactly those this program knows.
    pub fn open(path: &Path) -> Result<Self, SqliteOpenError> {
        let connection = open_reader(path)?;
        // The first reading inside the transaction fixes the moment that every other one sees.
        connection.execute_batch("BEGIN")?;
        check_present(&connection)?;
        Ok(Self { connection })
    }
}

impl Evidence for SqliteEvidence {
    fn approvals(
        &self,
        after: Option<&ApprovalId>,
        limit: u32,
    ) -> Result<Vec<ApprovalEvidence>, StoreError> {
        // By an order that the index has, from the very first name on.
        let (is_behind, after) = after.map_or((">=", ""), |after| (">", after.as_str()));
        let sql = format!(
            "SELECT {APPROVAL} FROM approvals WHERE id {is_behind} ?1 ORDER BY id LIMIT ?2"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map((after, rows_at_once(limit)), stored)?;
        rows.map(|row| approval_evidence(&self.connection, &row?))
            .collect()
    }

    fn control_head(&self) -> Result<ControlHead, StoreError> {
        head(&self.connection)
    }

    fn control_size(&self) -> Result<u64, StoreError> {
        let sql = "SELECT ifnull(max(idx) + 1, 0) FROM control_log";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([], |row| number(row, 0))?)
    }

    fn control_bodies(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        sequenced(&self.connection, from, limit)
    }

    fn pending_bodies(&self, after: u64, limit: u32) -> Result<Vec<PendingEntry>, StoreError> {
        pending(&self.connection, after, limit)
    }
}

fn approval_evidence(
    connection: &Connection,
    stored: &StoredApproval,
) -> Result<ApprovalEvidence, StoreError> {
    Ok(ApprovalEvidence {
        id: ApprovalId::new(stored.id.clone()),
        approval: approval_of(stored),
        votes: votes(connection, &stored.id)?,
        redemption: redemption(connection, &stored.id)?,
    })
}

fn votes(connection: &Connection, approval: &str) -> Result<Vec<VoteRow>, StoreError> {
    let sql = "SELECT person, account, choice, at_us, request_digest, view_digest
               FROM votes WHERE approval = ?1 ORDER BY person";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([approval])?;
    let mut votes = Vec::new();
    while let Some(row) = rows.next()? {
        votes.push(VoteRow {
            person: row.get(0)?,
            account: row.get(1)?,
            choice: choice(&row.get::<_, String>(2)?)?,
            at: moment(row.get(3)?)?,
            request_digest: digest(row, 4)?,
            view_digest: digest(row, 5)?,
        });
    }
    Ok(votes)
}

fn redemption(
    connection: &Connection,
    approval: &str,
) -> Result<Option<RedemptionRow>, StoreError> {
    let sql = "SELECT caller, digest, key, decision_id, at_us FROM redemptions WHERE approval = ?1";
    let read = |row: &Row<'_>| {
        Ok(digest(row, 1).and_then(|digest| {
            Ok(RedemptionRow {
                caller: row.get(0)?,
                digest,
                key: row.get(2)?,
                decision_id: row.get(3)?,
                at: moment(row.get(4)?)?,
            })
        }))
    };
    let mut statement = connection.prepare_cached(sql)?;
    statement
        .query_row([approval], read)
        .optional()?
        .transpose()
}

fn choice(text: &str) -> Result<Choice, StoreError> {
    match text {
        "APPROVE" => Ok(Choice::Approve),
        "DENY" => Ok(Choice::Deny),
        other => Err(StoreError::Corrupt(format!("`{other}` is not a choice"))),
    }
}

fn digest(row: &Row<'_>, index: usize) -> Result<Digest, StoreError> {
    let text: String = row.get(index)?;
    text.parse()
        .map_err(|_| StoreError::Corrupt(format!("`{text}` is not a digest")))
}
