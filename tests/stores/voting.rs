//! Votes: one for each person, on what they were shown, and a no beats a yes.

use countersign::approval::{
    Actor, Ballot, Cause, Choice, Event, Happening, Refusal, Standing, State, Status,
};
use countersign::model::EntityRef;
use countersign::usecase::approval_store::{Applied, ApplyCommand, COMMAND_MEMORY};

use crate::support::{
    Store, ask, at, ballot, cancel, command_key, done, found, may_fill, no, refused, vote, wish,
    yes,
};

pub(crate) async fn a_vote_is_kept_and_a_quorum_approves(store: Store) {
    let approval = ask("a").quorum(2).open(&store, 0).await;
    let once = done(&store, yes(&approval, "ada"), 1).await;
    assert_eq!((once.status(), once.version), (Status::Pending, 2));
    let twice = done(&store, yes(&approval, "bob"), 2).await;
    assert_eq!((twice.status(), twice.version), (Status::Approved, 3));
    let stored = found(&store, &approval.id).await;
    assert_eq!(stored, twice);
    assert_eq!(stored.votes.len(), 2);
    assert_eq!(
        stored.votes[0].comment.as_deref(),
        Some("ada has looked at it")
    );
}

pub(crate) async fn a_person_votes_once(store: Store) {
    let approval = ask("a").quorum(2).open(&store, 0).await;
    let once = done(&store, yes(&approval, "ada"), 1).await;
    assert_eq!(
        refused(&store, yes(&approval, "ada"), 2).await,
        Refusal::AlreadyVoted
    );
    assert_eq!(found(&store, &approval.id).await, once);
}

pub(crate) async fn two_accounts_of_one_person_are_one_vote(store: Store) {
    let approval = ask("a").quorum(2).open(&store, 0).await;
    done(&store, yes(&approval, "ada"), 1).await;
    let mut second = ballot(&approval, "ada-admin", Choice::Approve);
    second.voter.canonical = EntityRef::new("User", "ada");
    let again = refused(&store, cast(&approval.id, second), 2).await;
    assert_eq!(again, Refusal::AlreadyVoted);
}

fn cast(id: &countersign::approval::ApprovalId, ballot: Ballot) -> ApplyCommand {
    wish(id, Event::Vote(Box::new(ballot)))
}

pub(crate) async fn a_changed_mind_denies(store: Store) {
    let approval = ask("a").quorum(2).open(&store, 0).await;
    done(&store, yes(&approval, "ada"), 1).await;
    let denied = done(&store, no(&approval, "ada"), 2).await;
    assert_eq!(denied.status(), Status::Denied);
    assert_eq!(denied.votes.len(), 2);
    assert_eq!(found(&store, &approval.id).await, denied);
    let late = refused(&store, yes(&approval, "bob"), 3).await;
    let Refusal::AlreadyResolved {
        status, at: since, ..
    } = late
    else {
        panic!("{late:?}");
    };
    assert_eq!((status, since), (Status::Denied, at(2)));
}

pub(crate) async fn a_no_after_the_quorum_revokes(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    done(&store, yes(&approval, "ada"), 1).await;
    let revoked = done(&store, no(&approval, "bob"), 2).await;
    assert_eq!(revoked.status(), Status::Revoked);
    let State::Closed(_, closed) = &revoked.state else {
        panic!("{revoked:?}");
    };
    assert_eq!(closed.cause, Some(Cause::Veto));
    assert!(matches!(&closed.by, Actor::Person(voter) if voter.account.id == "bob"));
}

pub(crate) async fn the_requesters_side_never_approves_and_the_attempt_is_recorded(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let own = refused(&store, yes(&approval, "owner"), 1).await;
    assert!(matches!(own, Refusal::OwnRequest { .. }), "{own:?}");
    let records = store.records(&approval.id).await.unwrap();
    let last = &records.last().unwrap().record;
    assert!(matches!(
        &last.what,
        Happening::Refused(Event::Vote(_), Refusal::OwnRequest { .. })
    ));
    assert_eq!(found(&store, &approval.id).await.version, 1);
    let denied = done(&store, no(&approval, "owner"), 2).await;
    assert_eq!(denied.status(), Status::Denied);
}

pub(crate) async fn a_barred_canonical_name_never_approves(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let mut own = ballot(&approval, "owner-second-account", Choice::Approve);
    own.voter.canonical = EntityRef::new("User", "owner");
    let own = refused(&store, cast(&approval.id, own), 1).await;
    assert!(matches!(own, Refusal::OwnRequest { .. }), "{own:?}");
    let mut stranger = ballot(&approval, "stranger", Choice::Approve);
    stranger.standing = Standing::NotEligible("not on call".to_owned());
    let stranger = refused(&store, cast(&approval.id, stranger), 2).await;
    assert!(
        matches!(stranger, Refusal::NotEligible { .. }),
        "{stranger:?}"
    );
    assert_eq!(
        may_fill(&approval),
        may_fill(&found(&store, &approval.id).await)
    );
}

