//! The control log: every record is kept with what it is about, and gets one place, once.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::approval::{ControlRecord, Event};
use countersign::audit::tree::{Frontier, leaf_hash};
use countersign::usecase::approval_store::{Applied, Opened, StoreError};
use countersign::usecase::control_log::{PendingEntry, SEQUENCER, SequenceCommand};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backends::Kept;
use crate::support::{ask, at, cancel, done, redeem, refused, wish, yes};

/// How often two sequencers race.
const ROUNDS: u32 = 64;

/// Keeps a record of its own for each of `names`.
pub(crate) async fn append(kept: &Kept, names: &[&str]) {
    let records = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    kept.log.append(records).await.unwrap();
}

/// What waits, as texts.
pub(crate) async fn waiting(kept: &Kept) -> Vec<String> {
    let pending = kept.log.pending(0, 1000).await.unwrap();
    pending.into_iter().map(|each| text(each.bytes)).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Takes the lease for ten seconds.
pub(crate) async fn lease(kept: &Kept, holder: &str, seconds: i64) -> Option<u64> {
    let ttl = Duration::from_secs(10);
    let lease = kept
        .store
        .lease(SEQUENCER, holder.to_owned(), ttl, at(seconds));
    lease.await.unwrap()
}

/// The command that gives `entries` their places as `holder`, in the first second.
async fn command_for(
    kept: &Kept,
    holder: &str,
    epoch: u64,
    entries: &[PendingEntry],
) -> SequenceCommand {
    let head = kept.log.head().await.unwrap();
    command_behind(head.frontier, holder, epoch, entries)
}

fn command_behind(
    mut frontier: Frontier,
    holder: &str,
    epoch: u64,
    entries: &[PendingEntry],
) -> SequenceCommand {
    let from = frontier.size();
    for entry in entries {
        frontier.push(leaf_hash(&entry.bytes));
    }
    SequenceCommand {
        from,
        entries: entries.iter().map(|entry| entry.entry).collect(),
        frontier,
        holder: holder.to_owned(),
        epoch,
        now: at(1),
    }
}

/// Gives up to `limit` of what waits their places, as a sequencer does. Answers how many were there to be given one.
pub(crate) async fn sequence(
    kept: &Kept,
    holder: &str,
    epoch: u64,
    limit: u32,
) -> Result<usize, StoreError> {
    // The head first: what gets its place in between is then refused, and not given another one.
    let head = kept.log.head().await?;
    let entries = kept.log.pending(0, limit).await?;
    let command = command_behind(head.frontier, holder, epoch, &entries);
    kept.log.sequence(command).await?;
    Ok(entries.len())
}

/// The whole log, read in pages, which must be what the head says.
pub(crate) async fn whole_log(kept: &Kept) -> Vec<Vec<u8>> {
    let mut log = Vec::new();
    let mut frontier = Frontier::new();
    loop {
        let page = kept.log.sequenced(frontier.size(), 7).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 7);
        for body in page {
            frontier.push(leaf_hash(&body));
            log.push(body);
        }
    }
    assert_eq!(kept.log.head().await.unwrap().frontier, frontier);
    log
}

pub(crate) async fn appended_records_wait_in_their_order(kept: Kept) {
    assert_eq!(waiting(&kept).await, Vec::<String>::new());
    append(&kept, &["a", "b"]).await;
    append(&kept, &[]).await;
    append(&kept, &["c", "a"]).await;
    assert_eq!(waiting(&kept).await, ["a", "b", "c", "a"]);
    let pending = kept.log.pending(0, 3).await.unwrap();
    let entries: Vec<u64> = pending.iter().map(|each| each.entry).collect();
    assert_eq!(pending.len(), 3);
    assert!(entries[0] > 0 && entries.is_sorted_by(|one, two| one < two));
    assert_eq!(kept.log.head().await.unwrap().frontier, Frontier::new());
    assert_eq!(whole_log(&kept).await, Vec::<Vec<u8>>::new());
}

/// What waits, as the records of approvals.
async fn waiting_records(kept: &Kept) -> Vec<ControlRecord> {
    let pending = kept.log.pending(0, 1000).await.unwrap();
    let record = |each: PendingEntry| serde_json::from_slice(&each.bytes).unwrap();
    pending.into_iter().map(record).collect()
}

