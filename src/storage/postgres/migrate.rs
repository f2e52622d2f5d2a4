//! Brings the schema up to date, forward only.
//!
//! A migration that was once released never changes: its SHA-256 is recorded with it and compared at every start.

use deadpool_postgres::{GenericClient, Object};
use sha2::{Digest as _, Sha256};

use super::error::PostgresOpenError;

/// Every migration, in order; the first has number 1.
const MIGRATIONS: [&str; 2] = [
    include_str!("migrations/0001_approvals.sql"),
    include_str!("migrations/0002_control_log.sql"),
];

/// Names the lock under which a database is migrated. Any number that nobody else in the database uses.
const LOCK: i64 = 0x636f_756e_7465_7273;

/// Another process may migrate at the same time and take long; it is waited for.
const PATIENCE: &str = "SET LOCAL statement_timeout = '5min'; SET LOCAL lock_timeout = '5min'; \
    SET LOCAL idle_in_transaction_session_timeout = 0";

const LIST: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, sha256 bytea NOT NULL)";

/// Applies what is missing, all of it or nothing.
pub(super) async fn migrate(client: &mut Object) -> Result<(), PostgresOpenError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(PATIENCE).await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    transaction.batch_execute(LIST).await?;
    let applied = applied(&transaction).await?;
    for (number, sha256, sql) in missing(&applied)? {
        transaction.batch_execute(sql).await?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (number, sha256) VALUES ($1, $2)",
                &[&number, &sha256],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Refuses a schema that is not exactly the one this program knows. Changes nothing.
pub(super) async fn check_present(client: &Object) -> Result<(), PostgresOpenError> {
    let listed = client
        .query_one("SELECT to_regclass('schema_migrations') IS NOT NULL", &[])
        .await?;
    let applied = if listed.try_get(0)? {
        applied(client).await?
    } else {
        Vec::new()
    };
    if missing(&applied)?.is_empty() {
        return Ok(());
    }
    Err(PostgresOpenError::OlderSchema {
        found: applied.last().map_or(0, |(found, _)| *found),
        known: known(),
    })
}

fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// A migration with its number and its digest.
type Numbered = (i32, Vec<u8>, &'static str);

/// The migrations that were not applied yet. Fails if those that were are not these.
fn missing(applied: &[(i32, Vec<u8>)]) -> Result<Vec<Numbered>, PostgresOpenError> {
    let known = known();
    if let Some((found, _)) = applied.last().filter(|(found, _)| *found > known) {
        return Err(PostgresOpenError::NewerSchema {
            found: *found,
            known,
        });
    }
    let mut missing = Vec::new();
    for (number, sql) in (1..).zip(MIGRATIONS) {
        let sha256 = Sha256::digest(sql).to_vec();
        match applied.iter().find(|(applied, _)| *applied == number) {
            Some((_, recorded)) if *recorded == sha256 => {}
            Some(_) => return Err(PostgresOpenError::OtherMigration { number }),
            None => missing.push((number, sha256, sql)),
        }
    }
    Ok(missing)
}

/// The migrations that were applied, in order, with their digests.
async fn applied(client: &impl GenericClient) -> Result<Vec<(i32, Vec<u8>)>, PostgresOpenError> {
    let rows = client
        .query(
            "SELECT number, sha256 FROM schema_migrations ORDER BY number",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}
