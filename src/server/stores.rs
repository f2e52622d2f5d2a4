//! Opens the configured store of approvals, which keeps the control log too.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::config::{ApprovalsConfig, StoreChoice};
use crate::storage::postgres::{PostgresConfig, PostgresStore, PostgresTls};
use crate::storage::sqlite::SqliteStore;
use crate::usecase::control_log::RecordEncoder;

use super::StartError;
use super::audit::{Stores, new_holder};

/// The name under which a server takes leases that has its store for itself.
const ONLY: &str = "the only server";

/// The store that `config` chooses; none if approvals are not kept. `encoder` makes the bytes of the control log.
pub(super) fn open_stores(
    config: &ApprovalsConfig,
    encoder: Arc<dyn RecordEncoder>,
    background: &Arc<Runtime>,
) -> Result<Option<Stores>, StartError> {
    let stores = match config.store {
        StoreChoice::None => return Ok(None),
        StoreChoice::Sqlite => open_sqlite(config, encoder),
        StoreChoice::Postgres => open_postgres(config, encoder, background),
    };
    stores.map(Some).map_err(StartError::Store)
}

/// A store for the control log alone, in the file at `path`.
pub(super) fn open_control_store(path: &Path) -> anyhow::Result<Stores> {
    let store = SqliteStore::open(path).with_context(|| format!("`{}`", path.display()))?;
    let store = Arc::new(store);
    Ok(Stores {
        approvals: Arc::clone(&store) as _,
        control: store,
        holder: ONLY.to_owned(),
    })
}

fn open_sqlite(
    config: &ApprovalsConfig,
    encoder: Arc<dyn RecordEncoder>,
) -> anyhow::Result<Stores> {
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
    let store = SqliteStore::open_with(&config.path, encoder)
        .with_context(|| format!("`approvals.path`: `{}`", config.path.display()))?;
    let store = Arc::new(store);
    Ok(Stores {
        approvals: Arc::clone(&store) as _,
        control: store,
        holder: ONLY.to_owned(),
    })
}

fn open_postgres(
    config: &ApprovalsConfig,
    encoder: Arc<dyn RecordEncoder>,
    background: &Arc<Runtime>,
) -> anyhow::Result<Stores> {
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
        .block_on(PostgresStore::connect_with(&config, handle, encoder))
        .context("`approvals.url`")?;
    let store = Arc::new(store);
    Ok(Stores {
        approvals: Arc::clone(&store) as _,
        control: store,
        holder: new_holder(),
    })
}
