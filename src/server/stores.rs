//! Opens the configured store of approvals.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::config::{ApprovalsConfig, StoreChoice};
use crate::storage::postgres::{PostgresConfig, PostgresStore, PostgresTls};
use crate::storage::sqlite::SqliteStore;
use crate::usecase::approval_store::ApprovalStore;

use super::StartError;

/// The store that `config` chooses; none if approvals are not kept.
pub(super) fn open_store(
    config: &ApprovalsConfig,
    background: &Arc<Runtime>,
) -> Result<Option<Arc<dyn ApprovalStore>>, StartError> {
    let store = match config.store {
        StoreChoice::None => return Ok(None),
        StoreChoice::Sqlite => open_sqlite(config),
        StoreChoice::Postgres => open_postgres(config, background),
    };
    store.map(Some).map_err(StartError::Store)
}

fn open_sqlite(config: &ApprovalsConfig) -> anyhow::Result<Arc<dyn ApprovalStore>> {
    let folder = config
        .path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).with_context(|| {
            format!(
                "`approvals.path`: the folder `{}` cannot be made",
                folder.display()
            )
        })?;
    }
    let store = SqliteStore::open(&config.path)
        .with_context(|| format!("`approvals.path`: `{}`", config.path.display()))?;
    Ok(Arc::new(store))
}

fn open_postgres(
    config: &ApprovalsConfig,
    background: &Arc<Runtime>,
) -> anyhow::Result<Arc<dyn ApprovalStore>> {
    let url = config.url.as_ref().context("`approvals.url` is not set")?;
    let tls = match &config.ca_file {
        Some(file) => PostgresTls::Required {
            ca_file: Some(file.clone()),
        },
        None if config.tls => PostgresTls::Required { ca_file: None },
        None => PostgresTls::Disabled,
    };
    let config = PostgresConfig {
        password_file: config.password_file.clone(),
        tls,
        max_connections: config.max_connections,
        allow_unsafe_settings: config.allow_unsafe_settings,
        ..PostgresConfig::new(url.reveal())
    };
    let handle = background.handle().clone();
    let store = background
        .block_on(PostgresStore::connect(&config, handle))
        .context("`approvals.url`")?;
    Ok(Arc::new(store))
}
