//! Writes what a plan says, in the transaction that made it.

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use crate::approval::{Approval, ApprovalId, Choice, Redemption, Status, Vote};
use crate::storage::approval_rows::{Columns, Plan, Step, micros, requester_of};
use crate::storage::approval_texts::{asked_text, course_text, record_text};
use crate::usecase::approval_store::{CommandKey, StoreError};

use super::error::Failure;
use super::session::Written;
use super::values::{number, text};

/// Writes records with their entries in the control log. Answers the sequence of the last one of the approval's present version.
const RECORD: &str = "WITH new AS MATERIALIZED (
        SELECT nextval('control_entries_entry_seq') AS entry, version, at_us, body, leaf FROM (
            SELECT version, at_us, body, leaf
            FROM unnest($2::bigint[], $3::bigint[], $4::text[], $6::bytea[])
                WITH ORDINALITY AS given (version, at_us, body, leaf, place)
            ORDER BY place
        ) AS ordered
    ), entries AS (
        INSERT INTO control_entries (entry, body) SELECT entry, leaf FROM new
    ), kept AS (
        INSERT INTO control_records (approval, version, at_us, body, entry)
        SELECT $1, version, at_us, body::json, entry FROM new ORDER BY entry
        RETURNING version, sequence
    )
    SELECT max(sequence) FROM kept WHERE version = $5";

const OPEN: &str = "INSERT INTO approvals (id, version, status, caller, requester, digest, rules, opened_us, asked, asked_digest,
        deadline_us, next_timer_us, closed_us, course, last_record, view_digest)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::json, $10, $11, $12, $13, $14::text::json, $15, $16)";

const BAR: &str = "INSERT INTO barred (approval, person, why)
    SELECT $1, person, why FROM unnest($2::text[], $3::text[]) AS new (person, why)";

const CHANGE: &str = "UPDATE approvals SET version = $2, status = $3, previous_status = $4, deadline_us = $5, next_timer_us = $6,
        closed_us = $7, course = $8::text::json, last_record = $9
    WHERE id = $1 AND version = $10 AND status = $4";

const VOTE: &str = "INSERT INTO votes (approval, person, account, issuer, subject, choice, at_us, request_digest, view_digest)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (approval, person) DO UPDATE
    SET account = excluded.account, issuer = excluded.issuer, subject = excluded.subject, choice = excluded.choice,
        at_us = excluded.at_us";

const REDEEM: &str = "INSERT INTO redemptions (approval, at_us, caller, digest, key, decision_id)
    VALUES ($1, $2, $3, $4, $5, $6)";

/// Time that a place was given to recover is left to it.
const TELL: &str = "INSERT INTO outbox AS told (approval, destination, desired_version, due_us)
    SELECT $1, destination, $2, $4 FROM unnest($3::text[]) AS destination
    ON CONFLICT (approval, destination) DO UPDATE
    SET desired_version = greatest(told.desired_version, excluded.desired_version), attempts = 0, is_dead = false,
        due_us = CASE WHEN told.posted_version < told.desired_version AND NOT told.is_dead THEN told.due_us ELSE $4 END,
        error = CASE WHEN told.posted_version < told.desired_version AND NOT told.is_dead THEN told.error END";

const REMEMBER: &str = "INSERT INTO commands (caller, method, key, payload, approval, at_us) VALUES ($1, $2, $3, $4, $5, $6)";

/// Everything that is run here.
const STATEMENTS: [&str; 8] = [RECORD, OPEN, BAR, CHANGE, VOTE, REDEEM, TELL, REMEMBER];

/// Readies a new connection, so that it does not do so while it holds a lock. Later it costs nothing.
pub(super) async fn prepare(transaction: &Transaction<'_>, others: &[&str]) -> Result<(), Failure> {
    for sql in STATEMENTS.iter().chain(others) {
        transaction.prepare_cached(sql).await?;
    }
    Ok(())
}

/// What a statement did.
async fn run(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<u64, Failure> {
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.execute(&statement, parameters).await?)
}

/// Writes the steps of `plan`, and remembers `key` if it was accepted.
pub(super) async fn keep<A>(
    transaction: &Transaction<'_>,
    plan: Plan<A>,
    key: Option<&CommandKey>,
    now_us: i64,
) -> Result<Written<A>, Failure> {
    for step in &plan.steps {
        keep_step(transaction, step, now_us).await?;
    }
    let last = plan.steps.last();
    if let (Some(key), Some(step), true) = (key, last, plan.is_accepted) {
        remember(transaction, key, &step.approval().id, now_us).await?;
    }
    let changed = plan.steps.iter().rev().filter(|step| step.is_change());
    Ok(Written {
        changed: changed.map(|step| step.approval().id.clone()).collect(),
        answer: plan.answer,
    })
}

/// Writes one step. Its record comes first, because each version names its record, and votes and a redemption
/// before the change they make: the schema checks them against what they are cast on or spend.
async fn keep_step(transaction: &Transaction<'_>, step: &Step, now_us: i64) -> Result<(), Failure> {
    let approval = step.approval();
    let id = approval.id.as_str();
    let last_record = record(transaction, step).await?;
    if !step.is_change() {
        return Ok(());
    }
    let Some(last_record) = last_record else {
        let what = format!(
            "version {} of the approval `{id}` has no record",
            approval.version
        );
        return Err(Failure::Final(StoreError::RuleBroken(what)));
    };
    if let Some(redemption) = step.new_redemption() {
        redeem(transaction, approval, redemption).await?;
    }
    for vote in step.new_votes() {
        cast(transaction, id, vote).await?;
    }
    match step.replaces() {
        None => open(transaction, approval, last_record).await?,
        Some(before) => change(transaction, approval, before, last_record).await?,
    }
    tell(transaction, step, now_us).await
}

