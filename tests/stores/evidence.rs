//! What evidence must show of a store.

use countersign::approval::{Approval, ApprovalId, Choice, ControlRecord};
use countersign::audit::tree::{Frontier, leaf_hash};
use countersign::usecase::evidence::{ApprovalEvidence, Evidence, RedemptionRow, VoteRow};

use crate::backends::Kept;
use crate::logging::{lease, sequence};
use crate::support::{CALLER, ask, at, done, found, no, redeem, refused, yes};

/// What a store was made to hold.
pub(crate) struct Written {
    approvals: Vec<Approval>,
    records: Vec<ControlRecord>,
    /// How many of them have a place.
    placed: usize,
}

/// Three approvals: `a` denied by a changed mind, `b` redeemed, `c` waiting; half of the records have a place.
pub(crate) async fn written(kept: &Kept) -> Written {
    let store = &kept.store;
    let first = ask("a").quorum(2).open(store, 0).await;
    let second = ask("b").quorum(2).open(store, 0).await;
    let third = ask("c").open(store, 0).await;
    done(store, yes(&first, "ada"), 1).await;
    done(store, yes(&second, "bob"), 2).await;
    done(store, no(&first, "ada"), 3).await;
    done(store, yes(&second, "ada"), 4).await;
    done(store, redeem(&second, "k"), 5).await;
    refused(store, yes(&third, "owner"), 6).await;
    let pending = kept.log.pending(0, 100).await.unwrap();
    let records: Vec<ControlRecord> = pending
        .iter()
        .map(|each| serde_json::from_slice(&each.bytes).unwrap())
        .collect();
    let epoch = lease(kept, "one", 0).await.unwrap();
    let placed = sequence(kept, "one", epoch, 4).await.unwrap();
    let mut approvals = Vec::new();
    for id in [&first.id, &second.id, &third.id] {
        approvals.push(found(store, id).await);
    }
    Written {
        approvals,
        records,
        placed,
    }
}

/// All approvals that there are, one at a time.
pub(crate) fn ids(evidence: &dyn Evidence) -> Vec<ApprovalId> {
    let mut ids: Vec<ApprovalId> = Vec::new();
    while let Some(next) = evidence.approvals(ids.last(), 1).unwrap().pop() {
        ids.push(next.id);
    }
    ids
}

/// Claims that `evidence` shows what was written.
pub(crate) fn check(evidence: &dyn Evidence, written: &Written) {
    let all = evidence.approvals(None, 100).unwrap();
    assert_eq!(all.len(), 3);
    for (found, approval) in all.iter().zip(&written.approvals) {
        check_approval(found, approval);
    }
    assert_eq!(all[0].votes[0].choice, Choice::Deny);
    assert_eq!((all[1].votes.len(), all[2].votes.len()), (2, 0));
    let behind = evidence.approvals(Some(&all[0].id), 1).unwrap();
    assert_eq!(behind, all[1..2]);
    let wanted: Vec<ApprovalId> = all.into_iter().map(|each| each.id).collect();
    assert_eq!(ids(evidence), wanted);
    let placed = evidence.control_bodies(0, 100).unwrap();
    assert_eq!(evidence.control_bodies(1, 2).unwrap(), placed[1..3]);
    assert_eq!(placed.len(), written.placed);
    let size = u64::try_from(written.placed).unwrap();
    assert_eq!(evidence.control_size(), Ok(size));
    let mut frontier = Frontier::new();
    for body in &placed {
        frontier.push(leaf_hash(body));
    }
    let head = evidence.control_head().unwrap();
    assert_eq!((head.frontier, head.checkpoint), (frontier, None));
    let mut bodies = placed;
    let mut after = 0;
    while let Some(next) = evidence.pending_bodies(after, 1).unwrap().pop() {
        after = next.entry;
        bodies.push(next.bytes);
    }
    let records = bodies.iter().map(|body| serde_json::from_slice(body));
    let records: Vec<ControlRecord> = records.map(Result::unwrap).collect();
    assert_eq!(records, written.records);
}

fn check_approval(found: &ApprovalEvidence, approval: &Approval) {
    assert_eq!(
        (&found.id, &found.approval),
        (&approval.id, &Ok(approval.clone()))
    );
    // The last vote of each person, as the approval itself has it.
    let counted = |row: &VoteRow| {
        let of = approval.votes.iter().rev();
        let mut of = of.filter(|vote| vote.voter.canonical.to_string() == row.person);
        let vote = of.next().unwrap();
        VoteRow {
            person: vote.voter.canonical.to_string(),
            account: vote.voter.account.to_string(),
            choice: vote.choice,
            at: vote.at,
            request_digest: approval.asked.digest,
            view_digest: approval.asked.view_digest,
        }
    };
    let counted: Vec<VoteRow> = found.votes.iter().map(counted).collect();
    assert_eq!(found.votes, counted);
    let redemption = (approval.id.as_str() == "b").then(|| RedemptionRow {
        caller: CALLER.to_owned(),
        digest: approval.asked.digest,
        key: Some("k".to_owned()),
        decision_id: "decision-k".to_owned(),
        at: at(5),
    });
    assert_eq!(found.redemption, redemption);
}
