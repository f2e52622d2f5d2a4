//! What one caller may take of a server: its share of a core, its rate, and how many calls it may have under way.
//!
//! Place: floor 3. Whose call it is, and which limits that caller has, is told by whoever serves the call.
//! Never: a decision, or work for a call that is turned away.

mod caller;
mod fair_gate;
mod rates;
mod turns;

pub use caller::CallerKey;
pub use fair_gate::{Entering, FairGate};
pub use rates::{CallerLimits, Limit, Limited, Permit, RateSettings};
pub use turns::{FairSettings, Pass, TurnedAway};
