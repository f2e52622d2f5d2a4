//! Approvals and the control log in `PostgreSQL`: for several replicas over one database.
//!
//! Place: floor 3. A command locks what it is about, plans by the pure rules that every store shares, and writes the plan; the schema
//! refuses what no program may write. Operations run as tasks of one runtime, whatever becomes of their callers.
//! Never: a clock of the database's own, a NOTIFY in a command's transaction, a password in a message.

mod changes;
mod command;
mod config;
mod connect;
mod control;
mod deliver;
mod error;
mod evidence;
mod keep;
mod lease;
mod migrate;
mod read;
mod session;
mod signs;
mod tls;
mod values;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::approval::ApprovalId;
use crate::storage::approval_rows::whole_micros;
use crate::usecase::approval_store::{
    Applied, ApplyCommand, ApprovalFilter, ApprovalPage, ApprovalStore, Delivery, DeliveryOutcome,
    DeliveryState, ListCursor, OpenCommand, Opened, StoreError, StoredRecord,
};
use crate::usecase::control_log::{PlainRecords, RecordEncoder};
use crate::usecase::observing::ApprovalSigns;
use crate::usecase::ports::PortFuture;

pub use config::{PostgresConfig, PostgresTls};
pub use error::PostgresOpenError;
pub use evidence::PostgresEvidence;

use changes::{Changes, Listener};
use session::Session;

/// How long opening waits for other processes to be heard; they are heard later then.
const LISTENING_WITHIN: Duration = Duration::from_secs(2);

/// A store of approvals in `PostgreSQL`. Its tasks end when it is dropped; what is being written then is still written.
#[derive(Debug)]
pub struct PostgresStore {
    session: Arc<Session>,
    runtime: Handle,
    listener: AbortHandle,
    encoder: Arc<dyn RecordEncoder>,
}

impl PostgresStore {
    /// Connects to the database of `config`, checks its settings and brings its schema up to date. Everything that the store does
    /// runs on `runtime`. Records are kept by [`PlainRecords`].
    ///
    /// # Errors
    /// [`PostgresOpenError`] says what is wrong with the settings, the server or the schema.
    pub async fn connect(
        config: &PostgresConfig,
        runtime: Handle,
    ) -> Result<Self, PostgresOpenError> {
        Self::connect_with(config, runtime, Arc::new(PlainRecords)).await
    }

    /// As [`Self::connect`]; `encoder` makes the bytes of records.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(
        config: &PostgresConfig,
        runtime: Handle,
        encoder: Arc<dyn RecordEncoder>,
    ) -> Result<Self, PostgresOpenError> {
        let config = config.clone();
        let tasks = runtime.clone();
        let connecting = runtime.spawn(async move { open(&config, tasks, encoder).await });
        connecting
            .await
            .map_err(|error| PostgresOpenError::Unusable(error.to_string()))?
    }

    /// Does what `work` says as a task of its own, so that a caller that goes away cancels nothing.
    fn task<T, F, W>(&self, work: W) -> PortFuture<'_, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
        W: FnOnce(Arc<Session>) -> F + Send + 'static,
    {
        let session = Arc::clone(&self.session);
        Box::pin(async move {
            let done = self.runtime.spawn(work(session)).await;
            done.unwrap_or_else(|error| Err(StoreError::Unreachable(error.to_string())))
        })
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn open(
    config: &PostgresConfig,
    runtime: Handle,
    encoder: Arc<dyn RecordEncoder>,
) -> Result<PostgresStore, PostgresOpenError> {
    let driver = config.driver_config()?;
    let transport = tls::Transport::of(&config.tls)?;
    let pool = connect::pool(config, driver.clone(), &transport)?;
    let mut client = pool.get().await?;
    connect::check_server(&client, config).await?;
    migrate::migrate(&mut client).await?;
    drop(client);
    // Only this process sends under this name, as far as chance can tell.
    let origin = format!("{:032x}", fastrand::u128(..));
    let (changes, gathered) = Changes::new();
    let listener = Listener {
        origin: origin.clone(),
        driver,
        transport,
        heard: changes.weak(),
    };
    let (told, listening) = oneshot::channel();
    let listener = runtime.spawn(listener.run(told)).abort_handle();
    // Ends by itself: when the last command of the store is done, nobody can add to what is gathered.
    drop(runtime.spawn(changes::notify(origin, pool.clone(), gathered)));
    // Not being heard in time is no reason not to begin: changes are hints.
    let _heard = timeout(LISTENING_WITHIN, listening).await;
    Ok(PostgresStore {
        session: Arc::new(Session { pool, changes }),
        runtime,
        listener,
        encoder,
    })
}

impl ApprovalStore for PostgresStore {
    fn open(
        &self,
        command: OpenCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Opened, StoreError>> {
        let work = command::Open {
            command,
            now: whole_micros(now),
            encoder: Arc::clone(&self.encoder),
        };
        self.task(async move |session| session.transact(&work).await)
    }

    fn apply(
        &self,
        command: ApplyCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Applied, StoreError>> {
        let work = command::Apply {
            command,
            now: whole_micros(now),
            encoder: Arc::clone(&self.encoder),
        };
        self.task(async move |session| session.transact(&work).await)
    }

    fn find(
        &self,
        id: &ApprovalId,
    ) -> PortFuture<'_, Result<Option<crate::approval::Approval>, StoreError>> {
        let id = id.clone();
        self.task(async move |session| read::find(&session, id).await)
    }

    fn list(
        &self,
        filter: ApprovalFilter,
        after: Option<ListCursor>,
        limit: u32,
        now: Timestamp,
    ) -> PortFuture<'_, Result<ApprovalPage, StoreError>> {
        self.task(async move |session| read::list(&session, filter, after, limit, now).await)
    }

    fn due(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<ApprovalId>, StoreError>> {
        self.task(async move |session| read::due(&session, now, limit).await)
    }

    fn signs(&self, now: Timestamp) -> PortFuture<'_, Result<ApprovalSigns, StoreError>> {
        self.task(async move |session| signs::signs(&session, now).await)
    }

    fn versions(
        &self,
        ids: Vec<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<(ApprovalId, u64)>, StoreError>> {
        self.task(async move |session| read::versions(&session, ids).await)
    }

    fn records(&self, id: &ApprovalId) -> PortFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        let id = id.clone();
        self.task(async move |session| read::records(&session, id).await)
    }

    fn claim_deliveries(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<Delivery>, StoreError>> {
        self.task(async move |session| deliver::claim(&session, limit, lease, now).await)
    }

    fn finish_delivery(
        &self,
        delivery: Delivery,
        outcome: DeliveryOutcome,
        now: Timestamp,
    ) -> PortFuture<'_, Result<(), StoreError>> {
        self.task(async move |session| deliver::finish(&session, delivery, outcome, now).await)
    }

    fn deliveries(
        &self,
        id: Option<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<DeliveryState>, StoreError>> {
        self.task(async move |session| deliver::states(&session, id).await)
    }

    fn lease(
        &self,
        name: &'static str,
        holder: String,
        ttl: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Option<u64>, StoreError>> {
        self.task(async move |session| lease::take(&session, name, holder, ttl, now).await)
    }

    fn forget_commands(&self, now: Timestamp) -> PortFuture<'_, Result<u64, StoreError>> {
        self.task(async move |session| lease::forget(&session, now).await)
    }

    fn changes(&self) -> broadcast::Receiver<ApprovalId> {
        self.session.changes.subscribe()
    }
}
