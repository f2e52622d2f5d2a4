//! Looks at a database that servers may be using, in one transaction that only reads.

use std::collections::BTreeMap;

use deadpool_postgres::Object;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::approval::{ApprovalId, Choice};
use crate::storage::approval_rows::{moment, rows_at_once};
use crate::usecase::approval_store::StoreError;
use crate::usecase::control_log::{ControlHead, PendingEntry};
use crate::usecase::evidence::{ApprovalEvidence, Evidence, RedemptionRow, VoteRow};

use super::config::PostgresConfig;
use super::control::{HEAD, PENDING, SEQUENCED, bodies, head, pending_entry};
use super::error::{Failure, PostgresOpenError};
use super::migrate::check_present;
use super::read::approval;
use super::values::{count, digest, number, text, whole};
use super::{connect, tls};

/// One moment for everything, however long it takes to look at it.
const BEGIN: &str = "SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = 0; \
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const FIRST_APPROVALS: &str =
    "SELECT id, version, asked::text, asked_digest, course::text FROM approvals
    ORDER BY id LIMIT $1";

const NEXT_APPROVALS: &str =
    "SELECT id, version, asked::text, asked_digest, course::text FROM approvals
    WHERE id > $2 ORDER BY id LIMIT $1";

const VOTES: &str =
    "SELECT approval, person, account, choice, at_us, encode(request_digest, 'hex'), encode(view_digest, 'hex') FROM votes
    WHERE approval = ANY ($1) ORDER BY approval, person COLLATE \"C\"";

const REDEMPTIONS: &str =
    "SELECT approval, caller, encode(digest, 'hex'), key, decision_id, at_us FROM redemptions
    WHERE approval = ANY ($1)";

const SIZE: &str = "SELECT coalesce(max(idx) + 1, 0) FROM control_log";

/// A database that is only looked at: as it was when it was connected to, without keeping servers from their work.
///
/// It has a runtime of its own, so neither it nor its operations may be used, or dropped, where blocking is not allowed.
#[derive(Debug)]
pub struct PostgresEvidence {
    // In this order: the connection is a task of the runtime.
    client: Object,
    runtime: Runtime,
}

impl PostgresEvidence {
    /// Connects to the database of `config` to look at it. Never changes anything. Blocks.
    ///
    /// # Errors
    /// [`PostgresOpenError`]: it cannot be reached, or its schema is not exactly the one this program knows.
    pub fn connect(config: &PostgresConfig) -> Result<Self, PostgresOpenError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| PostgresOpenError::Unusable(error.to_string()))?;
        let client = runtime.block_on(open(config))?;
        Ok(Self { client, runtime })
    }

    fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let reading = async {
            let statement = self.client.prepare_cached(sql).await?;
            self.client.query(&statement, parameters).await
        };
        let read = self.runtime.block_on(reading);
        whole(read.map_err(Failure::from))
    }

    fn page(&self, sql: &str, begin: u64, limit: u32) -> Result<Vec<Row>, StoreError> {
        let limit = i64::from(rows_at_once(limit));
        self.rows(sql, &[&number(begin), &limit])
    }
}

async fn open(config: &PostgresConfig) -> Result<Object, PostgresOpenError> {
    let config = PostgresConfig {
        max_connections: 1,
        ..config.clone()
    };
    let transport = tls::Transport::of(&config.tls)?;
    let pool = connect::pool(&config, config.driver_config()?, &transport)?;
    let client = pool.get().await?;
    client.batch_execute(BEGIN).await?;
    check_present(&client).await?;
    Ok(client)
}

impl Evidence for PostgresEvidence {
    fn approvals(
        &self,
        after: Option<&ApprovalId>,
        limit: u32,
    ) -> Result<Vec<ApprovalEvidence>, StoreError> {
        let limit = i64::from(rows_at_once(limit));
        let approvals = match after {
            None => self.rows(FIRST_APPROVALS, &[&limit])?,
            Some(after) => self.rows(NEXT_APPROVALS, &[&limit, &text(after.as_str())])?,
        };
        let ids: Result<Vec<String>, _> = approvals.iter().map(|row| row.try_get(0)).collect();
        let ids = whole(ids.map_err(Failure::from))?;
        let mut votes: BTreeMap<String, Vec<VoteRow>> = BTreeMap::new();
        for row in &self.rows(VOTES, &[&ids])? {
            let (approval, vote) = whole(vote(row))?;
            votes.entry(approval).or_default().push(vote);
        }
        let redemptions = self.rows(REDEMPTIONS, &[&ids])?;
        let redemptions = redemptions.iter().map(redemption);
        let mut redemptions: BTreeMap<_, _> = whole(redemptions.collect())?;
        let evidence = ids
            .into_iter()
            .zip(&approvals)
            .map(|(id, row)| ApprovalEvidence {
                approval: whole(approval(row)),
                votes: votes.remove(&id).unwrap_or_default(),
                redemption: redemptions.remove(&id),
                id: ApprovalId::new(id),
            });
        Ok(evidence.collect())
    }

    fn control_head(&self) -> Result<ControlHead, StoreError> {
        head(&self.rows(HEAD, &[])?)
    }

    fn control_size(&self) -> Result<u64, StoreError> {
        let rows = self.rows(SIZE, &[])?;
        whole(rows.first().map_or(Ok(0), |row| count::<i64, u64>(row, 0)))
    }

    fn control_bodies(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        bodies(from, &self.page(SEQUENCED, from, limit)?)
    }

    fn pending_bodies(&self, after: u64, limit: u32) -> Result<Vec<PendingEntry>, StoreError> {
        let rows = self.page(PENDING, after, limit)?;
        whole(rows.iter().map(pending_entry).collect())
    }
}

/// A vote with the name of its approval.
fn vote(row: &Row) -> Result<(String, VoteRow), Failure> {
    let vote = VoteRow {
        person: row.try_get(1)?,
        account: row.try_get(2)?,
        choice: choice(row.try_get(3)?)?,
        at: moment(row.try_get(4)?)?,
        request_digest: digest(row, 5)?,
        view_digest: digest(row, 6)?,
    };
    Ok((row.try_get(0)?, vote))
}

/// A redemption with the name of its approval.
fn redemption(row: &Row) -> Result<(String, RedemptionRow), Failure> {
    let key: Option<Vec<u8>> = row.try_get(3)?;
    let key = key.map(String::from_utf8).transpose();
    let redemption = RedemptionRow {
        caller: row.try_get(1)?,
        digest: digest(row, 2)?,
        key: key.map_err(|error| Failure::corrupt(error.to_string()))?,
        decision_id: row.try_get(4)?,
        at: moment(row.try_get(5)?)?,
    };
    Ok((row.try_get(0)?, redemption))
}

fn choice(text: &str) -> Result<Choice, Failure> {
    match text {
        "APPROVE" => Ok(Choice::Approve),
        "DENY" => Ok(Choice::Deny),
        other => Err(Failure::corrupt(format!("`{other}` is not a choice"))),
    }
}
