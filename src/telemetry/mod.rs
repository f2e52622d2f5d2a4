//! Logs on standard error.
//!
//! Place: floor 4.
//! Never: a token, a context or an attribute's value in a log line.

use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;

/// Why logs cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("`log.filter`: `{filter}` is not a filter")]
    BadFilter {
        /// What was given.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else writes them already.
    #[error("logs were set up twice")]
    SetUpTwice,
}

/// Starts to write logs, once for the process.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter =
        EnvFilter::try_new(&config.filter).map_err(|source| TelemetryError::BadFilter {
            filter: config.filter.clone(),
            source,
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = if config.format == "json" {
        builder.json().flatten_event(true).try_init()
    } else {
        builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init()
    };
    started.map_err(|_| TelemetryError::SetUpTwice)
}
