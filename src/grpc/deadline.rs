//! The caller's deadline, kept inside the handler.
//!
//! A transport that cuts a call off answers CANCELLED, which a client takes for its own doing; the answer here is `DEADLINE_EXCEEDED`.

use std::future::Future;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::Request;

use super::access::Access;
use super::status::ClientError;

/// The caller's deadline, if it set one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// None.
    pub(super) const NONE: Self = Self(None);

    /// The deadline of the call that `request` belongs to, from when it came.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let access = request.extensions().get::<Access>();
        access.map_or_else(
            || Self::of_headers(request.metadata().as_ref(), Instant::now()),
            |access| access.deadline,
        )
    }

    /// Reads `grpc-timeout` of a call that came at `since`; one that cannot be read is as good as none, as gRPC servers have it.
    pub(super) fn of_headers(headers: &HeaderMap, since: Instant) -> Self {
        let timeout = headers
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(parse);
        Self(timeout.and_then(|timeout| since.checked_add(timeout)))
    }

    /// When it passes, if there is one.
    pub(super) fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Whether it has passed.
    pub(super) fn has_passed(self) -> bool {
        self.0.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Runs `work`, but not past the deadline.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED`, also when the work was done but too late.
    pub(super) async fn keep<T>(self, work: impl Future<Output = T>) -> Result<T, ClientError> {
        let Some(deadline) = self.0 else {
            return Ok(work.await);
        };
        let done = tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| ClientError::deadline_exceeded())?;
        if self.has_passed() {
            return Err(ClientError::deadline_exceeded());
        }
        Ok(done)
    }
}

/// Reads up to eight digits and a unit, as gRPC writes a timeout.
fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(unit_at)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount.saturating_mul(3_600))),
        "M" => Some(Duration::from_secs(amount.saturating_mul(60))),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(parse("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse("1u"), Some(Duration::from_micros(1)));
        for bad in ["", "m", "1", "-1S", "123456789S", "1é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
