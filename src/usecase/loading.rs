//! Runs what parses policies on a thread that cannot overflow.

/// The stack for parsing, validating, formatting and dropping policies. Only pages that are used take memory.
pub const LARGE_STACK_BYTES: usize = 256 * 1024 * 1024;

/// Why the work could not be done.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
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
