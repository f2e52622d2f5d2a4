//! What `PostgreSQL`'s own rules refuse, whatever program writes; and what servers the store refuses.

use countersign::approval::{Approval, Choice, Status};
use countersign::storage::postgres::{PostgresConfig, PostgresOpenError, PostgresStore};
use countersign::usecase::approval_store::ApprovalStore as _;
use std::sync::Arc;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::backends::Database;
use crate::support::{Store, ask, done, redeem, vote, yes};

/// A pending approval `p` with a yes by ada, and a redeemed one, `r`; both ask for two persons.
async fn prepared(database: &Database) -> (Approval, Client) {
    let store: Store = Arc::new(database.store().await);
    let pending = ask("p").quorum(2).open(&store, 0).await;
    done(&store, yes(&pending, "ada"), 1).await;
    let other = ask("r").quorum(2).open(&store, 0).await;
    done(&store, yes(&other, "ada"), 1).await;
    done(&store, yes(&other, "bob"), 2).await;
    let redeemed = done(&store, redeem(&other, "k"), 3).await;
    assert_eq!(redeemed.status(), Status::Redeemed);
    let changed = ask("c").quorum(2).open(&store, 0).await;
    done(&store, yes(&changed, "ada"), 1).await;
    done(&store, vote(&changed, "ada", Choice::Deny), 2).await;
    (pending, database.sql().await)
}

