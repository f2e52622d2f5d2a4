//! Adapters to disks: the policy directory.
//!
//! Place: floor 3.
//! Never: a judgement about what a policy means.

pub mod policy_dir;
