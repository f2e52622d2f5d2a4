//! The life of an approval: what waits for humans, their votes, and the one use of what they approve.
//!
//! Place: floor 1, pure: an approval, an event and the time in; a new approval, what must be told and what must be recorded out.
//! Never: async, a clock, randomness, a file or a socket; no state but what it is given.
//!
//! [`Approval::open`] begins one, [`Approval::apply`] is the only way on, and [`flood::judge`] says whether another may begin.

#![warn(clippy::arithmetic_side_effects, clippy::as_conversions)]

mod closed;
mod code_points;
mod digest;
mod event;
pub mod flood;
mod pairs;
pub mod quorum;
mod record;
mod redeeming;
mod safe_text;
mod shorten;
mod state;
mod transition;
mod view;
mod voting;

pub use closed::{Cause, Closed, ReportedOutcome, Status};
pub use digest::{Digest, ExtensionTexts, NotADigest, request_digest};
pub use event::{
    Actor, Ballot, Choice, Event, Person, RedeemAttempt, Refusal, Standing, Voter, Withdrawal,
};
pub use record::{ControlRecord, Happening};
pub use safe_text::SafeText;
pub use shorten::{Shortened, shorten};
pub use state::{
    Approval, ApprovalId, Asked, FrozenRequirement, Grant, Opening, Redemption, Resolution, State,
    Timers, Vote, seats_of,
};
pub use transition::Transition;
pub use view::{Fact, Reason, View, ViewWords, path_step};