pub(crate) async fn every_change_and_every_refusal_leaves_its_entry(kept: Kept) {
    let store = &kept.store;
    let first = ask("first").quorum(2).open(store, 0).await;
    let second = ask("second").open(store, 0).await;
    done(store, yes(&first, "ada"), 1).await;
    refused(store, yes(&first, "ada"), 2).await;
    done(store, yes(&second, "ada"), 3).await;
    refused(store, yes(&first, "owner"), 4).await;
    done(store, yes(&first, "bob"), 5).await;
    done(store, redeem(&second, "k"), 6).await;
    refused(store, cancel(&second), 7).await;
    let joined = store
        .open(ask("third").like("first").command(), at(8))
        .await;
    assert!(matches!(joined, Ok(Opened::Joined(_))), "{joined:?}");
    // Late: time ends it first, which is a record of its own.
    let third = ask("late").open(store, 9).await;
    refused(store, yes(&third, "ada"), 9_000).await;
    let entries = waiting_records(&kept).await;
    let mut records = 0;
    for id in [&first.id, &second.id, &third.id] {
        let stored = store.records(id).await.unwrap();
        let stored: Vec<ControlRecord> = stored.into_iter().map(|each| each.record).collect();
        let of = entries.iter().filter(|record| record.approval == *id);
        assert_eq!(of.cloned().collect::<Vec<_>>(), stored);
        records += stored.len();
    }
    assert_eq!(entries.len(), records);
    assert!(records >= 12, "{records}");
}

pub(crate) async fn what_is_not_written_leaves_no_entry(kept: Kept) {
    let store = &kept.store;
    let approval = ask("a").key("k", "p").quorum(2).open(store, 0).await;
    let before = kept.log.pending(0, 1000).await.unwrap();
    let repeated = store.open(ask("b").key("k", "p").command(), at(1)).await;
    assert!(matches!(repeated, Ok(Opened::Repeated(_))), "{repeated:?}");
    let reused = store.open(ask("b").key("k", "q").command(), at(1)).await;
    assert!(matches!(reused, Ok(Opened::KeyReused)), "{reused:?}");
    let taken = store.open(ask("a").like("other").command(), at(1)).await;
    assert!(matches!(taken, Err(StoreError::RuleBroken(_))), "{taken:?}");
    let mut moved = yes(&approval, "ada");
    moved.version = Some(9);
    let moved = store.apply(moved, at(1)).await;
    assert!(matches!(moved, Ok(Applied::Moved(_))), "{moved:?}");
    let unknown = countersign::approval::ApprovalId::new("none");
    let unknown = store.apply(wish(&unknown, Event::Tick), at(1)).await;
    assert_eq!(unknown, Ok(Applied::Unknown));
    done(store, wish(&approval.id, Event::Tick), 1).await;
    assert_eq!(kept.log.pending(0, 1000).await.unwrap(), before);
}

pub(crate) async fn an_empty_record_is_refused(kept: Kept) {
    let refused = kept.log.append(vec![b"a".to_vec(), Vec::new()]).await;
    assert!(
        matches!(refused, Err(StoreError::RuleBroken(_))),
        "{refused:?}"
    );
    assert_eq!(waiting(&kept).await, Vec::<String>::new());
}

