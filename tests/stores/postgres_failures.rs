//! What becomes of commands when connections or callers go away, and how processes hear of each other.

use std::sync::Arc;
use std::time::Duration;

use countersign::approval::Choice;
use countersign::usecase::approval_store::{Applied, ApplyCommand};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::backends::Database;
use crate::support::{Store, ask, at, command_key, done, found, vote, yes};

/// Ends every session of the database but this one.
pub(crate) async fn terminate(client: &Client) -> u64 {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    client.execute(sql, &[]).await.unwrap()
}

fn keyed(mut command: ApplyCommand, key: &str) -> ApplyCommand {
    command.key = Some(command_key("Vote", key, "p"));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_hear_each_others_changes() {
    let Some(database) = Database::create().await else {
        return;
    };
    let one: Store = Arc::new(database.store().await);
    let other: Store = Arc::new(database.store().await);
    let (mut by_one, mut by_other) = (one.changes(), other.changes());
    let patience = Duration::from_millis(1_500);
    let approval = ask("a").quorum(5).open(&one, 0).await;
    let heard = timeout(patience, by_other.recv()).await.unwrap();
    assert_eq!(heard.unwrap(), approval.id);
    // Its own changes are heard once, not again by way of the database.
    by_one.recv().await.unwrap();
    assert!(
        timeout(Duration::from_millis(400), by_one.recv())
            .await
            .is_err()
    );
    // And after the connections were lost.
    let client = database.sql().await;
    terminate(&client).await;
    let mut is_heard = false;
    for name in ["v1", "v2", "v3", "v4"] {
        done(&other, yes(&approval, name), 1).await;
        is_heard |= timeout(patience, by_one.recv()).await.is_ok();
    }
    assert!(is_heard);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_connections_are_made_again() {
    let Some(database) = Database::create().await else {
        return;
    };
    let store: Store = Arc::new(database.store().await);
    let approval = ask("a").quorum(500).open(&store, 0).await;
    let client = database.sql().await;
    for n in 0..20 {
        // Fills the pool, so that many connections are lost at once.
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (store, id) = (store.clone(), approval.id.clone());
            tasks.spawn(async move { store.find(&id).await.unwrap() });
        }
        tasks.join_all().await;
        assert!(terminate(&client).await > 0);
        let key = format!("k{n}");
        let command = keyed(yes(&approval, &format!("v{n}")), &key);
        let applied = store.apply(command, at(1)).await.unwrap();
        assert!(
            matches!(applied, Applied::Done(_) | Applied::Repeated(_)),
            "{applied:?}"
        );
    }
    assert_eq!(found(&store, &approval.id).await.votes.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keyed_votes_are_counted_once_while_connections_are_being_lost() {
    let Some(database) = Database::create().await else {
        return;
    };
    let store: Store = Arc::new(database.store().await);
    let approval = ask("a").quorum(500).open(&store, 0).await;
    let client = database.sql().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        let (store, approval) = (store.clone(), approval.clone());
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 15)).await;
            let command = keyed(yes(&approval, &format!("v{n}")), &format!("k{n}"));
            // Whoever gets no answer asks again under the same key.
            loop {
                match store.apply(command.clone(), at(1)).await {
                    Ok(Applied::Done(_) | Applied::Repeated(_)) => break,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
    }
    while !tasks.is_empty() {
        terminate(&client).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        while let Some(joined) = tasks.try_join_next() {
            joined.unwrap();
        }
    }
    let stored = found(&store, &approval.id).await;
    assert_eq!((stored.votes.len(), stored.version), (60, 61));
    assert_eq!(store.records(&approval.id).await.unwrap().len(), 61);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_go_away_leave_nothing_half_done() {
    let Some(database) = Database::create().await else {
        return;
    };
    let store: Store = Arc::new(database.store().await);
    let mut approvals = Vec::new();
    for n in 0..20 {
        approvals.push(ask(&format!("a{n}")).quorum(1_000).open(&store, 0).await);
    }
    let mut acknowledged = 0_usize;
    for n in 0..200_usize {
        let approval = &approvals[n % 20];
        let patience = Duration::from_micros(fastrand::u64(0..16_000));
        let name = format!("v{n}");
        let command = vote(approval, &name, Choice::Approve);
        if let Ok(applied) = timeout(patience, store.apply(command, at(1))).await {
            assert!(matches!(applied.unwrap(), Applied::Done(_)));
            let stored = found(&store, &approval.id).await;
            assert!(
                stored
                    .votes
                    .iter()
                    .any(|vote| vote.voter.person.subject == name)
            );
            acknowledged += 1;
        }
    }
    let client = database.sql().await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL
        AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let mut is_quiet = false;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now_open: i64 = client.query_one(open, &[]).await.unwrap().get(0);
        is_quiet = now_open == 0;
        if is_quiet {
            break;
        }
    }
    assert!(is_quiet);
    let mut counted = 0;
    for approval in &approvals {
        let stored = found(&store, &approval.id).await;
        let records = store.records(&approval.id).await.unwrap().len();
        assert_eq!(
            (stored.version, records),
            (u64::try_from(records).unwrap(), stored.votes.len() + 1)
        );
        counted += stored.votes.len();
    }
    let votes: i64 = client
        .query_one("SELECT count(*) FROM votes", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(usize::try_from(votes).unwrap(), counted);
    assert!(counted >= acknowledged);
    println!("{acknowledged} of 200 were acknowledged, {counted} counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_store_lets_go_of_its_connections() {
    let Some(database) = Database::create().await else {
        return;
    };
    let store: Store = Arc::new(database.store().await);
    ask("a").open(&store, 0).await;
    drop(store);
    let client = database.sql().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut left = 1;
    for _ in 0..50 {
        left = client.query_one(sql, &[]).await.unwrap().get(0);
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left, 0_i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limits_hold_against_openings_at_once_over_two_stores() {
    let Some(database) = Database::create().await else {
        return;
    };
    let stores: [Store; 2] = [
        Arc::new(database.store().await),
        Arc::new(database.store().await),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40_usize {
        let store = stores[n % 2].clone();
        let limits = countersign::approval::flood::FloodLimits {
            pending_per_requester: 7,
            opened_per_minute: 1_000,
            ..Default::default()
        };
        let command = ask(&format!("n{n}")).limits(limits).command();
        tasks.spawn(async move { store.open(command, at(0)).await.unwrap() });
    }
    let opened = tasks.join_all().await;
    let new = opened
        .iter()
        .filter(|each| matches!(each, countersign::usecase::approval_store::Opened::New(_)));
    assert_eq!(new.count(), 7);
}
