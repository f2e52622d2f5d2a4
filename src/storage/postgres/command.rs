//! The two commands that change approvals, each one transaction: look up under locks, plan, write.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use crate::approval::flood::{Facts, FloodLimits};
use crate::approval::{Approval, Opening};
use crate::storage::approval_rows::{
    DENIALS_LOOKED_AT, denied_after, micros, moment, opened_after, plan_event, plan_opening,
};
use crate::usecase::approval_store::{Applied, ApplyCommand, CommandKey, OpenCommand, Opened};
use crate::usecase::control_log::RecordEncoder;

use super::error::Failure;
use super::keep::{keep, prepare};
use super::read::{FIND, approval};
use super::session::{Work, Written};
use super::values::{count, text};

/// The first number of the locks of requesters, so that they meet no lock of anybody else's.
const REQUESTERS: i32 = 0x6373_7271;

/// Held until the transaction ends: two openings by one requester come one after the other, or each would miss the other in its count.
const LOCK_REQUESTER: &str = "SELECT pg_advisory_xact_lock($1, hashtext($2))";

const FIND_LOCKED: &str = "SELECT id, version, asked::text, asked_digest, course::text FROM approvals WHERE id = $1 FOR UPDATE";

const OPEN_REQUEST: &str =
    "SELECT id, version, asked::text, asked_digest, course::text FROM approvals
    WHERE caller = $1 AND digest = $2 AND status IN ('PENDING', 'APPROVED') FOR UPDATE";

const DENIED: &str = "SELECT id, version, asked::text, asked_digest, course::text FROM approvals
    WHERE caller = $1 AND digest = $2 AND status IN ('DENIED', 'REVOKED') AND closed_us > $3 ORDER BY closed_us DESC LIMIT $4";

const KEPT: &str =
    "SELECT payload, approval FROM commands WHERE caller = $1 AND method = $2 AND key = $3";

const PENDING: &str = "SELECT count(*) FROM (
        SELECT FROM approvals WHERE hashtextextended(requester, 0) = hashtextextended($1, 0) AND requester = $1
            AND status = 'PENDING' AND deadline_us > $2 LIMIT $3
    ) AS waiting";

const OPENED: &str = "SELECT opened_us FROM approvals
    WHERE hashtextextended(requester, 0) = hashtextextended($1, 0) AND requester = $1 AND opened_us > $2
    ORDER BY opened_us LIMIT $3";

/// Opens an approval.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) command: OpenCommand,
    pub(super) now: Timestamp,
    pub(super) encoder: Arc<dyn RecordEncoder>,
}

/// Lets an event happen.
#[derive(Debug)]
pub(super) struct Apply {
    pub(super) command: ApplyCommand,
    pub(super) now: Timestamp,
    pub(super) encoder: Arc<dyn RecordEncoder>,
}

/// What is known of a command's key.
enum Kept {
    Nothing,
    /// The same wish was fulfilled: the approval as it is now.
    Fulfilled(Box<Approval>),
    /// Another wish was.
    OtherWish,
}

impl Work for Open {
    type Answer = Opened;

    fn is_repeatable(&self) -> bool {
        self.command.key.is_some()
    }

    async fn attempt(&self, transaction: &Transaction<'_>) -> Result<Written<Opened>, Failure> {
        let OpenCommand {
            opening,
            key,
            limits,
        } = &self.command;
        let requester = opening.asked.request.principal.to_string();
        prepare(transaction, &[KEPT, PENDING, OPENED, OPEN_REQUEST, DENIED]).await?;
        let statement = transaction.prepare_cached(LOCK_REQUESTER).await?;
        transaction
            .query(&statement, &[&REQUESTERS, &requester])
            .await?;
        match kept(transaction, key.as_ref()).await? {
            Kept::Nothing => {}
            Kept::Fulfilled(approval) => return Ok(unchanged(Opened::Repeated(approval))),
            Kept::OtherWish => return Ok(unchanged(Opened::KeyReused)),
        }
        let facts = facts(transaction, opening, limits, self.now).await?;
        let plan = plan_opening(opening.clone(), limits, facts, self.now, &*self.encoder);
        keep(transaction, plan, key.as_ref(), micros(self.now)).await
    }
}

impl Work for Apply {
    type Answer = Applied;

