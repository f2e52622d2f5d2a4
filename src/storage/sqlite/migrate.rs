//! Brings the tables to the form this program knows. Only forward, and only what was never changed afterwards.

use rusqlite::{Connection, TransactionBehavior};

use crate::approval::Digest;

use super::open::SqliteOpenError;

/// One step of the schema.
struct Migration {
    number: u32,
    sql: &'static str,
}

/// Every step, in order. A step that was released is never changed; a new one is added.
const MIGRATIONS: [Migration; 2] = [
    Migration {
        number: 1,
        sql: include_str!("migrations/0001_approvals.sql"),
    },
    Migration {
        number: 2,
        sql: include_str!("migrations/0002_control_log.sql"),
    },
];

impl Migration {
    fn digest(&self) -> String {
        Digest::of("countersign migration", self.sql.as_bytes()).to_string()
    }
}

/// Applies what is missing, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), SqliteOpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: u32 = transaction.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'",
        [],
        |row| row.get(0),
    )?;
    if tables > 0 && !is_ours(&transaction)? {
        return Err(SqliteOpenError::NotOurs);
    }
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS countersign_migrations (number INTEGER PRIMARY KEY, digest TEXT NOT NULL) STRICT",
    )?;
    let applied = applied(&transaction)?;
    check(&applied)?;
    for migration in MIGRATIONS.iter().skip(applied.len()) {
        transaction.execute_batch(migration.sql)?;
        transaction.execute(
            "INSERT INTO countersign_migrations (number, digest) VALUES (?1, ?2)",
            (migration.number, migration.digest()),
        )?;
    }
    Ok(transaction.commit()?)
}

/// Refuses tables that are not in the form this program knows. Changes nothing.
pub(super) fn check_present(connection: &Connection) -> Result<(), SqliteOpenError> {
    if !is_ours(connection)? {
        return Err(SqliteOpenError::NotOurs);
    }
    let applied = applied(connection)?;
    check(&applied)?;
    let known = MIGRATIONS.last().map_or(0, |last| last.number);
    let found = applied.last().map_or(0, |(found, _)| *found);
    if found < known {
        return Err(SqliteOpenError::OlderSchema { found, known });
    }
    Ok(())
}

fn is_ours(connection: &Connection) -> Result<bool, SqliteOpenError> {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'countersign_migrations'";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

fn applied(connection: &Connection) -> Result<Vec<(u32, String)>, SqliteOpenError> {
    let sql = "SELECT number, digest FROM countersign_migrations ORDER BY number";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn check(applied: &[(u32, String)]) -> Result<(), SqliteOpenError> {
    let known = MIGRATIONS.last().map_or(0, |last| last.number);
    if let Some((found, _)) = applied.last().filter(|(found, _)| *found > known) {
        return Err(SqliteOpenError::NewerSchema {
            found: *found,
            known,
        });
    }
    for (migration, (number, digest)) in MIGRATIONS.iter().zip(applied) {
        if migration.number != *number || migration.digest() != *digest {
            return Err(SqliteOpenError::ChangedSchema { number: *number });
        }
    }
    Ok(())
}
