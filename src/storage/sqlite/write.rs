//! Opening and changing approvals, inside the writer's transaction.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::approval::flood::{Facts, FloodLimits};
use crate::approval::{Approval, ApprovalId, Asked, Choice, ControlRecord, Redemption, Vote};
use crate::usecase::approval_store::{
    Applied, ApplyCommand, CommandKey, OpenCommand, Opened, StoreError,
};
use crate::usecase::control_log::RecordEncoder;

use super::control::insert_entry;
use super::outbox::desire;
use super::rows::{APPROVAL, approval, approval_id, approvals, column};
use crate::storage::approval_rows::{
    Columns, DENIALS_LOOKED_AT, Plan, Step, denied_after, is_same_payload, micros, moment,
    opened_after, plan_event, plan_opening, requester_of,
};
use crate::storage::approval_texts::{asked_text, course_text, record_text};

/// What a key that comes again means.
enum Seen {
    /// The same command.
    Repeated(Box<Approval>),
    /// Another one.
    Reused,
}

/// Opens an approval.
pub(super) fn open(
    connection: &Connection,
    command: OpenCommand,
    now: Timestamp,
    changed: &mut Vec<ApprovalId>,
    encoder: &dyn RecordEncoder,
) -> Result<Opened, StoreError> {
    let OpenCommand {
        opening,
        key,
        limits,
    } = command;
    match seen(connection, key.as_ref())? {
        Some(Seen::Repeated(approval)) => return Ok(Opened::Repeated(approval)),
        Some(Seen::Reused) => return Ok(Opened::KeyReused),
        None => {}
    }
    let facts = facts(connection, &opening.asked, &limits, now)?;
    let plan = plan_opening(opening, &limits, facts, now, encoder);
    write(connection, &plan, key.as_ref(), now, changed)?;
    Ok(plan.answer)
}

/// Lets an event happen.
pub(super) fn apply(
    connection: &Connection,
    command: &ApplyCommand,
    now: Timestamp,
    changed: &mut Vec<ApprovalId>,
    encoder: &dyn RecordEncoder,
) -> Result<Applied, StoreError> {
    match seen(connection, command.key.as_ref())? {
        Some(Seen::Repeated(approval)) => return Ok(Applied::Repeated(approval)),
        Some(Seen::Reused) => return Ok(Applied::KeyReused),
        None => {}
    }
    let Some(approval) = approval(connection, &command.id)? else {
        return Ok(Applied::Unknown);
    };
    let plan = plan_event(approval, &command.event, command.version, now, encoder);
    write(connection, &plan, command.key.as_ref(), now, changed)?;
    Ok(plan.answer)
}

fn seen(connection: &Connection, key: Option<&CommandKey>) -> Result<Option<Seen>, StoreError> {
    let Some(key) = key else {
        return Ok(None);
    };
    let sql =
        "SELECT payload, approval FROM commands WHERE caller = ?1 AND method = ?2 AND key = ?3";
    let kept: Option<(String, ApprovalId)> = connection
        .prepare_cached(sql)?
        .query_row((&key.caller, key.method, &key.key), |row| {
            Ok((row.get(0)?, approval_id(row, 1)?))
        })
        .optional()?;
    let Some((payload, id)) = kept else {
        return Ok(None);
    };
    if !is_same_payload(&payload, &key.payload) {
        return Ok(Some(Seen::Reused));
    }
    let approval = approval(connection, &id)?;
    Ok(approval.map(|approval| Seen::Repeated(Box::new(approval))))
}

