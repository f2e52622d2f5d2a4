//! Reads and compiles a policy directory, on a thread that cannot overflow.

use std::sync::Arc;

use crate::model::PolicyProblem;
use crate::policy::{Bundle, CompileOptions, CompileReport, compile};

use super::ports::PolicySource;

/// The stack for parsing, validating, formatting and dropping policies. Only pages that are used take memory.
pub const LARGE_STACK_BYTES: usize = 256 * 1024 * 1024;

/// Why nothing could be compiled.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory could not be read.
    #[error("{0}")]
    Unreadable(PolicyProblem),
    /// The thread could not be started, or ended without a result.
    #[error("the loading thread failed: {0}")]
    Thread(String),
}

/// Runs `work` on a thread with a stack of 256 MiB and waits for it.
///
/// # Errors
/// When the thread cannot be started, or panics.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, LoadError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("policy-load".to_owned())
            .stack_size(LARGE_STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| LoadError::Thread(error.to_string()))?
            .join()
            .map_err(|_| LoadError::Thread("it panicked".to_owned()))
    })
}

/// Reads `source` and compiles what it holds. Blocks.
///
/// # Errors
/// When the source cannot be read or the thread fails; what is wrong with the policies is in the report.
pub fn load(
    source: &Arc<dyn PolicySource>,
    options: &CompileOptions,
) -> Result<(Bundle, CompileReport), LoadError> {
    on_large_stack(|| {
        let bundle = source.read().map_err(LoadError::Unreadable)?;
        let report = compile(&bundle, options);
        Ok((bundle, report))
    })?
}
