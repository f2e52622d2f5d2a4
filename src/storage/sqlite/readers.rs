//! A few connections that read, beside the one that writes. They never wait for it, nor it for them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::usecase::approval_store::StoreError;

use super::open::{SqliteOpenError, open_reader};

/// How many read at once.
const READERS: usize = 4;

/// Connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// As many permits as there are connections.
    turns: Arc<Semaphore>,
}

impl Readers {
    /// Opens them all.
    pub(super) fn open(path: &Path) -> Result<Self, SqliteOpenError> {
        let connections: Result<Vec<_>, _> = (0..READERS).map(|_| open_reader(path)).collect();
        Ok(Self {
            idle: Arc::new(Mutex::new(connections?)),
            turns: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Reads, on a thread that may block.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let closed = || StoreError::Unreachable("the readers are closed".to_owned());
        let turn = Arc::clone(&self.turns);
        let turn = turn.acquire_owned().await.map_err(|_| closed())?;
        let idle = Arc::clone(&self.idle);
        let reading = tokio::task::spawn_blocking(move || {
            let connection = take(&idle).ok_or_else(closed)?;
            let answer = read(&connection);
            give_back(&idle, connection);
            drop(turn);
            answer
        });
        reading
            .await
            .map_err(|error| StoreError::Unreachable(error.to_string()))?
    }
}

fn take(idle: &Mutex<Vec<Connection>>) -> Option<Connection> {
    idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn give_back(idle: &Mutex<Vec<Connection>>, connection: Connection) {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    idle.push(connection);
}
