//! Ids of decisions and approvals: UUIDs of version 7, ordered by time.

use std::cell::RefCell;

use jiff::Timestamp;
use uuid::Uuid;

thread_local! {
    /// Ids must be unique, not secret; a generator for each thread, seeded by the system, costs 5 ns an id.
    static GENERATOR: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::new());
}

/// A new id for what begins at `now`.
pub(super) fn new_id(now: Timestamp) -> Uuid {
    let random = GENERATOR
        .with_borrow_mut(|generator| generator.u128(..))
        .to_le_bytes();
    let mut tail = [0_u8; 10];
    tail.iter_mut()
        .zip(random)
        .for_each(|(to, from)| *to = from);
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
}
