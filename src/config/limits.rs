//! What a server can be told about how much callers may take of it.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::grpc::FairSettings;

use super::to_std;

/// As many as sixteen connections may have open: who has more is told so, which costs about as much as a decision.
const WAITING_PER_CALLER: usize = 4_096;

/// How much callers may take of the server.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// How many connections one caller may have. Callers without a credential are told apart by their addresses.
    pub connections_per_caller: usize,
    /// How many connections may be at their TLS handshake.
    pub handshakes: usize,
    /// How long a call may wait for its turn while other callers are served.
    pub longest_wait: SignedDuration,
    /// How many calls of one caller may wait on one serving thread.
    pub waiting_per_caller: usize,
    /// How many calls may wait on one serving thread.
    pub waiting: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let fair = FairSettings::default();
        Self {
            connections_per_caller: 1_000,
            handshakes: 1_024,
            longest_wait: SignedDuration::try_from(fair.max_wait).unwrap_or(SignedDuration::MAX),
            waiting_per_caller: WAITING_PER_CALLER,
            waiting: fair.max_waiting,
        }
    }
}

impl LimitsConfig {
    /// How callers share a serving thread.
    pub fn fair_settings(&self) -> FairSettings {
        FairSettings {
            max_wait: to_std(self.longest_wait),
            standing_after: to_std(self.longest_wait),
            max_waiting_per_caller: self.waiting_per_caller,
            max_waiting: self.waiting,
            ..FairSettings::default()
        }
    }

    /// What is wrong with it: the key and why.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        let zero = [
            ("limits.connections_per_caller", self.connections_per_caller),
            ("limits.handshakes", self.handshakes),
            ("limits.waiting_per_caller", self.waiting_per_caller),
            ("limits.waiting", self.waiting),
        ];
        if let Some((key, _)) = zero.into_iter().find(|(_, count)| *count == 0) {
            return Some((key, "is 0".to_owned()));
        }
        let is_short = !self.longest_wait.is_positive();
        is_short.then(|| {
            (
                "limits.longest_wait",
                "is not longer than nothing".to_owned(),
            )
        })
    }
}
