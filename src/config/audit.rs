//! What a server can be told about the audit log.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::usecase::decision_log::OnFailure;

use super::witness::WitnessConfig;

/// Where the audit log is kept, and what happens when it cannot be.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Whether decisions are recorded at all.
    pub enabled: bool,
    /// The folder of the log. Made if it is not there.
    pub path: PathBuf,
    /// The name of the cluster in the log's origins; none for a name made from the first key. Fixed at the first start.
    pub cluster: Option<String>,
    /// What becomes of decisions while none can be recorded.
    pub on_failure: FailureChoice,
    /// How long a decision waits for room at most, where they wait.
    pub wait: SignedDuration,
    /// How long decisions are gathered before they are written.
    pub commit_interval: SignedDuration,
    /// How many bytes wait to be written, for each serving thread.
    pub buffer_bytes: usize,
    /// How large a file of the log becomes.
    pub segment_bytes: u64,
    /// How long a file of the log is written to.
    pub segment_age: SignedDuration,
    /// Who may read the log through the API: persons by the name their identity provider gives them, or `*` for whoever signs in.
    pub readers: Vec<String>,
    /// How long records of decisions are kept at least; 0 for ever. The control log is always kept.
    pub keep_for: SignedDuration,
    /// Where copies of the control log's checkpoints go, outside of everything that is verified with them; empty for nowhere.
    pub heads: PathBuf,
    /// How often.
    pub heads_interval: SignedDuration,
    /// Who cosigns the control log's checkpoints, by name; the cosigned ones are kept beside the heads.
    pub witness: BTreeMap<String, WitnessConfig>,
}

/// What becomes of decisions while none can be recorded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FailureChoice {
    /// They wait for a moment; then the call fails.
    #[default]
    Deny,
    /// The call fails at once.
    Shed,
    /// They are answered, counted, and declared as lost.
    Count,
}

impl From<FailureChoice> for OnFailure {
    fn from(choice: FailureChoice) -> Self {
        match choice {
            FailureChoice::Deny => Self::Deny,
            FailureChoice::Shed => Self::Shed,
            FailureChoice::Count => Self::Count,
        }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            path: PathBuf::from("countersign-data/audit"),
            cluster: None,
            on_failure: FailureChoice::Deny,
            wait: SignedDuration::from_millis(50),
            commit_interval: SignedDuration::from_millis(5),
            buffer_bytes: 4 * 1024 * 1024,
            segment_bytes: 256 * 1024 * 1024,
            segment_age: SignedDuration::from_hours(1),
            readers: Vec::new(),
            keep_for: SignedDuration::ZERO,
            heads: PathBuf::from("countersign-heads.txt"),
            heads_interval: SignedDuration::from_secs(60),
            witness: BTreeMap::new(),
        }
    }
}

impl AuditConfig {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first key with a value that cannot be used, and what to do.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let is_short = |duration: SignedDuration| duration <= SignedDuration::ZERO;
        if is_short(self.commit_interval) || self.commit_interval > SignedDuration::from_secs(1) {
            return Err((
                "audit.commit_interval",
                "is more than 0 and at most 1 second".to_owned(),
            ));
        }
        if self.wait < SignedDuration::ZERO || self.wait > SignedDuration::from_secs(5) {
            return Err(("audit.wait", "is from 0 to 5 seconds".to_owned()));
        }
        if self.buffer_bytes < 256 * 1024 {
            return Err(("audit.buffer_bytes", "is at least 262144".to_owned()));
        }
        if self.segment_bytes < 64 * 1024 {
            return Err(("audit.segment_bytes", "is at least 65536".to_owned()));
        }
        if is_short(self.segment_age) || is_short(self.heads_interval) {
            return Err((
                "audit.segment_age",
                "and `audit.heads_interval` are more than 0".to_owned(),
            ));
        }
        if self.keep_for.is_negative() {
            return Err(("audit.keep_for", "is not negative".to_owned()));
        }
        let is_name = |name: &String| {
            !name.is_empty()
                && name.len() <= 100
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-._/".contains(c))
        };
        if self.cluster.as_ref().is_some_and(|name| !is_name(name)) {
            return Err((
                "audit.cluster",
                "has letters, digits, `-`, `.`, `_` and `/`, at most 100".to_owned(),
            ));
        }
        if !self.witness.is_empty() && self.heads.as_os_str().is_empty() {
            return Err((
                "audit.heads",
                "is where cosignatures are kept: it is not empty where there is an `audit.witness`"
                    .to_owned(),
            ));
        }
        super::witness::check(&self.witness).map_err(|message| ("audit.witness", message))?;
        if !self.heads.as_os_str().is_empty() && self.heads.starts_with(&self.path) {
            return Err((
                "audit.heads",
                "is outside of `audit.path`: a copy beside the original proves nothing".to_owned(),
            ));
        }
        Ok(())
    }
}
