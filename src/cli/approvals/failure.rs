//! What a call that failed means for the person who made it.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cli::output::visible;

/// The server understood, and says no: the approval or the person is not what the call needs.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::cli) struct Refused(String);

/// A status as an error: [`Refused`] if asking again could not help.
pub(in crate::cli) fn failure(status: &Status) -> anyhow::Error {
    let details = status.get_error_details();
    let reason = details.error_info().map_or_else(
        || format!("{:?}", status.code()),
        |info| info.reason.clone(),
    );
    let message = if status.message().is_empty() {
        "no message"
    } else {
        status.message()
    };
    let sentence = visible(&format!("{reason}: {message}"));
    let is_refused = matches!(
        status.code(),
        Code::NotFound | Code::FailedPrecondition | Code::PermissionDenied
    );
    if is_refused {
        Refused(sentence).into()
    } else {
        anyhow::anyhow!(sentence)
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_says_who_resolved_it_and_when() {
        let mut details = ErrorDetails::new();
        details.set_error_info("ALREADY_RESOLVED", "countersign.v1", []);
        let message =
            "the approval is already DENIED, since 2026-03-01T12:00:00Z, by User::\"yuki\"";
        let status = Status::with_error_details(Code::FailedPrecondition, message, details);
        let error = failure(&status);
        assert!(error.is::<Refused>());
        assert_eq!(error.to_string(), format!("ALREADY_RESOLVED: {message}"));
    }

    #[test]
    fn what_may_work_later_is_no_refusal() {
        let error = failure(&Status::unavailable("gone\u{1b}[2J"));
        assert!(!error.is::<Refused>());
        assert_eq!(error.to_string(), "Unavailable: gone⟨U+001B⟩[2J");
    }
}
