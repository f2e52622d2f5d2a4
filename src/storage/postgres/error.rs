//! What can go wrong, and whether it may have happened all the same.

use std::error::Error as _;
use std::path::PathBuf;

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

use crate::usecase::approval_store::StoreError;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// The URL cannot be read. It is not shown, because it may hold a password.
    #[error(
        "the URL of the database cannot be read; it looks like `postgres://user@host:port/database`"
    )]
    BadUrl,
    /// The URL names no host.
    #[error(
        "the URL of the database names no host; a unix socket's directory is written as host, with `%2F` for `/`"
    )]
    NoHost,
    /// The connection would cross a network in the clear.
    #[error(
        "the database at `{host}` would be reached over a network in the clear; require TLS for it"
    )]
    PlainText {
        /// The host.
        host: String,
    },
    /// The URL asks for TLS and the settings do not.
    #[error("the URL of the database asks for TLS, which is disabled in the settings")]
    TlsWantedByUrl,
    /// The file with the password cannot be read.
    #[error("the password file `{}` cannot be read", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file with the authorities cannot be used.
    #[error("the authorities in `{}` cannot be used: {why}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system knows no authorities.
    #[error("the system has no certificate authorities; name a file that holds some")]
    NoSystemRoots,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls {
        /// Why.
        source: rustls::Error,
    },
    /// The database cannot be reached or does not do as told.
    #[error("the database cannot be used: {0}")]
    Unusable(String),
    /// The server is too old.
    #[error("the database server has version {found}; at least 13 is needed")]
    OldServer {
        /// Its version.
        found: i32,
    },
    /// The server may forget what it has acknowledged.
    #[error(
        "the database server runs with `{name} = {value}` and may forget what it has acknowledged; it must be `{wanted}`"
    )]
    UnsafeSetting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A migration that was applied is not the one this program knows.
    #[error("migration {number} of the database is not the one this program knows")]
    OtherMigration {
        /// Which.
        number: i32,
    },
    /// The schema is not yet the one this program knows, and is only looked at.
    #[error(
        "the database has schema {found}, and this program knows {known}; start the server on it once"
    )]
    OlderSchema {
        /// The schema's number.
        found: i32,
        /// The newest known number.
        known: i32,
    },
    /// The database belongs to a newer program.
    #[error("the database has schema {found}; this program knows up to {known}")]
    NewerSchema {
        /// The schema's number.
        found: i32,
        /// The newest known number.
        known: i32,
    },
}

impl From<tokio_postgres::Error> for PostgresOpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Unusable(message(&error))
    }
}

impl From<PoolError> for PostgresOpenError {
    fn from(error: PoolError) -> Self {
        Self::Unusable(pool_message(&error))
    }
}

/// How an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not happen and would fail again.
    Final(StoreError),
    /// It did not happen and may succeed when repeated.
    Again(StoreError),
    /// It did not happen and may succeed when repeated over another connection.
    Lost(StoreError),
    /// Whether it happened is unknown.
    Unknown(StoreError),
}

impl Failure {
    /// Something stored cannot be read.
    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Final(StoreError::Corrupt(what.into()))
    }

    /// What `error` means of a transaction whose COMMIT was sent.
    pub(super) fn of_commit(error: &tokio_postgres::Error) -> Self {
        match error.code() {
            Some(state) if !is_shutdown(state) => of_state(state, message(error)),
            Some(_) | None => Self::Unknown(StoreError::Unreachable(message(error))),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    /// What `error` means of a transaction whose COMMIT was not sent.
    fn from(error: tokio_postgres::Error) -> Self {
        let text = message(&error);
        let source = error.source();
        let is_io = source.is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
        match error.code() {
            Some(_) if is_unique_race(&error) => Self::Again(StoreError::RuleBroken(text)),
            Some(state) => of_state(state, text),
            None if is_io || error.is_closed() => Self::Lost(StoreError::Unreachable(text)),
            None => Self::corrupt(text),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::Again(StoreError::Unreachable(pool_message(&error)))
    }
}

/// Whether another transaction wrote the same a moment before: the same request was opened, or the same key was used.
fn is_unique_race(error: &tokio_postgres::Error) -> bool {
    let constraint = error.as_db_error().and_then(DbError::constraint);
    matches!(constraint, Some("approvals_open" | "commands_pkey"))
}

/// Whether the server, and not the statement, gave up.
fn is_shutdown(state: &SqlState) -> bool {
    matches!(state.code().get(..2), Some("08" | "57" | "58" | "XX"))
        && *state != SqlState::QUERY_CANCELED
}

fn of_state(state: &SqlState, text: String) -> Failure {
    let is_race = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ]
    .contains(state);
    let class = state.code().get(..2).unwrap_or_default();
    match class {
        _ if is_race => Failure::Again(StoreError::Unreachable(text)),
        // Lost connections, and servers that stop, start or are no longer the primary; full ones may have room again.
        "08" => Failure::Lost(StoreError::Unreachable(text)),
        "53" => Failure::Again(StoreError::Unreachable(text)),
        "57" if *state != SqlState::QUERY_CANCELED => Failure::Lost(StoreError::Unreachable(text)),
        "25" if *state == SqlState::READ_ONLY_SQL_TRANSACTION => {
            Failure::Lost(StoreError::Unreachable(text))
        }
        // Whoever waited too long for a lock lets others go first and asks again.
        "55" if *state == SqlState::LOCK_NOT_AVAILABLE => {
            Failure::Again(StoreError::Unreachable(text))
        }
        // The time limit of a statement among them.
        "25" | "28" | "40" | "55" | "57" | "58" => Failure::Final(StoreError::Unreachable(text)),
        "22" | "23" | "44" | "54" | "P0" => Failure::Final(StoreError::RuleBroken(text)),
        _ => Failure::corrupt(text),
    }
}

/// The driver's words without the values of rows, which stand in what it calls details.
fn message(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(refused), _) => format!("{} ({})", refused.message(), refused.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

fn pool_message(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => message(error),
        PoolError::PostCreateHook(_)
        | PoolError::Timeout(_)
        | PoolError::Closed
        | PoolError::NoRuntimeSpecified => error.to_string(),
    }
}
