//! Runs what talks to a server.

use anyhow::Context;

/// Runs `work` to its end on this thread.
///
/// # Errors
/// When there can be no runtime, or as `work` does.
pub(super) fn in_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(8 * 1024 * 1024)
        .build()
        .context("the runtime cannot be started")?
        .block_on(work)
}
