//! What the use cases need from whoever keeps the log of decisions.
//!
//! INVARIANT (logged-or-no-answer): a decision is answered after its record was accepted, never before. Only a log that was told to
//! count (`OnFailure::Count`) accepts what it cannot keep, and then says so.

use std::fmt;
use std::sync::OnceLock;

use crate::model::Decision;

use super::ports::PortFuture;

/// What becomes of decisions while their log takes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// They wait for a moment; then the call fails.
    #[default]
    Deny,
    /// The call fails at once.
    Shed,
    /// They are answered, counted, and declared as lost in the log as soon as it takes records again.
    Count,
}

/// Whether a decision is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// It is, or will be within milliseconds.
    Kept,
    /// It is not; it was counted.
    Counted,
}

/// A record finds no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// A record cannot be kept. Whether it is in the log is unknown if it was to be durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the decision cannot be recorded: {0}")]
pub struct LogUnavailable(pub String);

/// Keeps the decisions of this replica.
pub trait DecisionLog: fmt::Debug + Send + Sync {
    /// Appends the one record that `write` puts at the end of the buffer it is given, without waiting. It is on the disk within
    /// milliseconds, unless the process is killed before. `write` is called once, or not at all if there is no room.
    ///
    /// # Errors
    /// [`NoRoom`]: ask again by [`DecisionLog::append_waiting`].
    fn append(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Result<(), NoRoom>;

    /// Whether records can be kept now, as far as that can be known beforehand.
    ///
    /// # Errors
    /// [`LogUnavailable`].
    fn ready(&self) -> Result<(), LogUnavailable>;

    /// Appends `record`, the record of a decision that answers `decision`; waits for room, but not long, and if it is to be durable
    /// until it is on the disk.
    ///
    /// # Errors
    /// [`LogUnavailable`]: the decision must not be answered.
    fn append_waiting(
        &self,
        decision: Decision,
        record: Vec<u8>,
        is_durable: bool,
    ) -> PortFuture<'_, Result<Logged, LogUnavailable>>;
}

/// Stops all decisions for good, when the log is found to have been changed behind this program's back.
#[derive(Debug, Default)]
pub struct Seal(OnceLock<String>);

impl Seal {
    /// Seals. The first reason stays.
    pub fn set(&self, reason: String) {
        if self.0.set(reason).is_ok() {
            tracing::error!(
                reason = self.reason().unwrap_or_default(),
                "the audit log was changed from outside: nothing is decided any more until somebody has looked"
            );
        }
    }

    /// Why it is sealed, if it is.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
