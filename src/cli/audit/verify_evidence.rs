//! Opens a store of approvals to be looked at.

use std::path::Path;

use anyhow::Context as _;

use crate::storage::postgres::{PostgresConfig, PostgresEvidence};
use crate::storage::sqlite::SqliteEvidence;
use crate::usecase::evidence::Evidence;

/// Whether there may be a store at `place`: a file is there, or a URL says where. Nothing is opened.
pub(super) fn check_place(place: &str) -> anyhow::Result<()> {
    if is_url(place) {
        return Ok(());
    }
    std::fs::metadata(place)
        .map(drop)
        .with_context(|| format!("cannot read `{place}`"))
}

fn is_url(place: &str) -> bool {
    place.starts_with("postgres://") || place.starts_with("postgresql://")
}

/// The store at `place`: a `PostgreSQL` URL, or the path of a `SQLite` file.
pub(super) fn open_evidence(place: &str) -> anyhow::Result<Box<dyn Evidence>> {
    // A URL may hold a password, so it is never shown.
    if is_url(place) {
        let config = PostgresConfig::new(place);
        let evidence = PostgresEvidence::connect(&config);
        return Ok(Box::new(
            evidence.context("cannot read the store of approvals")?,
        ));
    }
    let evidence = SqliteEvidence::open(Path::new(place));
    Ok(Box::new(
        evidence.with_context(|| format!("cannot read `{place}`"))?,
    ))
}
