//! The one thread that writes: it takes what has queued up, does each command by itself, and commits them together.
//!
//! INVARIANT (answered-is-kept): nobody is answered before the commit that holds their command has reached the disk.
//! INVARIANT (one-bad-apple): a command that fails takes back what it did, and nothing else.

use std::io;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::approval::ApprovalId;
use crate::usecase::approval_store::StoreError;

/// How many commands wait at most; whoever comes then waits until there is room.
const QUEUE: usize = 1024;

/// How many commands share a commit at most.
const BATCH: usize = 256;

/// A command under way.
trait Job: Send {
    /// Does it, inside a transaction. Answers whether what it did shall stay.
    fn run(&mut self, connection: &Connection, changed: &mut Vec<ApprovalId>) -> bool;

    /// Answers whoever waits for it: what it came to, or that the commit failed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A command with its answer and who waits for it.
struct Command<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Command<T, F>
where
    T: Send,
    F: FnOnce(&Connection, &mut Vec<ApprovalId>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection, changed: &mut Vec<ApprovalId>) -> bool {
        let result = self.work.take().map(|work| work(connection, changed));
        let is_ok = matches!(&result, Some(Ok(_)));
        self.result = result;
        is_ok
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (committed, self.result) {
            // What failed by itself has its own reason, and no part in the commit.
            (_, Some(Err(error))) | (Err(error), _) => Err(error),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(stopped()),
        };
        // Whoever asked may have gone; what was done stays done.
        drop(self.reply.send(result));
    }
}

/// Takes commands to the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    commands: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which owns `connection` until the writer is dropped.
    pub(super) fn start(
        connection: Connection,
        changes: broadcast::Sender<ApprovalId>,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("approvals-writer".to_owned())
            .spawn(move || write_until_closed(&connection, receiver, &changes))?;
        Ok(Self {
            commands: Some(sender),
            thread: Some(thread),
        })
    }

    /// Does `work` in a transaction. Once it has been queued it is done, whether or not anybody still waits for it.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Vec<ApprovalId>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command = Command {
            work: Some(work),
            result: None,
            reply,
        };
        let commands = self.commands.as_ref().ok_or_else(stopped)?;
        commands
            .send(Box::new(command))
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    /// Lets the thread finish what is queued.
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to finish.
            drop(thread.join());
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Unreachable("the writing thread has stopped".to_owned())
}

fn write_until_closed(
    connection: &Connection,
    mut commands: mpsc::Receiver<Box<dyn Job>>,
    changes: &broadcast::Sender<ApprovalId>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while commands.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut changed = Vec::new();
        let committed = commit_together(connection, &mut batch, &mut changed);
        if committed.is_ok() {
            for id in changed {
                // Nobody listens: nobody needs to hear.
                drop(changes.send(id));
            }
        }
        for job in batch.drain(..) {
            job.answer(committed.clone());
        }
    }
}

fn commit_together(
    connection: &Connection,
    batch: &mut [Box<dyn Job>],
    changed: &mut Vec<ApprovalId>,
) -> Result<(), StoreError> {
    let done = try_commit_together(connection, batch, changed);
    if done.is_err() && !connection.is_autocommit() {
        // If even this fails, the next transaction cannot begin, and says so.
        drop(connection.execute_batch("ROLLBACK"));
    }
    done
}

