//! What a server can be told about metrics and traces. Where they go is told by the `OTEL_…` variables, as everywhere.

use serde::{Deserialize, Serialize};

/// What is told of the server to others.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Of calls that come without a trace: the part that begins one, from 0 to 1. Others go by what their trace says.
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { sample_ratio: 0.01 }
    }
}

impl TelemetryConfig {
    /// What is wrong with it: the key and why.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        let is_ratio = (0.0..=1.0).contains(&self.sample_ratio);
        (!is_ratio).then(|| {
            (
                "telemetry.sample_ratio",
                format!("`{}` is not between 0 and 1", self.sample_ratio),
            )
        })
    }
}
