//! Follows an approval from version to version, across interruptions.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::cli::output::{say, visible_line};
use crate::grpc::proto::{Approval, WatchApprovalRequest};

use super::clock::{Moment, WallClock};
use super::connection::Session;
use super::failure::failure;
use super::words::{choice_word, coloured, is_over, progress, voter};

/// The first pause after an interruption; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many attempts in a row may bring nothing and break at once.
const MAX_ATTEMPTS: u32 = 10;

/// Calls `show` with every version of the approval, until it breaks or nothing can change any more. Answers the last.
///
/// # Errors
/// What the server refuses; and when it stays away for long.
pub(in crate::cli) async fn follow(
    session: &Session,
    id: &str,
    mut show: impl FnMut(&Approval) -> ControlFlow<()>,
) -> anyhow::Result<Approval> {
    let mut seen = 0;
    let mut attempts = 0;
    loop {
        let before = seen;
        let began = Instant::now();
        let interruption = match stream(session, id, &mut seen, &mut show).await {
            Ok(Some(last)) => return Ok(last),
            Ok(None) => "the stream ended".to_owned(),
            Err(status) if is_interruption(&status) => visible_line(status.message()),
            Err(status) => return Err(failure(&status)),
        };
        let was_worth_it = seen > before || began.elapsed() > LONGEST_PAUSE;
        attempts = if was_worth_it { 1 } else { attempts + 1 };
        if attempts > MAX_ATTEMPTS {
            bail!("the server stays away: {interruption}");
        }
        let pause = pause(attempts);
        say(&format!(
            "{interruption}; trying again in {} s",
            pause.as_secs()
        ));
        tokio::time::sleep(pause).await;
    }
}

/// A connection that breaks in the middle of a stream shows as UNKNOWN, which the server itself never sends.
fn is_interruption(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown)
}

fn pause(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(5);
    (PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
}

/// Shows the versions after `seen`. Answers the last one wanted; none if the stream ended before.
async fn stream(
    session: &Session,
    id: &str,
    seen: &mut u64,
    show: &mut impl FnMut(&Approval) -> ControlFlow<()>,
) -> Result<Option<Approval>, Status> {
    let request = session.request(WatchApprovalRequest {
        id: id.to_owned(),
        since_version: *seen,
    });
    let mut versions = session.client().watch_approval(request).await?.into_inner();
    while let Some(response) = versions.message().await? {
        let Some(approval) = response.approval else {
            continue;
        };
        *seen = approval.version;
        if show(&approval).is_break() || is_over(approval.status()) {
            return Ok(Some(approval));
        }
    }
    Ok(None)
}

/// One version in one line: when, status, progress, what happened last.
pub(in crate::cli) fn version_line(approval: &Approval, clock: &WallClock) -> String {
    let (moment, what) = last_change(approval);
    format!(
        "{}  {}  {}  {}",
        clock.absolute(moment),
        coloured(approval.status()),
        progress(approval),
        visible_line(&what)
    )
}

/// The latest of what the approval says of itself; a version may be newer than that.
fn last_change(approval: &Approval) -> (Option<Moment>, String) {
    if let Some(redemption) = &approval.redemption {
        let moment = redemption.redeem_time.as_ref();
        let what = format!("redeemed by decision {}", redemption.decision_id);
        return (moment.map(|t| (t.seconds, t.nanos)), what);
    }
    if let Some(closing) = &approval.closing {
        let moment = closing.close_time.as_ref();
        let what = format!("ended by {}", closing.by);
        return (moment.map(|t| (t.seconds, t.nanos)), what);
    }
    if let Some(vote) = approval.votes.last() {
        let moment = vote.vote_time.as_ref();
        let what = format!("{} {}", voter(vote), choice_word(vote.choice()));
        return (moment.map(|t| (t.seconds, t.nanos)), what);
    }
    let moment = approval.open_time.as_ref();
    let what = match approval.joined {
        0 => "opened".to_owned(),
        joined => format!("opened, asked again {joined} times"),
    };
    (moment.map(|t| (t.seconds, t.nanos)), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses = [1, 2, 5, 6, 10].map(|attempts| pause(attempts).as_secs());
        assert_eq!(pauses, [1, 2, 16, 30, 30]);
    }

    #[test]
    fn only_a_lost_connection_is_tried_again() {
        assert!(is_interruption(&Status::unavailable("")));
        assert!(is_interruption(&Status::unknown("h2")));
        assert!(!is_interruption(&Status::not_found("")));
        assert!(!is_interruption(&Status::unimplemented("")));
    }
}
