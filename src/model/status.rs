//! What is in force, and how the last load went.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PolicyProblem, Posture, ValidationMode};

/// The content digest of a policy directory: the same files always give the same version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyVersion(String);

impl PolicyVersion {
    /// Wraps a digest, 64 hexadecimal digits.
    pub fn new(digest: impl Into<String>) -> Self {
        Self(digest.into())
    }

    /// The digest.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Describes a loaded policy set.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySetInfo {
    /// Which files it was made of.
    pub version: PolicyVersion,
    /// How many permits.
    pub permits: usize,
    /// How many forbids that are not gates.
    pub forbids: usize,
    /// How many gates.
    pub gates: usize,
    /// How many approval rules.
    pub rules: usize,
    /// How many stored entities.
    pub entities: usize,
    /// How many decision cases passed.
    pub cases_passed: usize,
    /// What becomes of errors and missing entities.
    pub posture: Posture,
    /// How the policies were checked.
    pub validation: ValidationMode,
    /// What somebody should look at.
    pub warnings: Vec<PolicyProblem>,
}

/// How an attempt to load the policy directory went.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadAttempt {
    /// When it ended.
    pub time: Timestamp,
    /// Whether the directory was sound.
    pub succeeded: bool,
    /// What was read, if it could be read.
    pub version: Option<PolicyVersion>,
    /// What is wrong, errors first.
    pub problems: Vec<PolicyProblem>,
}