fn try_commit_together(
    connection: &Connection,
    batch: &mut [Box<dyn Job>],
    changed: &mut Vec<ApprovalId>,
) -> Result<(), StoreError> {
    let execute = |sql| connection.prepare_cached(sql)?.execute([]);
    execute("BEGIN IMMEDIATE")?;
    for job in batch {
        execute("SAVEPOINT command")?;
        let known = changed.len();
        if !job.run(connection, changed) {
            changed.truncate(known);
            if connection.is_autocommit() {
                // A full disk makes SQLite take back the whole transaction, so nobody's command is kept.
                let reason = "the whole transaction was taken back";
                return Err(StoreError::Unreachable(reason.to_owned()));
            }
            execute("ROLLBACK TO command")?;
        }
        execute("RELEASE command")?;
    }
    execute("COMMIT")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    fn started(settings: &str) -> Arc<Writer> {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE kept (text TEXT NOT NULL) STRICT")
            .unwrap();
        connection.execute_batch(settings).unwrap();
        Arc::new(Writer::start(connection, broadcast::channel(1).0).unwrap())
    }

    /// Keeps `text`, and then fails if it is "bad".
    async fn keep(writer: Arc<Writer>, text: String) -> Result<(), StoreError> {
        let keep = move |connection: &Connection, _: &mut Vec<ApprovalId>| {
            connection.execute("INSERT INTO kept (text) VALUES (?1)", [&text])?;
            match text.as_str() {
                "bad" => Err(StoreError::RuleBroken(text)),
                _ => Ok(()),
            }
        };
        writer.write(keep).await
    }

    async fn kept(writer: &Writer) -> usize {
        let count = |connection: &Connection, _: &mut Vec<ApprovalId>| {
            let count: u32 =
                connection.query_row("SELECT count(*) FROM kept", [], |row| row.get(0))?;
            Ok(usize::try_from(count).unwrap())
        };
        writer.write(count).await.unwrap()
    }

    /// Holds the thread until the sender is dropped, so that what comes then is one batch.
    async fn held(
        writer: &Arc<Writer>,
        tasks: &mut JoinSet<Result<(), StoreError>>,
    ) -> oneshot::Sender<()> {
        let (release, wait) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let writer = Arc::clone(writer);
        tasks.spawn(async move {
            let wait = move |_: &Connection, _: &mut Vec<ApprovalId>| {
                begin.send(()).unwrap();
                drop(wait.blocking_recv());
                Ok(())
            };
            writer.write(wait).await
        });
        begun.await.unwrap();
        release
    }

    /// Waits until `count` commands wait behind the one that holds the thread.
    async fn queued(writer: &Writer, count: usize) {
        let commands = writer.commands.as_ref().unwrap();
        while commands.capacity() != QUEUE - count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_spoils_no_other_of_its_batch() {
        let writer = started("");
        let mut tasks = JoinSet::new();
        let release = held(&writer, &mut tasks).await;
        for text in ["one", "bad", "two", "bad", "three"] {
            tasks.spawn(keep(Arc::clone(&writer), text.to_owned()));
        }
        queued(&writer, 5).await;
        drop(release);
        let results = tasks.join_all().await;
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 2);
        assert_eq!(kept(&writer).await, 3);
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_room_is_all_it_takes() {
        let writer = started("PRAGMA max_page_count = 40");
        let mut tasks = JoinSet::new();
        for n in 0..20_usize {
            tasks.spawn(keep(Arc::clone(&writer), "x".repeat(20_000 + n)));
        }
        let results = tasks.join_all().await;
        let done = results.iter().filter(|result| result.is_ok()).count();
        assert!(done < 20);
        let is_full = |error: &StoreError| matches!(error, StoreError::Unreachable(_));
        assert!(
            results
                .iter()
                .all(|result| result.as_ref().err().is_none_or(is_full))
        );
        assert_eq!(kept(&writer).await, done);
        let make_room = |connection: &Connection, _: &mut Vec<ApprovalId>| {
            connection.pragma_update_and_check(None, "max_page_count", 4000, |_| Ok(()))?;
            Ok(())
        };
        writer.write(make_room).await.unwrap();
        keep(Arc::clone(&writer), "x".repeat(20_000)).await.unwrap();
        assert_eq!(kept(&writer).await, done + 1);
    }

    #[tokio::test]
    async fn what_is_queued_is_done_although_nobody_waits_and_the_writer_ends() {
        let writer = started("");
        let mut tasks = JoinSet::new();
        let release = held(&writer, &mut tasks).await;
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..20 {
            let (writer, done) = (Arc::clone(&writer), Arc::clone(&done));
            let count = move |_: &Connection, _: &mut Vec<ApprovalId>| {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            tasks.spawn(async move { writer.write(count).await });
        }
        queued(&writer, 20).await;
        tasks.shutdown().await;
        drop(release);
        drop(Arc::into_inner(writer).expect("all tasks have gone"));
        assert_eq!(done.load(Ordering::Relaxed), 20);
    }
}
