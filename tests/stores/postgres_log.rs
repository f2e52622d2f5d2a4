//! What `PostgreSQL`'s own rules refuse of the control log, what connections that are lost do to it, and what is seen by whoever only
//! looks.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::storage::postgres::{PostgresEvidence, PostgresOpenError};
use countersign::usecase::evidence::Evidence as _;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;

use crate::backends::{Database, Kept};
use crate::evidence;
use crate::logging::{append, lease, sequence, waiting, whole_log};
use crate::postgres_failures::terminate;
use crate::support::{ask, done, yes};

/// A database with a store; none if there is no server.
async fn opened() -> Option<(Database, Kept)> {
    let database = Database::create().await?;
    let kept = Kept::new(database.store().await);
    Some((database, kept))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_break_a_rule_of_the_log_are_refused() {
    let Some((database, kept)) = opened().await else {
        return;
    };
    append(&kept, &["a", "b", "c"]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    sequence(&kept, "one", epoch, 2).await.unwrap();
    kept.log.keep_checkpoint(1, "one".to_owned()).await.unwrap();
    let client = database.sql().await;
    for sql in [
        "UPDATE control_entries SET body = '\\x00'",
        "DELETE FROM control_entries WHERE entry = 3",
        "TRUNCATE control_entries CASCADE",
        "INSERT INTO control_entries (entry, body) VALUES (3, '\\x00')",
        "INSERT INTO control_entries (body) VALUES ('')",
        "UPDATE control_queue SET entry = 1",
        "DELETE FROM control_queue",
        "TRUNCATE control_queue",
        "INSERT INTO control_queue VALUES (1)",
        "INSERT INTO control_queue VALUES (9)",
        "UPDATE control_log SET entry = 3 WHERE idx = 1",
        "UPDATE control_log SET idx = 9 WHERE idx = 1",
        "DELETE FROM control_log WHERE idx = 1",
        "TRUNCATE control_log",
        "INSERT INTO control_log VALUES (3, 3)",
        "INSERT INTO control_log VALUES (1, 3)",
        "INSERT INTO control_log VALUES (-1, 3)",
        "INSERT INTO control_log VALUES (2, 1)",
        "INSERT INTO control_log VALUES (2, 9)",
        "INSERT INTO control_log VALUES (2, 3), (3, 3)",
        "INSERT INTO control_head VALUES (true, 0, '\\x0000000000000000', 0)",
        "DELETE FROM control_head",
        "TRUNCATE control_head",
        "UPDATE control_head SET size = 1",
        "UPDATE control_head SET size = 3",
        "UPDATE control_head SET frontier = '\\x0000000000000000'",
        "INSERT INTO control_log VALUES (2, 3); UPDATE control_head SET size = 3, epoch = 0",
        "UPDATE control_checkpoints SET note = ''",
        "DELETE FROM control_checkpoints",
        "TRUNCATE control_checkpoints",
        "INSERT INTO control_checkpoints VALUES (1, '')",
        "INSERT INTO control_checkpoints VALUES (0, '')",
        "INSERT INTO control_checkpoints VALUES (3, '')",
        "INSERT INTO control_records (approval, version, at_us, body) VALUES ('a', 1, 0, '{}')",
        "INSERT INTO control_records (approval, version, at_us, body, entry) VALUES ('a', 1, 0, '{}', 9)",
    ] {
        let refused = client.batch_execute(sql).await.expect_err(sql);
        let code = refused
            .code()
            .unwrap_or(&SqlState::SUCCESSFUL_COMPLETION)
            .code();
        assert!(code.starts_with("23"), "{sql}: {refused:?}");
    }
    // What is not refused, so that the refusals above are not those of typing errors.
    assert_eq!(waiting(&kept).await, ["c"]);
    for sql in [
        "INSERT INTO control_log VALUES (2, 3)",
        "UPDATE control_head SET size = 3",
        "INSERT INTO control_checkpoints VALUES (3, '')",
        "INSERT INTO control_entries (body) VALUES ('\\x00'), ('\\x01')",
    ] {
        client.batch_execute(sql).await.expect(sql);
    }
    assert_eq!(waiting(&kept).await, ["\0", "\u{1}"]);
    // The head that was written around the program has a tree of another size.
    assert!(kept.log.head().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_committed_late_is_not_passed_by() {
    let Some((database, kept)) = opened().await else {
        return;
    };
    let client = database.sql().await;
    let late = "BEGIN; INSERT INTO control_entries (body) VALUES ('late')";
    client.batch_execute(late).await.unwrap();
    append(&kept, &["early"]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    assert_eq!(sequence(&kept, "one", epoch, 10).await, Ok(1));
    assert_eq!(waiting(&kept).await, Vec::<String>::new());
    client.batch_execute("COMMIT").await.unwrap();
    append(&kept, &["later"]).await;
    assert_eq!(waiting(&kept).await, ["late", "later"]);
    assert_eq!(sequence(&kept, "one", epoch, 10).await, Ok(2));
    let log = whole_log(&kept).await;
    assert_eq!(log, [&b"early"[..], b"late", b"later"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_is_whole_while_connections_are_being_lost() {
    let Some((database, kept)) = opened().await else {
        return;
    };
    let client = database.sql().await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..60 {
        let kept = kept.clone();
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 15)).await;
            let name = format!("record {n}").into_bytes();
            let is_kept = kept.log.append(vec![name.clone()]).await.is_ok();
            // Whether it was done or not: the head says how it is.
            let _placed = sequence(&kept, "one", epoch, 3).await;
            (name, is_kept)
        });
    }
    let mut appended = Vec::new();
    while !tasks.is_empty() {
        terminate(&client).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        while let Some(joined) = tasks.try_join_next() {
            appended.push(joined.unwrap());
        }
    }
    while sequence(&kept, "one", epoch, 7).await.unwrap() > 0 {}
    let mut times: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for body in whole_log(&kept).await {
        *times.entry(body).or_default() += 1;
    }
    for (name, is_kept) in appended {
        let found = times.get(&name).copied().unwrap_or(0);
        // What was answered is there; what was not may be; nothing is there twice.
        assert!(found <= 1 && found >= u32::from(is_kept), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sequencers_of_several_processes_leave_no_hole_and_no_double() {
    let Some((database, kept)) = opened().await else {
        return;
    };
    let other = Kept::new(database.store().await);
    crate::logging::race(&[kept, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_from_before_the_log_stay_and_get_no_place() {
    let Some(database) = Database::create().await else {
        return;
    };
    let first = include_str!("../../src/storage/postgres/migrations/0001_approvals.sql");
    let client = database.sql().await;
    client.batch_execute(first).await.unwrap();
    // The approval itself is not needed, so its foreign key is left out.
    let sql = "CREATE TABLE schema_migrations (number integer PRIMARY KEY, sha256 bytea NOT NULL);
        SET session_replication_role = replica;
        INSERT INTO control_records (approval, version, at_us, body) VALUES ('old', 1, 0, '{}'), ('old', 2, 1, '{}');
        SET session_replication_role = origin";
    client.batch_execute(sql).await.unwrap();
    let digest = Sha256::digest(first).to_vec();
    let applied = "INSERT INTO schema_migrations VALUES (1, $1)";
    client.execute(applied, &[&digest]).await.unwrap();
    let config = database.config();
    let looking = tokio::task::spawn_blocking(move || PostgresEvidence::connect(&config));
    let older = looking.await.unwrap().unwrap_err();
    assert!(
        matches!(older, PostgresOpenError::OlderSchema { found: 1, known: 2 }),
        "{older}"
    );
    let kept = Kept::new(database.store().await);
    assert_eq!(waiting(&kept).await, Vec::<String>::new());
    let approval = ask("new").open(&kept.store, 0).await;
    done(&kept.store, yes(&approval, "ada"), 1).await;
    assert_eq!(waiting(&kept).await.len(), 2);
    let sql = "SELECT count(*), count(entry) FROM control_records";
    let counts = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((counts.get::<_, i64>(0), counts.get::<_, i64>(1)), (4, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_read_while_the_store_goes_on() {
    let Some((database, kept)) = opened().await else {
        return;
    };
    let written = evidence::written(&kept).await;
    let config = database.config();
    let looking = tokio::task::spawn_blocking(move || PostgresEvidence::connect(&config).unwrap());
    let looked_at = looking.await.unwrap();
    // What is written now is of a later moment.
    ask("later").open(&kept.store, 0).await;
    append(&kept, &["later"]).await;
    let config = database.config();
    let looking = tokio::task::spawn_blocking(move || {
        evidence::check(&looked_at, &written);
        drop(looked_at);
        let later = PostgresEvidence::connect(&config).unwrap();
        assert_eq!(evidence::ids(&later).len(), 4);
    });
    looking.await.unwrap();
    let client = database.sql().await;
    let sql =
        "ALTER TABLE approvals DISABLE TRIGGER USER; ALTER TABLE control_log DISABLE TRIGGER USER;
        UPDATE approvals SET asked = replace(asked::text, 'Deploy', 'Delete')::json WHERE id = 'b';
        DELETE FROM control_log WHERE idx = 1";
    client.batch_execute(sql).await.unwrap();
    let config = database.config();
    let looking = tokio::task::spawn_blocking(move || {
        let changed = PostgresEvidence::connect(&config).unwrap();
        let all = changed.approvals(None, 10).unwrap();
        let is_read: Vec<bool> = all.iter().map(|each| each.approval.is_ok()).collect();
        assert_eq!(is_read, [true, false, true, true]);
        assert!(changed.control_bodies(0, 10).is_err());
    });
    looking.await.unwrap();
}