/// Writes the records of a step. Answers the sequence of the one that its last version is known by.
async fn record(transaction: &Transaction<'_>, step: &Step) -> Result<Option<i64>, Failure> {
    if step.records().len() == 0 {
        return Ok(None);
    }
    let approval = step.approval();
    let (mut versions, mut times) = (Vec::new(), Vec::new());
    let (mut texts, mut bodies) = (Vec::new(), Vec::new());
    for (record, body) in step.records() {
        versions.push(number(record.version));
        times.push(micros(record.at));
        texts.push(record_text(record)?);
        bodies.push(body);
    }
    let statement = transaction.prepare_cached(RECORD).await?;
    let row = transaction
        .query_one(
            &statement,
            &[
                &approval.id.as_str(),
                &versions,
                &times,
                &texts,
                &number(approval.version),
                &bodies,
            ],
        )
        .await?;
    Ok(row.try_get(0)?)
}

async fn open(
    transaction: &Transaction<'_>,
    approval: &Approval,
    last_record: i64,
) -> Result<(), Failure> {
    let id = approval.id.as_str();
    let columns = Columns::of(approval);
    let (asked, asked_digest) = asked_text(approval)?;
    let rules = approval.requirements.iter();
    let rules: Vec<String> = rules.map(|each| text(&each.rule)).collect();
    let parameters: [&(dyn ToSql + Sync); 16] = [
        &id,
        &number(approval.version),
        &columns.status.as_str(),
        &text(&approval.asked.request.caller),
        &requester_of(approval),
        &approval.asked.digest.as_bytes().as_slice(),
        &rules,
        &micros(approval.opened),
        &asked,
        &asked_digest,
        &columns.deadline_us,
        &columns.next_timer_us,
        &columns.closed_us,
        &course_text(approval)?,
        &last_record,
        &approval.asked.view_digest.as_bytes().as_slice(),
    ];
    run(transaction, OPEN, &parameters).await?;
    let barred = approval.asked.barred.iter();
    let (persons, reasons): (Vec<String>, Vec<String>) = barred
        .map(|(person, why)| (person.to_string(), text(why)))
        .unzip();
    run(transaction, BAR, &[&id, &persons, &reasons]).await?;
    Ok(())
}

/// Replaces what is stored, if it is what the plan was made for.
async fn change(
    transaction: &Transaction<'_>,
    approval: &Approval,
    (version, status): (u64, Status),
    last_record: i64,
) -> Result<(), Failure> {
    let id = approval.id.as_str();
    let columns = Columns::of(approval);
    let parameters: [&(dyn ToSql + Sync); 10] = [
        &id,
        &number(approval.version),
        &columns.status.as_str(),
        &status.as_str(),
        &columns.deadline_us,
        &columns.next_timer_us,
        &columns.closed_us,
        &course_text(approval)?,
        &last_record,
        &number(version),
    ];
    if run(transaction, CHANGE, &parameters).await? == 1 {
        return Ok(());
    }
    let what = format!("the approval `{id}` was changed without its lock");
    Err(Failure::Final(StoreError::RuleBroken(what)))
}

async fn cast(transaction: &Transaction<'_>, id: &str, vote: &Vote) -> Result<(), Failure> {
    let choice = match vote.choice {
        Choice::Approve => "APPROVE",
        Choice::Deny => "DENY",
    };
    let parameters: [&(dyn ToSql + Sync); 9] = [
        &id,
        &vote.voter.canonical.to_string(),
        &vote.voter.account.to_string(),
        &text(&vote.voter.person.issuer),
        &text(&vote.voter.person.subject),
        &choice,
        &micros(vote.at),
        &vote.request_digest.as_bytes().as_slice(),
        &vote.view_digest.as_bytes().as_slice(),
    ];
    run(transaction, VOTE, &parameters).await.map(drop)
}

async fn redeem(
    transaction: &Transaction<'_>,
    approval: &Approval,
    redemption: &Redemption,
) -> Result<(), Failure> {
    let parameters: [&(dyn ToSql + Sync); 6] = [
        &approval.id.as_str(),
        &micros(redemption.at),
        &text(&redemption.caller),
        &approval.asked.digest.as_bytes().as_slice(),
        &redemption.key.as_deref().map(str::as_bytes),
        &text(&redemption.decision_id),
    ];
    run(transaction, REDEEM, &parameters).await.map(drop)
}

async fn tell(transaction: &Transaction<'_>, step: &Step, now_us: i64) -> Result<(), Failure> {
    let tell: Vec<String> = step
        .transition
        .tell
        .iter()
        .map(|place| text(place))
        .collect();
    if tell.is_empty() {
        return Ok(());
    }
    let approval = step.approval();
    let version = number(approval.version);
    let parameters: [&(dyn ToSql + Sync); 4] = [&approval.id.as_str(), &version, &tell, &now_us];
    run(transaction, TELL, &parameters).await.map(drop)
}

async fn remember(
    transaction: &Transaction<'_>,
    key: &CommandKey,
    id: &ApprovalId,
    now_us: i64,
) -> Result<(), Failure> {
    let parameters: [&(dyn ToSql + Sync); 6] = [
        &text(&key.caller),
        &key.method,
        &key.key.as_bytes(),
        &key.payload.as_bytes().as_slice(),
        &id.as_str(),
        &now_us,
    ];
    run(transaction, REMEMBER, &parameters).await.map(drop)
}
