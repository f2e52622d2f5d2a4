//! How values are written in columns and read back.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::approval::Digest;
use crate::usecase::approval_store::StoreError;

use super::error::Failure;

/// A version as a column holds it.
pub(super) fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// The whole number in `column`, which is not negative.
pub(super) fn count<'a, T, N>(row: &'a Row, column: usize) -> Result<N, Failure>
where
    T: FromSql<'a> + Into<i64>,
    N: TryFrom<i64>,
{
    let found: T = row.try_get(column)?;
    let found: i64 = found.into();
    N::try_from(found).map_err(|_| Failure::corrupt(format!("`{found}` is not a count")))
}

/// The digest in `column`, which is selected as hexadecimal digits.
pub(super) fn digest(row: &Row, column: usize) -> Result<Digest, Failure> {
    let hex: &str = row.try_get(column)?;
    hex.parse()
        .map_err(|_| Failure::corrupt(format!("`{hex}` is not a digest")))
}

/// A text as `PostgreSQL` can hold it: without the one character it has no room for. No name that is kept has it.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// All of it, or the first thing that cannot be read.
pub(super) fn whole<T>(read: Result<T, Failure>) -> Result<T, StoreError> {
    read.map_err(|failure| match failure {
        Failure::Final(error)
        | Failure::Again(error)
        | Failure::Lost(error)
        | Failure::Unknown(error) => error,
    })
}
