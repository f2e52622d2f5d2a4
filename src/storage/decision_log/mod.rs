//! The log of decisions in this process: buffers that serving threads append to, and one thread that writes them, many at a time.
//!
//! A record is encoded straight into the buffer of the thread that decided. The writing thread exchanges all buffers for empty
//! ones, hands what they held to a [`LogSink`] as one round, and answers whoever waits for one of its records. When the sink fails, it
//! keeps the round, refuses new records, and opens the next log, in which the round comes first.
//!
//! Place: floor 3; implements the port `DecisionLog`. What a log is made of on disk stays behind [`LogSink`] and [`OpenLog`].
//! Never: a decision, a file, a key or the system clock; a wait on a serving thread for anything but its own buffer's lock.
//!
//! INVARIANT (nothing-vanishes): accepted = logged + lost, once the log has stopped. A buffer is closed under the lock that appends take,
//! so no record can arrive behind the last look into it.
//! INVARIANT (kept-first): while a round is not durable, no other is taken. So records keep the order of their thread, and memory is
//! bounded by two buffers a shard.

mod bell;
mod buffers;
mod log;
mod losses;
mod round;
mod settings;
mod shared;
mod sink;
mod thread;
mod writer;

pub use log::BufferedLog;
pub use round::RoundRecords;
pub use settings::DecisionLogSettings;
pub use shared::DecisionLogStats;
pub use sink::{FailedLog, LogHead, LogSink, OpenLog, SinkError};
pub use thread::{DecisionLogThread, LogSummary};
pub use writer::DecisionLogWriter;
