//! The audit log: what is recorded, the tree over it, and the proof that nothing was changed.
//!
//! Place: floor 1, above `approval`, whose events it records and replays: values in, values out.
//! Never: async, a clock, randomness, a file or a socket. A record is encoded once; what was stored is never encoded again.

pub mod checkpoint;
pub mod control_record;
pub mod cosignature;
pub mod decision_record;
mod encode;
pub mod filter;
pub mod keys;
pub mod note;
pub mod proof;
pub mod proto;
mod record_values;
pub mod redaction;
pub mod refusal_record;
pub mod story;
pub mod tile;
pub mod tree;
pub mod verify;