fn facts(
    connection: &Connection,
    asked: &Asked,
    limits: &FloodLimits,
    now: Timestamp,
) -> Result<Facts, StoreError> {
    let caller = &asked.request.caller;
    let digest = asked.digest.to_string();
    let requester = asked.request.principal.to_string();
    let open = approvals(
        connection,
        &format!(
            "SELECT {APPROVAL} FROM approvals
             WHERE caller = ?1 AND digest = ?2 AND status IN ('PENDING', 'APPROVED')"
        ),
        (caller, &digest),
    )?;
    let denied = approvals(
        connection,
        &format!(
            "SELECT {APPROVAL} FROM approvals
             WHERE caller = ?1 AND digest = ?2 AND status IN ('DENIED', 'REVOKED') AND closed_us > ?3
             ORDER BY closed_us DESC LIMIT {DENIALS_LOOKED_AT}"
        ),
        (caller, &digest, micros(denied_after(limits, now))),
    )?;
    let pending = connection
        .prepare_cached(
            "SELECT count(*) FROM approvals
             WHERE requester = ?1 AND status = 'PENDING' AND deadline_us > ?2",
        )?
        .query_row((&requester, micros(now)), |row| row.get(0))?;
    Ok(Facts {
        open: open.into_iter().next(),
        denied,
        pending,
        opened: opened(connection, &requester, limits, now)?,
    })
}

fn opened(
    connection: &Connection,
    requester: &str,
    limits: &FloodLimits,
    now: Timestamp,
) -> Result<Vec<Timestamp>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT opened_us FROM approvals WHERE requester = ?1 AND opened_us > ?2
         ORDER BY opened_us LIMIT ?3",
    )?;
    let since = micros(opened_after(now));
    let rows = statement.query_map((requester, since, limits.opened_per_minute), |row| {
        row.get(0)
    })?;
    rows.map(|micros| moment(micros?)).collect()
}

/// Writes a plan, and remembers its key if it was accepted.
fn write<A>(
    connection: &Connection,
    plan: &Plan<A>,
    key: Option<&CommandKey>,
    now: Timestamp,
    changed: &mut Vec<ApprovalId>,
) -> Result<(), StoreError> {
    for step in &plan.steps {
        write_step(connection, step, now)?;
        if step.is_change() {
            changed.push(step.approval().id.clone());
        }
    }
    if let (Some(key), Some(last), true) = (key, plan.steps.last(), plan.is_accepted) {
        let sql = "INSERT INTO commands (caller, method, key, payload, approval, at_us)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        connection.prepare_cached(sql)?.execute(params![
            key.caller,
            key.method,
            key.key,
            key.payload.to_string(),
            last.approval().id.as_str(),
            micros(now),
        ])?;
    }
    Ok(())
}

/// Writes one step: the records first, since no state stands without them, and the new state after what it rests on.
fn write_step(connection: &Connection, step: &Step, now: Timestamp) -> Result<(), StoreError> {
    let approval = step.approval();
    let mut last_record = None;
    for (record, body) in step.records() {
        last_record = Some(insert_record(connection, record, body)?);
    }
    for vote in step.new_votes() {
        insert_vote(connection, approval, vote)?;
    }
    if let Some(redemption) = step.new_redemption() {
        insert_redemption(connection, approval, redemption)?;
    }
    match step.replaces() {
        None => insert_approval(connection, approval, last_record)?,
        Some((version, _)) if step.is_change() => {
            update_approval(connection, approval, version, last_record)?;
        }
        Some(_) => {}
    }
    for destination in &step.transition.tell {
        desire(connection, approval, destination, now)?;
    }
    Ok(())
}

/// Writes a record with its entry in the control log.
fn insert_record(
    connection: &Connection,
    record: &ControlRecord,
    body: &[u8],
) -> Result<i64, StoreError> {
    let entry = insert_entry(connection, body)?;
    let sql =
        "INSERT INTO records (approval, version, at_us, body, entry) VALUES (?1, ?2, ?3, ?4, ?5)";
    Ok(connection.prepare_cached(sql)?.insert(params![
        record.approval.as_str(),
        column(record.version)?,
        micros(record.at),
        record_text(record)?,
        entry,
    ])?)
}