pub(crate) async fn a_vote_for_another_view_is_refused(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let mut other = ballot(&approval, "ada", Choice::Approve);
    other.view_digest = approval.asked.digest;
    let other = refused(&store, cast(&approval.id, other), 1).await;
    assert_eq!(other, Refusal::OtherView);
}

fn for_version(command: ApplyCommand, version: u64) -> ApplyCommand {
    ApplyCommand {
        version: Some(version),
        ..command
    }
}

pub(crate) async fn a_vote_for_another_version_moves_nothing(store: Store) {
    let approval = ask("a").quorum(3).open(&store, 0).await;
    let voted = done(&store, yes(&approval, "ada"), 1).await;
    let records = store.records(&approval.id).await.unwrap();
    let command = for_version(yes(&approval, "bob"), 1);
    let applied = store.apply(command, at(2)).await.unwrap();
    assert_eq!(applied, Applied::Moved(Box::new(voted)));
    assert_eq!(store.records(&approval.id).await.unwrap(), records);
}

pub(crate) async fn a_vote_with_its_version_counts(store: Store) {
    let approval = ask("a").quorum(3).open(&store, 0).await;
    let voted = done(&store, for_version(yes(&approval, "ada"), 1), 1).await;
    done(&store, for_version(yes(&approval, "bob"), voted.version), 2).await;
}

fn keyed(command: ApplyCommand, key: &str, payload: &str) -> ApplyCommand {
    ApplyCommand {
        key: Some(command_key("Vote", key, payload)),
        ..command
    }
}

pub(crate) async fn a_repeated_vote_answers_the_approval_as_it_is_now(store: Store) {
    let approval = ask("a").quorum(3).open(&store, 0).await;
    let first = for_version(keyed(yes(&approval, "ada"), "k", "p"), 1);
    done(&store, first.clone(), 1).await;
    let now = done(&store, yes(&approval, "bob"), 2).await;
    // Repeated before anything else is looked at: that it moved since is no news to the one who moved it.
    let again = store.apply(first, at(3)).await.unwrap();
    assert_eq!(again, Applied::Repeated(Box::new(now)));
}

pub(crate) async fn a_vote_with_a_used_key_is_refused(store: Store) {
    let approval = ask("a").quorum(3).open(&store, 0).await;
    let voted = done(&store, keyed(yes(&approval, "ada"), "k", "p"), 1).await;
    let other = keyed(yes(&approval, "bob"), "k", "q");
    assert_eq!(store.apply(other, at(2)).await.unwrap(), Applied::KeyReused);
    assert_eq!(found(&store, &approval.id).await, voted);
}

pub(crate) async fn a_refused_vote_may_be_tried_again_under_its_key(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let mut early = ballot(&approval, "ada", Choice::Approve);
    early.standing = Standing::NotEligible("not yet".to_owned());
    refused(&store, keyed(cast(&approval.id, early), "k", "p"), 1).await;
    let moved = ApplyCommand {
        version: Some(9),
        ..keyed(yes(&approval, "ada"), "k", "p")
    };
    let moved = store.apply(moved, at(2)).await.unwrap();
    assert!(matches!(moved, Applied::Moved(_)), "{moved:?}");
    done(&store, keyed(yes(&approval, "ada"), "k", "p"), 3).await;
}

pub(crate) async fn an_unknown_approval_is_unknown(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let command = ApplyCommand {
        id: countersign::approval::ApprovalId::new("none"),
        ..keyed(yes(&approval, "ada"), "k", "p")
    };
    assert_eq!(store.apply(command, at(1)).await.unwrap(), Applied::Unknown);
    done(&store, keyed(yes(&approval, "ada"), "k", "p"), 2).await;
}

pub(crate) async fn a_cancelled_approval_takes_no_votes(store: Store) {
    let approval = ask("a").open(&store, 0).await;
    let cancelled = done(&store, cancel(&approval), 1).await;
    assert_eq!(cancelled.status(), Status::Cancelled);
    let late = refused(&store, vote(&approval, "ada", Choice::Deny), 2).await;
    assert!(matches!(
        late,
        Refusal::AlreadyResolved {
            status: Status::Cancelled,
            ..
        }
    ));
}

pub(crate) async fn forgotten_keys_may_be_used_again(store: Store) {
    let approval = ask("a").quorum(3).open(&store, 0).await;
    done(&store, keyed(yes(&approval, "ada"), "k", "p"), 1).await;
    done(&store, keyed(yes(&approval, "bob"), "l", "p"), 100).await;
    let memory = i64::try_from(COMMAND_MEMORY.as_secs()).unwrap();
    assert_eq!(store.forget_commands(at(memory)).await.unwrap(), 0);
    assert_eq!(store.forget_commands(at(memory + 50)).await.unwrap(), 1);
    assert_eq!(store.forget_commands(at(memory + 50)).await.unwrap(), 0);
    let other = keyed(yes(&approval, "eve"), "l", "q");
    assert_eq!(store.apply(other, at(3)).await.unwrap(), Applied::KeyReused);
    done(&store, keyed(yes(&approval, "eve"), "k", "q"), 4).await;
}