/// Inserts a vote on `p` or `r`, copying what it must say from the approval.
fn casting(approval: &str, person: &str, choice: &str, at_us: &str) -> String {
    format!(
        "INSERT INTO votes (approval, person, account, issuer, subject, choice, at_us, request_digest, view_digest)
         SELECT id, '{person}', '{person}', 'i', 's', '{choice}', {at_us}, digest, view_digest FROM approvals WHERE id = '{approval}'"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_break_a_rule_are_refused() {
    let Some(database) = Database::create().await else {
        return;
    };
    let (_, client) = prepared(&database).await;
    let moved = |set: &str, id: &str| {
        format!(
            "UPDATE approvals SET version = version + 1, previous_status = status, {set} WHERE id = '{id}'"
        )
    };
    let second = "INSERT INTO approvals SELECT 'q', 1, 'PENDING', NULL, caller, requester, digest, view_digest, rules, opened_us,
        asked, asked_digest, deadline_us, next_timer_us, NULL, course, last_record FROM approvals WHERE id = 'p'";
    let statements = [
        // Only what may follow, from where it stands, to a later version, with its record.
        moved("status = 'REDEEMED', deadline_us = NULL", "p"),
        moved("status = 'LAPSED', deadline_us = NULL, closed_us = 1", "p"),
        moved("status = 'APPROVED', deadline_us = 9, closed_us = NULL", "r"),
        moved("course = course", "p"),
        "UPDATE approvals SET status = 'APPROVED', version = version + 1, previous_status = 'REDEEMED' WHERE id = 'r'".to_owned(),
        "UPDATE approvals SET course = '{}' WHERE id = 'p'".to_owned(),
        "UPDATE approvals SET version = 1 WHERE id = 'p'".to_owned(),
        "UPDATE approvals SET asked = asked, version = version + 1, previous_status = status WHERE id = 'p'".to_owned(),
        "UPDATE approvals SET digest = view_digest, version = version + 1 WHERE id = 'p'".to_owned(),
        "DELETE FROM approvals WHERE id = 'p'".to_owned(),
        "TRUNCATE approvals CASCADE".to_owned(),
        second.to_owned(),
        "INSERT INTO transitions VALUES ('DENIED', 'APPROVED')".to_owned(),
        // Records stay.
        "UPDATE control_records SET at_us = 0".to_owned(),
        "DELETE FROM control_records".to_owned(),
        "TRUNCATE control_records CASCADE".to_owned(),
        "WITH written AS (INSERT INTO control_entries (body) VALUES ('\\x00') RETURNING entry)
            INSERT INTO control_records (approval, version, at_us, body, entry) SELECT 'none', 1, 1, '{}', entry FROM written".to_owned(),
        // One vote each, never by the requester's side, in time, on this request.
        casting("p", "User::\"owner\"", "APPROVE", "1"),
        casting("p", "Agent::\"bot\"", "APPROVE", "1"),
        casting("p", "User::\"ada\"", "APPROVE", "1"),
        casting("p", "User::\"eve\"", "APPROVE", "deadline_us"),
        casting("r", "User::\"eve\"", "APPROVE", "1"),
        "INSERT INTO votes VALUES ('p', 'x', 'x', 'i', 's', 'APPROVE', 1, '\\x00', '\\x00')".to_owned(),
        "UPDATE votes SET choice = 'APPROVE' WHERE approval = 'c'".to_owned(),
        "UPDATE votes SET person = 'eve' WHERE approval = 'p'".to_owned(),
        "UPDATE votes SET choice = 'DENY', account = 'Agent::\"bot\"' WHERE approval = 'r'".to_owned(),
        "DELETE FROM votes".to_owned(),
        "DELETE FROM vote_changes".to_owned(),
        "DELETE FROM barred".to_owned(),
        "UPDATE barred SET person = 'nobody'".to_owned(),
        // A grant is spent once, while it lives.
        "INSERT INTO redemptions SELECT id, 1, caller, digest, NULL, 'd' FROM approvals WHERE id = 'p'".to_owned(),
        "INSERT INTO redemptions SELECT id, 1, caller, digest, NULL, 'd' FROM approvals WHERE id = 'r'".to_owned(),
        "DELETE FROM redemptions".to_owned(),
        "UPDATE redemptions SET key = NULL".to_owned(),
    ];
    for sql in statements {
        let refused = client.batch_execute(&sql).await.expect_err(&sql);
        let code = refused
            .code()
            .unwrap_or(&SqlState::SUCCESSFUL_COMPLETION)
            .code();
        assert!(code.starts_with("23"), "{sql}: {refused:?}");
    }
    // What is not refused, so that the refusals above are not those of typing errors.
    client
        .batch_execute(&casting("p", "User::\"eve\"", "APPROVE", "1"))
        .await
        .unwrap();
    client
        .batch_execute(&casting("p", "User::\"owner\"", "DENY", "1"))
        .await
        .unwrap();
    let changed = client
        .query_one("SELECT count(*) FROM vote_changes", &[])
        .await
        .unwrap();
    assert_eq!(changed.get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_request_is_noticed_when_it_is_read() {
    let Some(database) = Database::create().await else {
        return;
    };
    let (pending, client) = prepared(&database).await;
    let sql = "ALTER TABLE approvals DISABLE TRIGGER USER;
        UPDATE approvals SET asked = replace(asked::text, 'Deploy', 'Delete')::json WHERE id = 'p'";
    client.batch_execute(sql).await.unwrap();
    let read = database.store().await.find(&pending.id).await;
    assert!(read.is_err(), "{read:?}");
}

async fn refused(config: &PostgresConfig) -> PostgresOpenError {
    let runtime = tokio::runtime::Handle::current();
    PostgresStore::connect(config, runtime)
        .await
        .expect_err("it must be refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_forget_is_refused_by_the_name_of_the_setting() {
    let Some(database) = Database::create().await else {
        return;
    };
    let strict = PostgresConfig {
        allow_unsafe_settings: false,
        ..database.config()
    };
    let client = database.sql().await;
    let row = client
        .query_one("SELECT current_setting('fsync')", &[])
        .await
        .unwrap();
    if row.get::<_, &str>(0) == "off" {
        let why = refused(&strict).await.to_string();
        assert!(why.contains("fsync = off"), "{why}");
        return;
    }
    let database = row_of(&client, "SELECT current_database()").await;
    let sql = format!("ALTER DATABASE {database} SET synchronous_commit = off");
    client.batch_execute(&sql).await.unwrap();
    let why = refused(&strict).await.to_string();
    assert!(why.contains("synchronous_commit = off"), "{why}");
}

async fn row_of(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_or_another_schema_is_refused() {
    let Some(database) = Database::create().await else {
        return;
    };
    drop(database.store().await);
    let client = database.sql().await;
    client
        .batch_execute("INSERT INTO schema_migrations VALUES (99, '')")
        .await
        .unwrap();
    let newer = refused(&database.config()).await;
    assert!(
        matches!(newer, PostgresOpenError::NewerSchema { found: 99, .. }),
        "{newer}"
    );
    let sql = "DELETE FROM schema_migrations WHERE number = 99; UPDATE schema_migrations SET sha256 = '\\x00'";
    client.batch_execute(sql).await.unwrap();
    let other = refused(&database.config()).await;
    assert!(
        matches!(other, PostgresOpenError::OtherMigration { number: 1 }),
        "{other}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stores_that_begin_at_once_migrate_once() {
    let Some(database) = Database::create().await else {
        return;
    };
    let stores = tokio::join!(
        database.store(),
        database.store(),
        database.store(),
        database.store()
    );
    let client = database.sql().await;
    let applied = client
        .query("SELECT number FROM schema_migrations", &[])
        .await
        .unwrap();
    assert_eq!(applied.len(), 2);
    drop(stores);
}