fn insert_approval(
    connection: &Connection,
    approval: &Approval,
    last_record: Option<i64>,
) -> Result<(), StoreError> {
    let columns = Columns::of(approval);
    let asked = &approval.asked;
    let id = approval.id.as_str();
    let (text, text_digest) = asked_text(approval)?;
    let sql = "INSERT INTO approvals (id, version, previous_status, status, caller, requester, digest, view_digest,
                   asked, asked_digest, opened_us, deadline_us, next_timer_us, closed_us, course, last_record)
               VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    connection.prepare_cached(sql)?.execute(params![
        id,
        column(approval.version)?,
        columns.status.as_str(),
        asked.request.caller,
        requester_of(approval),
        asked.digest.to_string(),
        asked.view_digest.to_string(),
        text,
        text_digest,
        micros(approval.opened),
        columns.deadline_us,
        columns.next_timer_us,
        columns.closed_us,
        course_text(approval)?,
        last_record,
    ])?;
    // One rule may be named twice, and rows are sets.
    let sql = "INSERT INTO approval_rules (rule, approval) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    let mut rule = connection.prepare_cached(sql)?;
    for requirement in &approval.requirements {
        rule.execute((&requirement.rule, id))?;
    }
    let sql = "INSERT INTO barred (approval, person) VALUES (?1, ?2)";
    let mut barred = connection.prepare_cached(sql)?;
    for person in asked.barred.keys() {
        barred.execute((id, person.to_string()))?;
    }
    Ok(())
}

fn update_approval(
    connection: &Connection,
    approval: &Approval,
    replaced_version: u64,
    last_record: Option<i64>,
) -> Result<(), StoreError> {
    let columns = Columns::of(approval);
    let sql = "UPDATE approvals SET version = ?3, previous_status = status, status = ?4, deadline_us = ?5,
                   next_timer_us = ?6, closed_us = ?7, course = ?8, last_record = ?9
               WHERE id = ?1 AND version = ?2";
    let updated = connection.prepare_cached(sql)?.execute(params![
        approval.id.as_str(),
        column(replaced_version)?,
        column(approval.version)?,
        columns.status.as_str(),
        columns.deadline_us,
        columns.next_timer_us,
        columns.closed_us,
        course_text(approval)?,
        last_record,
    ])?;
    if updated == 1 {
        return Ok(());
    }
    let id = &approval.id;
    Err(StoreError::RuleBroken(format!(
        "the approval `{id}` is not at version {replaced_version} any more"
    )))
}

fn insert_vote(
    connection: &Connection,
    approval: &Approval,
    vote: &Vote,
) -> Result<(), StoreError> {
    let choice = match vote.choice {
        Choice::Approve => "APPROVE",
        Choice::Deny => "DENY",
    };
    // The old vote goes to `vote_changes`; which changes are allowed is a rule of the table.
    let sql = "INSERT INTO votes (approval, person, account, issuer, subject, choice, at_us, request_digest, view_digest)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
               ON CONFLICT (approval, person) DO UPDATE SET account = excluded.account, issuer = excluded.issuer,
                   subject = excluded.subject, choice = excluded.choice, at_us = excluded.at_us,
                   request_digest = excluded.request_digest, view_digest = excluded.view_digest";
    connection.prepare_cached(sql)?.execute(params![
        approval.id.as_str(),
        vote.voter.canonical.to_string(),
        vote.voter.account.to_string(),
        vote.voter.person.issuer,
        vote.voter.person.subject,
        choice,
        micros(vote.at),
        vote.request_digest.to_string(),
        vote.view_digest.to_string(),
    ])?;
    Ok(())
}

fn insert_redemption(
    connection: &Connection,
    approval: &Approval,
    redemption: &Redemption,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO redemptions (approval, caller, digest, key, decision_id, at_us)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![
        approval.id.as_str(),
        redemption.caller,
        approval.asked.digest.to_string(),
        redemption.key,
        redemption.decision_id,
        micros(redemption.at),
    ])?;
    Ok(())
}
