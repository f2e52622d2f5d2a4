//! Looking things up, on a connection that only reads.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::approval::{ApprovalId, Status};
use crate::usecase::approval_store::{
    ApprovalFilter, ApprovalPage, DeliveryState, ListCursor, StoreError, StoredRecord,
};

use super::outbox::delivery_row;
use super::rows::{APPROVAL, approval_id, approvals, number};
use crate::storage::approval_rows::{cursor_behind, micros, rows_at_once, stored_as};
use crate::storage::approval_texts::record_of;

/// Conditions that all must hold, with their values.
#[derive(Default)]
struct Conditions {
    all: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    /// Keeps `value` and answers how SQL names it.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn sql(&self) -> String {
        if self.all.is_empty() {
            "TRUE".to_owned()
        } else {
            self.all.join(" AND ")
        }
    }
}

/// A part of the list, latest first.
pub(super) fn list(
    connection: &Connection,
    filter: &ApprovalFilter,
    after: Option<&ListCursor>,
    limit: u32,
    now: Timestamp,
) -> Result<ApprovalPage, StoreError> {
    let limit = rows_at_once(limit);
    let mut conditions = Conditions::default();
    add_filter(&mut conditions, filter, now);
    if let Some(after) = after {
        let opened = conditions.value(after.opened_us);
        let id = conditions.value(after.id.as_str().to_owned());
        conditions
            .all
            .push(format!("(opened_us, id) < ({opened}, {id})"));
    }
    let sql = format!(
        "SELECT {APPROVAL} FROM approvals WHERE {} ORDER BY opened_us DESC, id DESC LIMIT {}",
        conditions.sql(),
        // One more than is shown says whether there is more.
        limit.saturating_add(1),
    );
    let mut found = approvals(connection, &sql, params_from_iter(conditions.values))?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > limit;
    found.truncate(limit);
    Ok(ApprovalPage {
        next: found.last().filter(|_| has_more).map(cursor_behind),
        approvals: found,
    })
}

fn add_filter(conditions: &mut Conditions, filter: &ApprovalFilter, now: Timestamp) {
    if !filter.statuses.is_empty() {
        let any: Vec<String> = filter
            .statuses
            .iter()
            .map(|status| stands(*status, conditions, now))
            .collect();
        conditions.all.push(format!("({})", any.join(" OR ")));
    }
    if !filter.rules.is_empty() {
        let rules: Vec<String> = filter
            .rules
            .iter()
            .map(|rule| conditions.value(rule.clone()))
            .collect();
        conditions.all.push(format!(
            "id IN (SELECT approval FROM approval_rules WHERE rule IN ({}))",
            rules.join(", ")
        ));
    }
    if let Some(requester) = &filter.requester {
        let requester = conditions.value(requester.clone());
        conditions.all.push(format!("requester = {requester}"));
    }
}

/// The condition that an approval stands so at `now`. The names of statuses need no quoting.
fn stands(status: Status, conditions: &mut Conditions, now: Timestamp) -> String {
    if let Some(before) = stored_as(status) {
        let now = conditions.value(micros(now));
        return format!("status = '{status}' OR (status = '{before}' AND deadline_us <= {now})");
    }
    if status.is_terminal() {
        return format!("status = '{status}'");
    }
    let now = conditions.value(micros(now));
    format!("(status = '{status}' AND deadline_us > {now})")
}

/// What time should change, longest overdue first.
pub(super) fn due(
    connection: &Connection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<ApprovalId>, StoreError> {
    let sql =
        "SELECT id FROM approvals WHERE next_timer_us <= ?1 ORDER BY next_timer_us, id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((micros(now), rows_at_once(limit)), |row| {
        approval_id(row, 0)
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The versions of those of `ids` that exist.
pub(super) fn versions(
    connection: &Connection,
    ids: Vec<ApprovalId>,
) -> Result<Vec<(ApprovalId, u64)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT version FROM approvals WHERE id = ?1")?;
    let mut versions = Vec::with_capacity(ids.len());
    for id in ids {
        let mut rows = statement.query([id.as_str()])?;
        if let Some(row) = rows.next()? {
            let version = number(row, 0)?;
            versions.push((id, version));
        }
    }
    Ok(versions)
}

/// What was recorded of an approval.
pub(super) fn records(
    connection: &Connection,
    id: &ApprovalId,
) -> Result<Vec<StoredRecord>, StoreError> {
    let sql = "SELECT sequence, body FROM records WHERE approval = ?1 ORDER BY sequence";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id.as_str()], |row| {
        Ok((number(row, 0)?, row.get::<_, String>(1)?))
    })?;
    rows.map(|row| {
        let (sequence, body) = row?;
        let record = record_of(&body)?;
        Ok(StoredRecord { sequence, record })
    })
    .collect()
}

/// How telling stands: of one approval, or of what was given up.
pub(super) fn deliveries(
    connection: &Connection,
    id: Option<&ApprovalId>,
) -> Result<Vec<DeliveryState>, StoreError> {
    let (condition, values) = match id {
        Some(id) => ("approval = ?1", vec![id.as_str()]),
        None => ("is_dead = 1", Vec::new()),
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT approval, destination, desired_version, posted_version, attempts, due_us,
             leased_until_us, is_dead, error, reference
         FROM outbox WHERE {condition} ORDER BY approval, destination"
    ))?;
    let rows = statement.query_map(params_from_iter(values), delivery_row)?;
    rows.map(|row| {
        let ((approval, destination), delivery) = row?;
        Ok(delivery.state(approval, destination))
    })
    .collect()
}
