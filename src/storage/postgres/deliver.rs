//! The outbox: which places must still be told, and how telling went.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::approval::ApprovalId;
use crate::storage::approval_rows::{later, micros, moment};
use crate::usecase::approval_store::{Delivery, DeliveryOutcome, DeliveryState, StoreError};

use super::error::Failure;
use super::session::{Parameters, Session};
use super::values::{count, number, text, whole};

/// Takes what is due. A row that another worker is taking at this moment is passed over.
const CLAIM: &str = "WITH due AS (
        SELECT approval, destination FROM outbox
        WHERE posted_version < desired_version AND NOT is_dead AND due_us <= $1
            AND (leased_until_us IS NULL OR leased_until_us <= $1)
        ORDER BY due_us, approval, destination LIMIT $3 FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE outbox SET leased_until_us = $2, attempts = attempts + 1
        FROM due WHERE outbox.approval = due.approval AND outbox.destination = due.destination
        RETURNING outbox.*
    )
    SELECT approval, destination, desired_version, posted_version, attempts, reference, leased_until_us
    FROM claimed ORDER BY due_us, approval, destination";

/// The end of the lease says whose it is: a later lease ends later. What the place must hear may have grown meanwhile; then it is
/// due at once.
const POSTED: &str =
    "UPDATE outbox SET leased_until_us = NULL, posted_version = greatest(posted_version, $4),
        reference = coalesce($5, reference), error = NULL, due_us = $6
    WHERE approval = $1 AND destination = $2 AND leased_until_us = $3";

const RETRY: &str = "UPDATE outbox SET leased_until_us = NULL, due_us = $4, error = $5
    WHERE approval = $1 AND destination = $2 AND leased_until_us = $3";

const DEAD: &str = "UPDATE outbox SET leased_until_us = NULL, error = $4, is_dead = (desired_version <= $5), due_us = $6
    WHERE approval = $1 AND destination = $2 AND leased_until_us = $3";

const STATES: &str =
    "SELECT approval, destination, desired_version, posted_version, attempts, is_dead, error
    FROM outbox WHERE approval = $1 ORDER BY destination";

const DEAD_STATES: &str =
    "SELECT approval, destination, desired_version, posted_version, attempts, is_dead, error
    FROM outbox WHERE is_dead ORDER BY approval, destination";

pub(super) async fn claim(
    session: &Session,
    limit: u32,
    lease: Duration,
    now: Timestamp,
) -> Result<Vec<Delivery>, StoreError> {
    let until = later(now, lease);
    let parameters: Parameters = vec![
        Box::new(micros(now)),
        Box::new(micros(until)),
        Box::new(i64::from(limit)),
    ];
    let rows = session.rows(CLAIM, parameters).await?;
    whole(rows.iter().map(delivery).collect())
}

pub(super) async fn finish(
    session: &Session,
    delivery: Delivery,
    outcome: DeliveryOutcome,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut parameters: Parameters = vec![
        Box::new(text(delivery.approval.as_str())),
        Box::new(text(&delivery.destination)),
        Box::new(micros(delivery.leased_until)),
    ];
    let sql = match outcome {
        DeliveryOutcome::Posted { version, reference } => {
            parameters.push(Box::new(number(version)));
            parameters.push(Box::new(reference.as_deref().map(text)));
            parameters.push(Box::new(micros(now)));
            POSTED
        }
        DeliveryOutcome::Retry { at, error } => {
            parameters.push(Box::new(micros(at)));
            parameters.push(Box::new(text(&error)));
            RETRY
        }
        DeliveryOutcome::Dead { error } => {
            parameters.push(Box::new(text(&error)));
            parameters.push(Box::new(number(delivery.desired_version)));
            parameters.push(Box::new(micros(now)));
            DEAD
        }
    };
    session.rows(sql, parameters).await.map(drop)
}

pub(super) async fn states(
    session: &Session,
    id: Option<ApprovalId>,
) -> Result<Vec<DeliveryState>, StoreError> {
    let rows = match id {
        Some(id) => {
            session
                .rows(STATES, vec![Box::new(text(id.as_str()))])
                .await
        }
        None => session.rows(DEAD_STATES, Vec::new()).await,
    };
    whole(rows?.iter().map(state).collect())
}

fn delivery(row: &Row) -> Result<Delivery, Failure> {
    Ok(Delivery {
        approval: ApprovalId::new(row.try_get::<_, String>(0)?),
        destination: row.try_get(1)?,
        desired_version: count::<i64, _>(row, 2)?,
        posted_version: count::<i64, _>(row, 3)?,
        attempt: count::<i32, _>(row, 4)?,
        reference: row.try_get(5)?,
        leased_until: moment(row.try_get(6)?)?,
    })
}

fn state(row: &Row) -> Result<DeliveryState, Failure> {
    Ok(DeliveryState {
        approval: ApprovalId::new(row.try_get::<_, String>(0)?),
        destination: row.try_get(1)?,
        desired_version: count::<i64, _>(row, 2)?,
        posted_version: count::<i64, _>(row, 3)?,
        attempts: count::<i32, _>(row, 4)?,
        is_dead: row.try_get(5)?,
        error: row.try_get(6)?,
    })
}
