//! Adapters to disks: the policy directory, and the stores of approvals.
//!
//! Place: floor 3.
//! Never: a judgement about what a policy means.

mod approval_rows;
mod approval_texts;
mod delivery_rows;
pub mod memory;
pub mod policy_dir;
pub mod postgres;
pub mod sqlite;
