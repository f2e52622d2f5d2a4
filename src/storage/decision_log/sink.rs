//! What the writing thread needs from a log, and from whoever opens one.

use crate::audit::tree::TreeHash;

use super::round::RoundRecords;

/// How far a log is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Which log.
    pub incarnation: String,
    /// How many records it has.
    pub size: u64,
    /// The root of the tree over them.
    pub root: TreeHash,
}

/// A log that can no longer be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLog {
    /// What is known to be durable. There may be more.
    pub head: LogHead,
    /// What went wrong.
    pub reason: String,
}

/// A log cannot be written, or not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// Where records go: the log of one incarnation. All calls come from one thread and may block.
///
/// After the first error it is only asked for its head, and dropped.
pub trait LogSink: Send {
    /// Appends the records in their order; they are durable when this answers.
    ///
    /// # Errors
    /// Why they are not all durable; some may be. They are all written again, to the next log.
    fn append_round(&mut self, records: &RoundRecords<'_>) -> Result<(), SinkError>;

    /// Signs and keeps a checkpoint of what is durable. May be called again for the same size.
    ///
    /// # Errors
    /// Why it is not kept.
    fn checkpoint(&mut self) -> Result<(), SinkError>;

    /// How far the log is durable; after an error too.
    fn head(&self) -> LogHead;

    /// Ends the log as it should end. Answers its last head.
    ///
    /// # Errors
    /// Why it may look as if it had ended otherwise.
    fn close(self: Box<Self>) -> Result<LogHead, SinkError>;
}

/// Opens the next log. All calls come from the writing thread and may block; records wait in their buffers meanwhile.
pub trait OpenLog: Send {
    /// Opens a log that did not exist before, and makes it known. `failed` is the log before it, if that had to be given up; it is named
    /// again if this call fails.
    ///
    /// # Errors
    /// Why there is none now. It is tried again.
    fn open(&mut self, failed: Option<FailedLog>) -> Result<Box<dyn LogSink>, SinkError>;
}