    fn is_repeatable(&self) -> bool {
        self.command.key.is_some()
    }

    async fn attempt(&self, transaction: &Transaction<'_>) -> Result<Written<Applied>, Failure> {
        let ApplyCommand {
            id,
            event,
            version,
            key,
        } = &self.command;
        prepare(transaction, &[KEPT]).await?;
        // The lock comes first: a key that was kept by whoever held it is seen only by a later statement.
        let found = find(transaction, FIND_LOCKED, &text(id.as_str())).await?;
        match kept(transaction, key.as_ref()).await? {
            Kept::Nothing => {}
            Kept::Fulfilled(approval) => return Ok(unchanged(Applied::Repeated(approval))),
            Kept::OtherWish => return Ok(unchanged(Applied::KeyReused)),
        }
        let Some(approval) = found else {
            return Ok(unchanged(Applied::Unknown));
        };
        let plan = plan_event(approval, event, *version, self.now, &*self.encoder);
        keep(transaction, plan, key.as_ref(), micros(self.now)).await
    }
}

fn unchanged<A>(answer: A) -> Written<A> {
    Written {
        answer,
        changed: Vec::new(),
    }
}

async fn find(
    transaction: &Transaction<'_>,
    sql: &str,
    id: &str,
) -> Result<Option<Approval>, Failure> {
    let statement = transaction.prepare_cached(sql).await?;
    let row = transaction.query_opt(&statement, &[&id]).await?;
    row.as_ref().map(approval).transpose()
}

async fn kept(transaction: &Transaction<'_>, key: Option<&CommandKey>) -> Result<Kept, Failure> {
    let Some(key) = key else {
        return Ok(Kept::Nothing);
    };
    let statement = transaction.prepare_cached(KEPT).await?;
    let row = transaction
        .query_opt(
            &statement,
            &[&text(&key.caller), &key.method, &key.key.as_bytes()],
        )
        .await?;
    let Some(row) = row else {
        return Ok(Kept::Nothing);
    };
    let payload: &[u8] = row.try_get(0)?;
    if payload != key.payload.as_bytes() {
        return Ok(Kept::OtherWish);
    }
    let id: &str = row.try_get(1)?;
    match find(transaction, FIND, id).await? {
        Some(approval) => Ok(Kept::Fulfilled(Box::new(approval))),
        None => Err(Failure::corrupt(format!(
            "a command names the approval `{id}`, which is not there"
        ))),
    }
}

/// What is stored of the same request and the same requester. The request's open approval is locked.
async fn facts(
    transaction: &Transaction<'_>,
    opening: &Opening,
    limits: &FloodLimits,
    now: Timestamp,
) -> Result<Facts, Failure> {
    let requester = opening.asked.request.principal.to_string();
    let caller = text(&opening.asked.request.caller);
    let digest = opening.asked.digest.as_bytes().as_slice();
    let statement = transaction.prepare_cached(OPEN_REQUEST).await?;
    let open = transaction
        .query_opt(&statement, &[&caller, &digest])
        .await?;
    let statement = transaction.prepare_cached(DENIED).await?;
    let denied = transaction
        .query(
            &statement,
            &[
                &caller,
                &digest,
                &micros(denied_after(limits, now)),
                &i64::try_from(DENIALS_LOOKED_AT).unwrap_or(i64::MAX),
            ],
        )
        .await?;
    let statement = transaction.prepare_cached(PENDING).await?;
    let most = i64::from(limits.pending_per_requester);
    let pending = transaction
        .query_one(&statement, &[&requester, &micros(now), &most])
        .await?;
    let statement = transaction.prepare_cached(OPENED).await?;
    let most = i64::from(limits.opened_per_minute);
    let opened = transaction
        .query(&statement, &[&requester, &micros(opened_after(now)), &most])
        .await?;
    let opened_at = |row: &tokio_postgres::Row| Ok::<_, Failure>(moment(row.try_get(0)?)?);
    Ok(Facts {
        open: open.as_ref().map(approval).transpose()?,
        denied: denied.iter().map(approval).collect::<Result<_, _>>()?,
        pending: count::<i64, _>(&pending, 0)?,
        opened: opened.iter().map(opened_at).collect::<Result<_, _>>()?,
    })
}
