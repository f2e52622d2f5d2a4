//! Why a webhook was not delivered.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest that a receiver can make us wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a webhook was not delivered. Names no URL: it can hold a token.
#[derive(Debug, thiserror::Error)]
pub enum WebhookFailure {
    /// The message's id could not stand in a header, or could be mistaken for more than an id in what is signed.
    #[error("the message's id is not 1 to 128 letters, digits, `_` or `-`")]
    BadMessageId,
    /// The host leads to an address that is not on the public internet.
    #[error("the host leads to `{address}`, which is not a public address")]
    Refused {
        /// The first such address.
        address: IpAddr,
    },
    /// The host leads nowhere.
    #[error("the host has no address")]
    Unresolved {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There was no connection, no secure one, or no answer on it.
    #[error("the receiver cannot be reached")]
    Unreachable {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// There was no answer in time.
    #[error("the receiver did not answer in time")]
    TimedOut,
    /// The receiver answered that it did not take it, or sent us elsewhere.
    #[error("the receiver answered with status {code}")]
    Status {
        /// The HTTP status: neither 2xx nor 410.
        code: u16,
        /// For how long it asks not to be asked again; at most 24 hours.
        retry_after: Option<Duration>,
    },
    /// The receiver wants nothing any more (410): the endpoint should be disabled.
    #[error("the receiver is gone for good")]
    Gone,
}

impl WebhookFailure {
    /// Reads an answer; none if it is a success.
    pub(super) fn of_answer(
        status: StatusCode,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Self> {
        if status.is_success() {
            return None;
        }
        if status == StatusCode::GONE {
            return Some(Self::Gone);
        }
        let text = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        Some(Self::Status {
            code: status.as_u16(),
            retry_after: text.and_then(|text| parse_retry_after(text, now)),
        })
    }

    pub(super) fn of_transport(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        Self::Unreachable {
            source: error.without_url(),
        }
    }

    /// Whether trying again is of no use before someone changes something. Any status but 410 may be a receiver's passing fault.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::BadMessageId | Self::Refused { .. } | Self::Gone => true,
            Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut
            | Self::Status { .. } => false,
        }
    }

    /// For how long the receiver asked not to be asked again; at most 24 hours.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::BadMessageId
            | Self::Refused { .. }
            | Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut
            | Self::Gone => None,
        }
    }
}

/// Reads seconds or an HTTP date; none if it is neither.
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let at = DateTimeParser::new().parse_timestamp(text).ok()?;
        // A moment that has passed is no wait.
        Duration::try_from(at.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_a_day_at_most() {
        let now: Timestamp = "2026-11-06T08:49:37Z".parse().unwrap();
        let day = Some(MAX_RETRY_AFTER);
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("120", Some(Duration::from_secs(120))),
            (" 7 ", Some(Duration::from_secs(7))),
            ("86401", day),
            ("99999999999999999999999999", day),
            (
                "Fri, 06 Nov 2026 08:51:37 GMT",
                Some(Duration::from_secs(120)),
            ),
            ("Fri, 06 Nov 2026 08:49:36 GMT", Some(Duration::ZERO)),
            ("Wed, 06 Nov 2999 08:49:37 GMT", day),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(parse_retry_after(text, now), expected, "{text}");
        }
    }
}
