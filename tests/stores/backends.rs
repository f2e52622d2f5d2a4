//! The stores that are tested, each made empty for each test.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign::approval::ControlRecord;
use countersign::storage::memory::MemoryStore;
use countersign::storage::postgres::{PostgresConfig, PostgresStore};
use countersign::storage::sqlite::SqliteStore;
use countersign::usecase::approval_store::ApprovalStore;
use countersign::usecase::control_log::{ControlLog, RecordEncoder};
use tokio_postgres::{Client, NoTls};

use crate::support::Store;

/// Makes records that tests can read again.
#[derive(Debug)]
pub(crate) struct JsonRecords;

impl RecordEncoder for JsonRecords {
    fn encode(&self, record: &ControlRecord) -> Vec<u8> {
        serde_json::to_vec(record).unwrap()
    }
}

/// A store as the keeper of approvals, and as the keeper of the control log.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) store: Store,
    pub(crate) log: Arc<dyn ControlLog>,
}

impl Kept {
    pub(crate) fn new<S: ApprovalStore + ControlLog + 'static>(store: S) -> Self {
        let store = Arc::new(store);
        Self {
            store: store.clone(),
            log: store,
        }
    }
}

/// An empty store, with what must live as long as it does.
pub(crate) struct Fresh {
    pub(crate) store: Store,
    pub(crate) kept: Kept,
    /// Such as the directory it lies in.
    pub(crate) _keeps: Box<dyn Any + Send + Sync>,
}

impl Fresh {
    fn new<S, K>(store: S, keeps: K) -> Self
    where
        S: ApprovalStore + ControlLog + 'static,
        K: Any + Send + Sync,
    {
        let kept = Kept::new(store);
        Self {
            store: kept.store.clone(),
            kept,
            _keeps: Box::new(keeps),
        }
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Makes empty stores of one kind.
pub(crate) trait StoreFactory {
    /// An empty store that no other test sees; none where this kind cannot be tested here.
    async fn fresh(&self) -> Option<Fresh>;
}

/// The store in memory.
#[derive(Debug)]
pub(crate) struct Memory;

impl StoreFactory for Memory {
    async fn fresh(&self) -> Option<Fresh> {
        let store = MemoryStore::with_encoder(Arc::new(JsonRecords));
        Some(Fresh::new(store, ()))
    }
}

/// `SQLite` in a directory of its own.
#[derive(Debug)]
pub(crate) struct Sqlite;

impl StoreFactory for Sqlite {
    async fn fresh(&self) -> Option<Fresh> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("approvals.db");
        let store = SqliteStore::open_with(&path, Arc::new(JsonRecords)).unwrap();
        Some(Fresh::new(store, directory))
    }
}

/// `PostgreSQL`, in a database of its own on the server that `tests/postgres.sh` starts.
#[derive(Debug)]
pub(crate) struct Postgres;

impl StoreFactory for Postgres {
    async fn fresh(&self) -> Option<Fresh> {
        let database = Database::create().await?;
        Some(Fresh::new(database.store().await, database))
    }
}

/// A database that is dropped with this value, whoever is connected to it.
#[derive(Debug)]
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// An empty database; none if no server was started for tests.
    #[expect(clippy::print_stderr, reason = "what is left out is left out loudly")]
    pub(crate) async fn create() -> Option<Self> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        #[expect(
            clippy::disallowed_methods,
            reason = "the script that starts the server tells by the environment"
        )]
        let told = |name: &str| std::env::var(name).ok();
        let Some(server) = told("COUNTERSIGN_TEST_POSTGRES") else {
            // What must be tested everywhere is not left out by mistake.
            assert!(told("COUNTERSIGN_TEST_POSTGRES_REQUIRED").is_none());
            eprintln!("PostgreSQL is not tested: start it by `tests/postgres.sh run -- <command>`");
            return None;
        };
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let created = Self { server, name };
        let sql = format!("CREATE DATABASE {} TEMPLATE template0", created.name);
        connect(&created.server)
            .await
            .batch_execute(&sql)
            .await
            .unwrap();
        Some(created)
    }

    /// How a store reaches it.
    pub(crate) fn config(&self) -> PostgresConfig {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        PostgresConfig {
            allow_unsafe_settings: true,
            ..PostgresConfig::new(format!("{server}/{}", self.name))
        }
    }

    /// A store over it.
    pub(crate) async fn store(&self) -> PostgresStore {
        let runtime = tokio::runtime::Handle::current();
        PostgresStore::connect_with(&self.config(), runtime, Arc::new(JsonRecords))
            .await
            .unwrap()
    }

    /// A connection of its own, for SQL.
    pub(crate) async fn sql(&self) -> Client {
        connect(&self.config().url).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = self.server.clone();
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // Dropping cannot wait on the runtime of the test, which may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                // A server that is gone has no databases.
                drop(connect(&server).await.batch_execute(&sql).await);
            });
        });
        drop(dropping.join());
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    drop(tokio::runtime::Handle::current().spawn(connection));
    client
}
