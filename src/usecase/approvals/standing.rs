//! What a person may do about an approval, by the policies in force and the floors below them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use crate::approval::quorum::{Filling, fill};
use crate::approval::{Approval, Standing};
use crate::model::{EntityRef, Request, Seat};
use crate::policy::{
    ApproveQuestion, Eligibility, Engine, NotEligible, PossibleReviewer, Snapshot,
};

use crate::usecase::ActiveSnapshot;

use super::ApprovalsError;

/// What is asked of people: a request, and the seats that wait for them.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) asked: Request,
    pub(super) seats: Vec<Seat>,
    pub(super) is_escalated: bool,
    pub(super) now: Timestamp,
    /// Which evaluation is trusted with the answer.
    pub(super) engine: Engine,
}

impl Question {
    /// Asks for the seats of `approval`.
    pub(super) fn of(approval: &Approval, active: &ActiveSnapshot, now: Timestamp) -> Self {
        Self {
            asked: approval.asked.request.clone(),
            seats: approval.seats().into_keys().collect(),
            is_escalated: approval.is_escalated_at(now),
            now,
            engine: active.engine(),
        }
    }
}

/// What a person may do, and whether that is certain.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) standing: Standing,
    /// What cannot be told now. It makes nobody eligible; it is no proof that somebody is not.
    pub(super) doubt: Option<String>,
}

/// What `account` may do. Whoever belongs to the requester's side is barred, whatever policies say; if that side cannot be read,
/// nobody is eligible.
pub(super) fn standing_of(
    snapshot: &Snapshot,
    question: &Question,
    account: &EntityRef,
) -> Standing {
    judge(snapshot, question, account).standing
}

/// What `account` may do, and whether that is certain.
pub(super) fn judge(snapshot: &Snapshot, question: &Question, account: &EntityRef) -> Judged {
    let closure = match snapshot.requester_closure(&question.asked) {
        Ok(closure) => closure,
        Err(problem) => {
            let why = format!("it cannot be told who belongs to the requester's side: {problem}");
            return Judged {
                standing: Standing::NotEligible(why.clone()),
                doubt: Some(why),
            };
        }
    };
    let person = snapshot.person_of(account);
    if let Some(why) = closure
        .contains(account)
        .or_else(|| closure.contains(&person))
    {
        return Judged {
            standing: Standing::Barred(format!("`{account}` {why}")),
            doubt: None,
        };
    }
    let mut seats = BTreeSet::new();
    let mut refused = None;
    let mut doubt = None;
    for seat in &question.seats {
        let asked = ApproveQuestion {
            asked: &question.asked,
            reviewer: account,
            seat,
            is_escalated: question.is_escalated,
            now: question.now,
        };
        match snapshot.eligibility_by(&asked, question.engine) {
            Eligibility::Eligible { .. } => {
                seats.insert(seat.clone());
            }
            Eligibility::NotEligible { why } => {
                if let NotEligible::Error { .. } = why {
                    doubt = doubt.or_else(|| Some(why.to_string()));
                }
                refused = refused.or(Some(why));
            }
        }
    }
    let standing = if seats.is_empty() {
        let why = refused.map_or_else(
            || "there is no seat to fill".to_owned(),
            |why| why.to_string(),
        );
        Standing::NotEligible(format!("`{account}` may not approve this: {why}"))
    } else {
        Standing::MayFill(seats)
    };
    Judged { standing, doubt }
}

/// Everybody who could fill a seat, and how far they could fill them all.
pub(super) fn reviewers(
    snapshot: &Snapshot,
    question: &Question,
    seats: &BTreeMap<Seat, u32>,
) -> (Vec<PossibleReviewer>, Filling) {
    let reviewers = snapshot.possible_reviewers(
        &question.asked,
        &question.seats,
        question.is_escalated,
        question.now,
    );
    let wishes: Vec<&BTreeSet<Seat>> = reviewers.iter().map(|reviewer| &reviewer.seats).collect();
    let filling = fill(seats, &wishes);
    (reviewers, filling)
}

/// Runs `work` where it stalls no serving thread: policies are evaluated for every person there is.
pub(super) async fn apart<T: Send + 'static>(
    snapshot: &Arc<Snapshot>,
    work: impl FnOnce(&Snapshot) -> T + Send + 'static,
) -> Result<T, ApprovalsError> {
    let snapshot = Arc::clone(snapshot);
    let work = tokio::task::spawn_blocking(move || work(&snapshot));
    // What nobody waits for any more is not begun.
    AbortOnDropHandle::new(work)
        .await
        .map_err(|_| ApprovalsError::EvaluationLost)
}
