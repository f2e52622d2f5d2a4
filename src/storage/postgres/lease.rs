//! Leases, and the memory of command keys.

use std::time::Duration;

use jiff::Timestamp;

use crate::storage::approval_rows::{forgotten_before, later, micros};
use crate::usecase::approval_store::StoreError;

use super::session::{Parameters, Session};
use super::values::{count, whole};

/// The holder may renew at any time, another only after the end. No row comes back while another holds it.
const TAKE: &str =
    "INSERT INTO leases AS held (name, holder, epoch, until_us) VALUES ($1, $2, 1, $3)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_us = excluded.until_us,
        epoch = held.epoch + CASE WHEN held.holder = excluded.holder THEN 0 ELSE 1 END
    WHERE held.holder = excluded.holder OR held.until_us <= $4
    RETURNING epoch";

const FORGET: &str = "WITH forgotten AS (DELETE FROM commands WHERE at_us < $1 RETURNING 1)
    SELECT count(*) FROM forgotten";

pub(super) async fn take(
    session: &Session,
    name: &'static str,
    holder: String,
    ttl: Duration,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let parameters: Parameters = vec![
        Box::new(name),
        Box::new(holder),
        Box::new(micros(later(now, ttl))),
        Box::new(micros(now)),
    ];
    let rows = session.rows(TAKE, parameters).await?;
    whole(
        rows.first()
            .map(|row| count::<i64, u64>(row, 0))
            .transpose(),
    )
}

pub(super) async fn forget(session: &Session, now: Timestamp) -> Result<u64, StoreError> {
    let rows = session
        .rows(FORGET, vec![Box::new(micros(forgotten_before(now)))])
        .await?;
    whole(rows.first().map_or(Ok(0), |row| count::<i64, u64>(row, 0)))
}
