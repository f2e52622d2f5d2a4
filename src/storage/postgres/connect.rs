//! Makes the pool, and refuses a server that breaks the store's promises.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Object, Pool, Runtime, Timeouts};

use super::config::PostgresConfig;
use super::error::PostgresOpenError;
use super::tls::Transport;

/// The oldest version that is supported, and tested for by number.
const OLDEST_VERSION: i32 = 130_000;

/// What every session begins with. A session that is told to wait longer says so for one transaction.
const SESSION: &str = "SET statement_timeout = '2s'; SET lock_timeout = '1s'; \
    SET idle_in_transaction_session_timeout = '5s'; SET default_transaction_isolation = 'read committed'; \
    SET client_min_messages = 'warning'";

/// How long anything around connections may take.
const POOL_TIMEOUTS: Timeouts = Timeouts {
    wait: Some(Duration::from_secs(3)),
    create: Some(Duration::from_secs(3)),
    recycle: Some(Duration::from_secs(1)),
};

/// The pool of connections; none is made yet.
pub(super) fn pool(
    config: &PostgresConfig,
    driver: tokio_postgres::Config,
    transport: &Transport,
) -> Result<Pool, PostgresOpenError> {
    let begin_session = Hook::async_fn(|client, _| {
        Box::pin(async move {
            let begun = client.batch_execute(SESSION).await;
            begun.map_err(HookError::Backend)
        })
    });
    Pool::builder(transport.manager(driver))
        .max_size(config.max_connections.max(1))
        .timeouts(POOL_TIMEOUTS)
        .runtime(Runtime::Tokio1)
        .post_create(begin_session)
        .build()
        .map_err(|error| PostgresOpenError::Unusable(error.to_string()))
}

/// Refuses a server that is too old, or that may forget what it has acknowledged.
pub(super) async fn check_server(
    client: &Object,
    config: &PostgresConfig,
) -> Result<(), PostgresOpenError> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('fsync'), \
             current_setting('full_page_writes'), current_setting('synchronous_commit')",
            &[],
        )
        .await?;
    let found: i32 = row.try_get(0)?;
    if found < OLDEST_VERSION {
        return Err(PostgresOpenError::OldServer { found });
    }
    if config.allow_unsafe_settings {
        return Ok(());
    }
    for (column, name) in [
        (1, "fsync"),
        (2, "full_page_writes"),
        (3, "synchronous_commit"),
    ] {
        let value: String = row.try_get(column)?;
        // What is applied elsewhere before it is acknowledged is more than on.
        let is_safe = value == "on" || (name == "synchronous_commit" && value == "remote_apply");
        if !is_safe {
            return Err(PostgresOpenError::UnsafeSetting {
                name,
                value,
                wanted: "on",
            });
        }
    }
    Ok(())
}
