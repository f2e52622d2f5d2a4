//! Runs statements and transactions, and repeats what is safe to repeat.
//!
//! INVARIANT (never cancelled): everything here runs in a task of its own. A caller that goes away leaves no transaction half done.
//! INVARIANT (no guess): a COMMIT without an answer is never reported as done or as not done, unless the command's key can be looked up.

use std::time::Duration;

use deadpool_postgres::{Object, Pool, Transaction};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::approval::ApprovalId;
use crate::usecase::approval_store::StoreError;

use super::changes::Changes;
use super::error::Failure;

/// The parameters of a statement.
pub(super) type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

/// How often something is repeated at most.
const REPEATS: u32 = 5;

/// When no repetition begins any more: an event is judged at the moment it came, so it must not be written much later.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long one step may take: longer than the server's own time limits.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a transaction came to.
#[derive(Debug)]
pub(super) struct Written<T> {
    pub(super) answer: T,
    /// The approvals that others should hear of.
    pub(super) changed: Vec<ApprovalId>,
}

/// Something that is done in one transaction.
pub(super) trait Work: Send + Sync {
    type Answer: Send;

    /// Whether doing it twice is doing it once, because a key says so.
    fn is_repeatable(&self) -> bool;

    fn attempt(
        &self,
        transaction: &Transaction<'_>,
    ) -> impl Future<Output = Result<Written<Self::Answer>, Failure>> + Send;
}

/// The connections of a store, and who hears of its changes.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) pool: Pool,
    pub(super) changes: Changes,
}

impl Session {
    /// Does `work` in a transaction.
    pub(super) async fn transact<W: Work>(&self, work: &W) -> Result<W::Answer, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let mut repeats = 0;
        loop {
            let failure = match self.transact_once(work).await {
                Ok(written) => {
                    for id in written.changed {
                        self.changes.announce(id);
                    }
                    return Ok(written.answer);
                }
                Err(failure) => failure,
            };
            let error = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Unknown(error) if !work.is_repeatable() => return Err(error),
                // The repetition takes the same locks, so it looks the key up after the first attempt has ended either way.
                Failure::Unknown(error) | Failure::Lost(error) | Failure::Again(error) => error,
            };
            pause(&mut repeats, deadline, error).await?;
        }
    }

    async fn transact_once<W: Work>(&self, work: &W) -> Result<Written<W::Answer>, Failure> {
        let mut client = self.pool.get().await?;
        let attempted = attempt(&mut client, work).await;
        if is_doubtful(attempted.as_ref().err()) {
            // A session in an unknown state is closed, not used again.
            drop(Object::take(client));
        }
        attempted
    }

    /// The rows of one statement, which is a transaction by itself and may be repeated.
    pub(super) async fn rows(
        &self,
        sql: &'static str,
        parameters: Parameters,
    ) -> Result<Vec<Row>, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let mut repeats = 0;
        loop {
            let error = match self.rows_once(sql, &parameters).await {
                Ok(rows) => return Ok(rows),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error) | Failure::Lost(error) | Failure::Unknown(error)) => {
                    error
                }
            };
            pause(&mut repeats, deadline, error).await?;
        }
    }

    async fn rows_once(
        &self,
        sql: &'static str,
        parameters: &Parameters,
    ) -> Result<Vec<Row>, Failure> {
        let client = self.pool.get().await?;
        let query = async {
            let statement = client.prepare_cached(sql).await?;
            let parameters: Vec<&(dyn ToSql + Sync)> =
                parameters.iter().map(|each| &**each as _).collect();
            client.query(&statement, &parameters).await
        };
        let queried = match timeout(STEP_TIMEOUT, query).await {
            Ok(queried) => queried.map_err(Failure::from),
            Err(_) => Err(Failure::Unknown(no_answer())),
        };
        if is_doubtful(queried.as_ref().err()) {
            drop(Object::take(client));
        }
        queried
    }
}

async fn attempt<W: Work>(client: &mut Object, work: &W) -> Result<Written<W::Answer>, Failure> {
    let until = Instant::now() + STEP_TIMEOUT;
    let prepare = async {
        let transaction = client.transaction().await?;
        let written = work.attempt(&transaction).await?;
        Ok::<_, Failure>((transaction, written))
    };
    let (transaction, written) = match timeout_at(until, prepare).await {
        Ok(prepared) => prepared?,
        // The connection is closed, and the transaction ends with it.
        Err(_) => return Err(Failure::Lost(no_answer())),
    };
    match timeout(STEP_TIMEOUT, transaction.commit()).await {
        Ok(Ok(())) => Ok(written),
        Ok(Err(error)) => Err(Failure::of_commit(&error)),
        Err(_) => Err(Failure::Unknown(no_answer())),
    }
}

/// Whether the session behind a failure may be in the middle of something.
fn is_doubtful(failure: Option<&Failure>) -> bool {
    match failure {
        Some(Failure::Unknown(_) | Failure::Lost(_)) => true,
        Some(Failure::Again(_) | Failure::Final(_)) | None => false,
    }
}

fn no_answer() -> StoreError {
    StoreError::Unreachable("it did not answer in time".to_owned())
}

/// Waits before the next repetition, longer each time and never in step with others; gives `error` back if there is none.
async fn pause(repeats: &mut u32, deadline: Instant, error: StoreError) -> Result<(), StoreError> {
    if *repeats >= REPEATS || Instant::now() >= deadline {
        return Err(error);
    }
    let longest_ms = 20_u64 << *repeats;
    *repeats += 1;
    sleep(Duration::from_millis(fastrand::u64(
        longest_ms / 2..=longest_ms,
    )))
    .await;
    Ok(())
}
