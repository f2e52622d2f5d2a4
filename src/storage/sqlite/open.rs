//! Opens the file: nobody else has it, its settings are what the promises need, its tables are known.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::migrate::migrate;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqliteOpenError {
    /// Another process has it.
    #[error("another process uses the database: `{}` is locked", .0.display())]
    InUse(PathBuf),
    /// The file, or the lock file beside it, cannot be created or opened.
    #[error("`{}` cannot be opened", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A setting that a promise depends on could not be made.
    #[error("the setting `{setting}` of the database is `{found}`, and must be `{wanted}`")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// The tables are those of another program.
    #[error("the database holds tables that are not Countersign's")]
    NotOurs,
    /// A later version of this program has written the database.
    #[error(
        "the database has schema {found}, and this program knows {known} at most; use a newer one"
    )]
    NewerSchema {
        /// The schema of the database.
        found: u32,
        /// The newest schema that is known.
        known: u32,
    },
    /// The tables are not yet in the form this program knows, and are only looked at.
    #[error(
        "the database has schema {found}, and this program knows {known}; start the server on it once"
    )]
    OlderSchema {
        /// The schema of the database.
        found: u32,
        /// The newest schema that is known.
        known: u32,
    },
    /// The tables were not made by the steps that this program knows.
    #[error("step {number} of the database's schema is not the one this program knows")]
    ChangedSchema {
        /// Which step.
        number: u32,
    },
    /// The writing thread could not be started.
    #[error("the writing thread cannot be started")]
    Thread(#[source] io::Error),
    /// SQLite refused.
    #[error("the database cannot be used")]
    Sqlite(#[from] rusqlite::Error),
}

/// Says that nobody else has the database, as long as it is not dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the file for this process: a second one would see neither the writer's queue nor its hints.
pub(super) fn lock(path: &Path) -> Result<Lock, SqliteOpenError> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = private_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(SqliteOpenError::InUse(path)),
        Err(TryLockError::Error(source)) => Err(SqliteOpenError::File { path, source }),
    }
}

/// Opens `path`, which only its owner may read if it has to be made.
fn private_file(path: &Path) -> Result<File, SqliteOpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| SqliteOpenError::File {
        path: path.to_owned(),
        source,
    })
}

/// A setting: its name, what it is set to, what it then reads.
type Setting = (&'static str, &'static str, &'static str);

const WRITER_SETTINGS: [Setting; 9] = [
    ("journal_mode", "WAL", "wal"),
    // NORMAL is a hundred times faster, and forgets commits that were answered when the power fails.
    ("synchronous", "FULL", "2"),
    ("fullfsync", "ON", "1"),
    ("checkpoint_fullfsync", "ON", "1"),
    ("foreign_keys", "ON", "1"),
    ("busy_timeout", "5000", "5000"),
    ("journal_size_limit", "67108864", "67108864"),
    ("trusted_schema", "OFF", "0"),
    // What a command that fails takes back is remembered in memory. It is never needed after a crash.
    ("temp_store", "MEMORY", "2"),
];

const READER_SETTINGS: [Setting; 3] = [
    ("query_only", "ON", "1"),
    ("busy_timeout", "5000", "5000"),
    ("trusted_schema", "OFF", "0"),
];

/// The connection that writes, with its tables.
pub(super) fn open_writer(path: &Path) -> Result<Connection, SqliteOpenError> {
    drop(private_file(path)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    set(&connection, &WRITER_SETTINGS)?;
    migrate(&mut connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, SqliteOpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    set(&connection, &READER_SETTINGS)?;
    Ok(connection)
}

/// Makes every setting and reads it back.
fn set(connection: &Connection, settings: &[Setting]) -> Result<(), SqliteOpenError> {
    for &(setting, value, wanted) in settings {
        // Some answer with the new value, some with nothing.
        connection
            .pragma_update_and_check(None, setting, value, |_| Ok(()))
            .or_else(no_answer)?;
        let found = connection.pragma_query_value(None, setting, |row| row.get(0))?;
        let found = text(found);
        if found != wanted {
            return Err(SqliteOpenError::Setting {
                setting,
                found,
                wanted,
            });
        }
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    if !connection.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE)? {
        return Err(SqliteOpenError::Setting {
            setting: "defensive",
            found: "off".to_owned(),
            wanted: "on",
        });
    }
    Ok(())
}

fn no_answer(error: rusqlite::Error) -> Result<(), rusqlite::Error> {
    if error == rusqlite::Error::QueryReturnedNoRows {
        return Ok(());
    }
    Err(error)
}

fn text(value: Value) -> String {
    match value {
        Value::Null | Value::Blob(_) => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text,
    }
}
