//! How the decision log buffers, commits and waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::usecase::decision_log::OnFailure;

/// How the decision log buffers, commits and waits.
#[derive(Clone)]
pub struct DecisionLogSettings {
    /// How many buffers there are: as many as threads append, and a few more. At least 1; 0 is taken as 1.
    pub shards: usize,
    /// How large a buffer is, in bytes. There are two for each shard. At least 128 KiB; less is taken as that.
    pub buffer_bytes: usize,
    /// How long a record waits at most until its round begins, while the log is in use. An idle log begins at once.
    pub commit_interval: Duration,
    /// How long a caller waits for room; and, after a failure, for its record to become durable after all.
    pub wait: Duration,
    /// What becomes of records that find no room.
    pub on_failure: OnFailure,
    /// How often a log that grows gets a checkpoint.
    pub checkpoint_interval: Duration,
    /// The least time between two attempts to open a log.
    pub retry: Duration,
    /// Tells the time, in microseconds since 1970.
    pub now_us: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl DecisionLogSettings {
    /// What is usual, for `shards` threads that append.
    pub fn new(shards: usize, now_us: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        Self {
            shards,
            buffer_bytes: 4 << 20,
            commit_interval: Duration::from_millis(5),
            wait: Duration::from_millis(50),
            on_failure: OnFailure::default(),
            checkpoint_interval: Duration::from_secs(1),
            retry: Duration::from_secs(1),
            now_us,
        }
    }
}

impl fmt::Debug for DecisionLogSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionLogSettings")
            .field("shards", &self.shards)
            .field("buffer_bytes", &self.buffer_bytes)
            .field("commit_interval", &self.commit_interval)
            .field("wait", &self.wait)
            .field("on_failure", &self.on_failure)
            .field("checkpoint_interval", &self.checkpoint_interval)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
