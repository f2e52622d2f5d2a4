//! The one place that asks the system for the time.

use jiff::Timestamp;

use crate::usecase::ports::Clock;

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place that may")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
