//! Adapters to disks: the policy directory, the stores of approvals, the audit log.
//!
//! Place: floor 3.
//! Never: a judgement about what a policy means.

mod approval_rows;
mod approval_texts;
pub mod audit_folder;
pub mod audit_keys;
pub mod decision_log;
mod delivery_rows;
pub mod log_folder;
pub mod memory;
pub mod policy_dir;
pub mod postgres;
pub mod sqlite;