pub(crate) async fn places_are_consecutive_and_the_head_follows(kept: Kept) {
    append(&kept, &["a", "b", "c", "d"]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    let mut entries = kept.log.pending(0, 3).await.unwrap();
    // The order is the command's.
    entries.reverse();
    let command = command_for(&kept, "one", epoch, &entries).await;
    let frontier = command.frontier.clone();
    assert_eq!(kept.log.sequence(command).await, Ok(true));
    assert_eq!(kept.log.head().await.unwrap().frontier, frontier);
    assert_eq!(waiting(&kept).await, ["d"]);
    append(&kept, &["e"]).await;
    assert_eq!(sequence(&kept, "one", epoch, 256).await, Ok(2));
    assert_eq!(waiting(&kept).await, Vec::<String>::new());
    let log: Vec<String> = whole_log(&kept).await.into_iter().map(text).collect();
    assert_eq!(log, ["c", "b", "a", "d", "e"]);
    // Nothing to do is done, as long as the lease holds.
    let nothing = command_for(&kept, "one", epoch, &[]).await;
    assert_eq!(kept.log.sequence(nothing.clone()).await, Ok(true));
    let elsewhere = SequenceCommand {
        holder: "two".to_owned(),
        ..nothing
    };
    assert_eq!(kept.log.sequence(elsewhere).await, Ok(false));
    let many: Vec<String> = (0..300).map(|n| format!("many {n}")).collect();
    append(&kept, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(sequence(&kept, "one", epoch, 256).await, Ok(256));
    assert_eq!(sequence(&kept, "one", epoch, 256).await, Ok(44));
    let log: Vec<String> = whole_log(&kept).await.into_iter().map(text).collect();
    assert_eq!(log[5..], many);
}

/// Claims that each of `commands` does nothing.
async fn do_nothing(kept: &Kept, commands: Vec<SequenceCommand>) {
    let (log, before) = (whole_log(kept).await, kept.log.pending(0, 1000).await);
    for command in commands {
        let done = kept.log.sequence(command.clone()).await;
        assert_eq!(done, Ok(false), "{command:?}");
    }
    assert_eq!(whole_log(kept).await, log);
    assert_eq!(kept.log.pending(0, 1000).await, before);
}

pub(crate) async fn a_command_that_does_not_fit_changes_nothing(kept: Kept) {
    append(&kept, &["a", "b", "c", "d"]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    let first = kept.log.pending(0, 2).await.unwrap();
    assert_eq!(sequence(&kept, "one", epoch, 2).await, Ok(2));
    let entries = kept.log.pending(0, 2).await.unwrap();
    let fits = command_for(&kept, "one", epoch, &entries).await;
    let naming = |entries: Vec<u64>| SequenceCommand {
        entries,
        ..fits.clone()
    };
    let (placed, waits) = (first[0].entry, entries[0].entry);
    let elsewhere = |from: u64| {
        let mut frontier = Frontier::new();
        for _ in 0..from + 2 {
            frontier.push(leaf_hash(b"x"));
        }
        SequenceCommand {
            from,
            frontier,
            ..fits.clone()
        }
    };
    do_nothing(
        &kept,
        vec![
            elsewhere(1),
            elsewhere(3),
            elsewhere(0),
            naming(vec![waits, waits]),
            naming(vec![waits, placed]),
            naming(vec![placed, waits]),
            naming(vec![waits, 9_999_999]),
            naming(vec![waits, 0]),
        ],
    )
    .await;
    assert_eq!(kept.log.sequence(fits.clone()).await, Ok(true));
    do_nothing(&kept, vec![fits]).await;
}

pub(crate) async fn a_tree_of_another_size_is_an_error(kept: Kept) {
    append(&kept, &["a"]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    let entries = kept.log.pending(0, 1).await.unwrap();
    let mut command = command_for(&kept, "one", epoch, &entries).await;
    command.frontier.push(leaf_hash(b"b"));
    let refused = kept.log.sequence(command).await;
    assert!(
        matches!(refused, Err(StoreError::RuleBroken(_))),
        "{refused:?}"
    );
    assert_eq!(waiting(&kept).await, ["a"]);
}

pub(crate) async fn places_are_given_under_the_present_lease_only(kept: Kept) {
    append(&kept, &["a", "b"]).await;
    let entries = kept.log.pending(0, 1).await.unwrap();
    let unheld = command_for(&kept, "one", 1, &entries).await;
    do_nothing(&kept, vec![unheld.clone()]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    let by = |holder: &str, epoch: u64, seconds: i64| SequenceCommand {
        holder: holder.to_owned(),
        epoch,
        now: at(seconds),
        ..unheld.clone()
    };
    let wrong = vec![
        by("two", epoch, 1),
        by("one", epoch + 1, 1),
        by("one", epoch - 1, 1),
        // It ends at the tenth second.
        by("one", epoch, 10),
    ];
    do_nothing(&kept, wrong).await;
    assert_eq!(lease(&kept, "two", 5).await, None);
    let next = lease(&kept, "two", 10).await.unwrap();
    assert_eq!(next, epoch + 1);
    // Whoever slept through the end of their lease, by whatever clock.
    let old = vec![
        by("one", epoch, 1),
        by("one", next, 11),
        by("two", epoch, 11),
    ];
    do_nothing(&kept, old).await;
    assert_eq!(kept.log.sequence(by("two", next, 19)).await, Ok(true));
    assert_eq!(waiting(&kept).await, ["b"]);
}

pub(crate) async fn pages_of_the_log_follow_each_other(kept: Kept) {
    let names: Vec<String> = (0..20).map(|n| format!("record {n}")).collect();
    append(&kept, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    while sequence(&kept, "one", epoch, 6).await.unwrap() > 0 {}
    let page = async |from: u64, limit: u32| {
        let page = kept.log.sequenced(from, limit).await.unwrap();
        page.into_iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 3).await, names[..3]);
    assert_eq!(page(3, 100).await, names[3..]);
    assert_eq!(page(19, 5).await, names[19..]);
    assert_eq!(page(20, 5).await, Vec::<String>::new());
    assert_eq!(page(u64::from(u32::MAX), 5).await, Vec::<String>::new());
    assert_eq!(whole_log(&kept).await.len(), 20);
}

pub(crate) async fn checkpoints_are_of_later_sizes_only(kept: Kept) {
    let log = &kept.log;
    append(&kept, &["a", "b", "c", "d", "e"]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    assert_eq!(log.head().await.unwrap().checkpoint, None);
    for (places, size, note) in [
        (2, 2, "two"),
        (0, 2, "two again"),
        (0, 1, "one"),
        (3, 4, "four"),
    ] {
        if places > 0 {
            sequence(&kept, "one", epoch, places).await.unwrap();
        }
        log.keep_checkpoint(size, note.to_owned()).await.unwrap();
    }
    log.keep_checkpoint(5, "five\nlines\n".to_owned())
        .await
        .unwrap();
    // What has no place is not signed for.
    let ahead = log.keep_checkpoint(6, "six".to_owned()).await;
    assert!(matches!(ahead, Err(StoreError::RuleBroken(_))), "{ahead:?}");
    let note = log.head().await.unwrap().checkpoint;
    assert_eq!(note.as_deref(), Some("five\nlines\n"));
    let all = [
        (2, "two".to_owned()),
        (4, "four".to_owned()),
        (5, "five\nlines\n".to_owned()),
    ];
    assert_eq!(log.checkpoints(0, 10).await.unwrap(), all);
    assert_eq!(log.checkpoints(2, 1).await.unwrap(), all[1..2]);
    assert_eq!(log.checkpoints(5, 10).await.unwrap(), []);
    assert_eq!(whole_log(&kept).await.len(), 5);
}

pub(crate) async fn two_sequencers_leave_no_hole_and_no_double(kept: Kept) {
    race(&[kept.clone(), kept]).await;
}

/// A sequencer for each of `stores`, which are one store, all of them sure that the lease is theirs.
pub(crate) async fn race(stores: &[Kept]) {
    let kept = &stores[0];
    let epoch = lease(kept, "one", 0).await.unwrap();
    let mut names = BTreeSet::new();
    for round in 0..ROUNDS {
        let new: Vec<String> = (0..5).map(|n| format!("{round} {n}")).collect();
        append(kept, &new.iter().map(String::as_str).collect::<Vec<_>>()).await;
        names.extend(new);
        let mut tasks = JoinSet::new();
        for (kept, limit) in stores.iter().cloned().zip(2..) {
            tasks.spawn(
                async move { while sequence(&kept, "one", epoch, limit).await.unwrap() > 0 {} },
            );
        }
        tasks.join_all().await;
    }
    let log: Vec<String> = whole_log(kept).await.into_iter().map(text).collect();
    assert_eq!(log.len(), names.len());
    assert_eq!(log.into_iter().collect::<BTreeSet<_>>(), names);
}

pub(crate) async fn what_is_appended_meanwhile_gets_one_place_each(kept: Kept) {
    let epoch = lease(&kept, "one", 0).await.unwrap();
    let (finished, is_finished) = watch::channel(false);
    let mut sequencers = JoinSet::new();
    for limit in [1, 5] {
        let (kept, is_finished) = (kept.clone(), is_finished.clone());
        sequencers.spawn(async move {
            loop {
                // Before the look at the queue, so that what is last is seen.
                let is_last = *is_finished.borrow();
                if sequence(&kept, "one", epoch, limit).await.unwrap() == 0 && is_last {
                    break;
                }
            }
        });
    }
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let kept = kept.clone();
        writers.spawn(async move {
            for n in 0..15 {
                let (one, other) = (format!("{writer} {n} one"), format!("{writer} {n} other"));
                append(&kept, &[&one, &other]).await;
                let approval = ask(&format!("{writer} {n}")).open(&kept.store, 0).await;
                done(&kept.store, yes(&approval, "ada"), 1).await;
            }
        });
    }
    writers.join_all().await;
    finished.send(true).unwrap();
    sequencers.join_all().await;
    let log = whole_log(&kept).await;
    // Two records of its own and two of an approval in each round of each writer.
    assert_eq!(log.len(), 8 * 15 * 4);
    assert_eq!(log.into_iter().collect::<BTreeSet<_>>().len(), 8 * 15 * 4);
    assert_eq!(kept.log.pending(0, 10).await.unwrap(), []);
}
