//! How long a call keeps its thread busy.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

pin_project! {
    /// Answers beside the output how long it was worked on; waiting does not count.
    pub(super) struct Timed<F> {
        #[pin]
        work: F,
        busy: Duration,
    }
}

impl<F> Timed<F> {
    pub(super) fn new(work: F) -> Self {
        Self {
            work,
            busy: Duration::ZERO,
        }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = (F::Output, Duration);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let timed = self.project();
        let since = Instant::now();
        let polled = timed.work.poll(cx);
        *timed.busy = timed.busy.saturating_add(since.elapsed());
        polled.map(|output| (output, *timed.busy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_no_work() {
        let wait = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            7
        };
        let (seven, busy) = Timed::new(wait).await;
        assert_eq!(seven, 7);
        assert!(busy < Duration::from_millis(40), "{busy:?}");
    }
}
