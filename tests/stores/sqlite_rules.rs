//! What `SQLite`'s own rules refuse, whatever the program does, and what the store refuses to open.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::approval::{Approval, Status};
use countersign::storage::sqlite::{SqliteOpenError, SqliteStore};
use countersign::usecase::approval_store::{Opened, StoreError};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{Store, ask, at, done, found, no, redeem, yes};

/// A store with a waiting and an approved approval, and a connection that goes around the program.
struct Around {
    directory: TempDir,
    store: Store,
    raw: Connection,
    waiting: Approval,
    approved: Approval,
}

impl Around {
    fn path(&self) -> PathBuf {
        self.directory.path().join("approvals.db")
    }
}

async fn opened() -> Around {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("approvals.db");
    let store: Store = Arc::new(SqliteStore::open(&path).unwrap());
    let waiting = ask("waiting").quorum(2).open(&store, 0).await;
    let approved = ask("approved").open(&store, 0).await;
    let approved = done(&store, yes(&approved, "ada"), 1).await;
    let raw = Connection::open(&path).unwrap();
    raw.pragma_update(None, "foreign_keys", "ON").unwrap();
    Around {
        directory,
        store,
        raw,
        waiting,
        approved,
    }
}

/// Runs `sql`, which must be refused with `reason`.
#[track_caller]
fn refused(raw: &Connection, sql: &str, reason: &str) {
    let error = raw.execute_batch(sql).expect_err(sql).to_string();
    assert!(error.contains(reason), "{sql}: {error}");
}

fn vote_sql(approval: &Approval, person: &str, choice: &str) -> String {
    let asked = &approval.asked;
    format!(
        "INSERT INTO votes (approval, person, account, issuer, subject, choice, at_us, request_digest, view_digest)
         VALUES ('{}', '{person}', '{person}', 'i', 's', '{choice}', {}, '{}', '{}')",
        approval.id,
        at(5).as_microsecond(),
        asked.digest,
        asked.view_digest,
    )
}

#[tokio::test]
async fn nobody_of_the_requesters_side_approves() {
    let opened = opened().await;
    let own = "nobody approves a request of their own side";
    let sql = vote_sql(&opened.waiting, "User::\"owner\"", "APPROVE");
    refused(&opened.raw, &sql, own);
    let sql = vote_sql(&opened.waiting, "User::\"ada\"", "APPROVE");
    opened.raw.execute_batch(&sql).unwrap();
    refused(
        &opened.raw,
        "DELETE FROM barred",
        "who is barred stays barred",
    );
    refused(
        &opened.raw,
        "UPDATE barred SET person = 'x'",
        "who is barred stays barred",
    );
    let sql = vote_sql(&opened.waiting, "User::\"owner\"", "DENY");
    opened.raw.execute_batch(&sql).unwrap();
    let to_yes = "UPDATE votes SET choice = 'APPROVE' WHERE choice = 'DENY'";
    refused(&opened.raw, to_yes, "a vote changes from yes to no only");
}

#[tokio::test]
async fn a_person_has_one_vote_on_what_they_were_shown_in_time() {
    let opened = opened().await;
    let ada = vote_sql(&opened.waiting, "User::\"ada\"", "APPROVE");
    opened.raw.execute_batch(&ada).unwrap();
    refused(&opened.raw, &ada, "UNIQUE constraint failed");
    refused(&opened.raw, "DELETE FROM votes", "a vote is never deleted");
    let bob = vote_sql(&opened.waiting, "User::\"bob\"", "APPROVE");
    let other_view = bob.replace(
        &opened.waiting.asked.view_digest.to_string(),
        &"0".repeat(64),
    );
    refused(&opened.raw, &other_view, "FOREIGN KEY constraint failed");
    let late = bob.replace(
        &at(5).as_microsecond().to_string(),
        &at(3600).as_microsecond().to_string(),
    );
    refused(&opened.raw, &late, "takes no such vote any more");
    let after_quorum = vote_sql(&opened.approved, "User::\"bob\"", "APPROVE");
    refused(&opened.raw, &after_quorum, "takes no such vote any more");
}

#[tokio::test]
async fn a_changed_mind_leaves_its_history() {
    let opened = opened().await;
    done(&opened.store, yes(&opened.waiting, "ada"), 2).await;
    done(&opened.store, no(&opened.waiting, "ada"), 3).await;
    let history: (String, i64) = opened
        .raw
        .query_row("SELECT choice, at_us FROM vote_changes", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(history, ("APPROVE".to_owned(), at(2).as_microsecond()));
    refused(
        &opened.raw,
        "DELETE FROM vote_changes",
        "a vote is never deleted",
    );
    refused(
        &opened.raw,
        "UPDATE vote_changes SET choice = 'DENY'",
        "a vote is never deleted",
    );
}

#[tokio::test]
async fn a_grant_is_redeemed_once_while_it_lives() {
    let opened = opened().await;
    let sql = |approval: &Approval, seconds: i64| {
        format!(
            "INSERT INTO redemptions (approval, caller, digest, key, decision_id, at_us)
             VALUES ('{}', 'deployer', '{}', 'k', 'd', {})",
            approval.id,
            approval.asked.digest,
            at(seconds).as_microsecond(),
        )
    };
    refused(
        &opened.raw,
        &sql(&opened.waiting, 2),
        "there is no grant to redeem",
    );
    refused(
        &opened.raw,
        &sql(&opened.approved, 601),
        "there is no grant to redeem",
    );
    let other = sql(&opened.approved, 2).replace("deployer", "another");
    refused(&opened.raw, &other, "there is no grant to redeem");
    done(&opened.store, redeem(&opened.approved, "k"), 3).await;
    refused(
        &opened.raw,
        &sql(&opened.approved, 4),
        "there is no grant to redeem",
    );
    refused(
        &opened.raw,
        "DELETE FROM redemptions",
        "a redemption is never deleted",
    );
    refused(
        &opened.raw,
        "UPDATE redemptions SET key = 'x'",
        "a redemption is never changed",
    );
}

/// Changes the approval `id` to `status`, with everything else as the rules want it.
fn change_sql(id: &str, status: &str, rest: &str) -> String {
    format!(
        "INSERT INTO control_entries (body) VALUES (x'00');
         INSERT INTO records (approval, version, at_us, body, entry)
             SELECT id, version + 1, 0, '', (SELECT max(entry) FROM control_entries) FROM approvals WHERE id = '{id}';
         UPDATE approvals SET previous_status = status, status = '{status}', version = version + 1,
             last_record = (SELECT max(sequence) FROM records), {rest} WHERE id = '{id}'"
    )
}

#[tokio::test]
async fn only_allowed_transitions_happen() {
    let opened = opened().await;
    let closed = "deadline_us = NULL, next_timer_us = NULL, closed_us = 1";
    let redeemed = "deadline_us = NULL, next_timer_us = NULL";
    let forbidden = "FOREIGN KEY constraint failed";
    refused(
        &opened.raw,
        &change_sql("waiting", "REVOKED", closed),
        forbidden,
    );
    refused(
        &opened.raw,
        &change_sql("waiting", "LAPSED", closed),
        forbidden,
    );
    refused(
        &opened.raw,
        &change_sql("approved", "DENIED", closed),
        forbidden,
    );
    refused(
        &opened.raw,
        &change_sql("approved", "PENDING", "closed_us = NULL"),
        forbidden,
    );
    let unspent = change_sql("approved", "REDEEMED", redeemed);
    refused(
        &opened.raw,
        &unspent,
        "nothing is redeemed without a redemption",
    );
    let sql = change_sql("waiting", "DENIED", closed);
    let skipped = sql.replace("previous_status = status", "previous_status = 'APPROVED'");
    refused(&opened.raw, &skipped, "goes from where it stands");
    opened.raw.execute_batch(&sql).unwrap();
    refused(
        &opened.raw,
        &change_sql("waiting", "PENDING", "closed_us = NULL"),
        "constraint failed",
    );
    refused(
        &opened.raw,
        "DELETE FROM transitions",
        "transitions are fixed",
    );
    let more = "INSERT INTO transitions VALUES ('DENIED', 'APPROVED')";
    refused(&opened.raw, more, "transitions are fixed");
}

#[tokio::test]
async fn the_allowed_transitions_are_those_of_the_program() {
    let opened = opened().await;
    let sql = "SELECT previous_status, status FROM transitions";
    let mut statement = opened.raw.prepare(sql).unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let mut found: Vec<(String, String)> = rows.map(Result::unwrap).collect();
    let same = Status::ALL.map(|status| (status, status));
    let mut wanted: Vec<(String, String)> = same
        .into_iter()
        .chain(Status::TRANSITIONS)
        .map(|(one, two)| (one.to_string(), two.to_string()))
        .collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn nothing_is_deleted_rewritten_or_without_a_record() {
    let opened = opened().await;
    let raw = &opened.raw;
    refused(raw, "DELETE FROM approvals", "an approval is never deleted");
    refused(raw, "DELETE FROM records", "a record is never deleted");
    refused(
        raw,
        "UPDATE records SET body = ''",
        "a record is never changed",
    );
    refused(
        raw,
        "UPDATE approvals SET asked = ''",
        "what was asked is never changed",
    );
    refused(
        raw,
        "UPDATE approvals SET view_digest = digest",
        "what was asked is never changed",
    );
    let unrecorded = "UPDATE approvals SET version = version + 1, previous_status = status";
    refused(raw, unrecorded, "no state without its record");
    let sql = change_sql("waiting", "PENDING", "closed_us = NULL");
    let other = sql.replace("SELECT id, version + 1", "SELECT 'other', version + 1");
    refused(raw, &other, "no state without its record");
    let back = sql.replace("version = version + 1", "version = version");
    refused(raw, &back, "to a later version");
    let second = "INSERT INTO approvals SELECT 'copy', 1, 'PENDING', 'PENDING', caller, requester, digest, view_digest,
        asked, asked_digest, opened_us, deadline_us, next_timer_us, closed_us, course, last_record
        FROM approvals WHERE id = 'waiting'";
    refused(raw, second, "no state without its record");
    let recorded = format!(
        "INSERT INTO control_entries (body) VALUES (x'00');
         INSERT INTO records (approval, version, at_us, body, entry)
             VALUES ('copy', 1, 0, '', (SELECT max(entry) FROM control_entries)); {second}"
    );
    let recorded = recorded.replace(
        "course, last_record",
        "course, (SELECT max(sequence) FROM records)",
    );
    refused(raw, &recorded, "UNIQUE constraint failed");
}

#[tokio::test]
async fn what_was_changed_around_the_program_is_not_read() {
    let opened = opened().await;
    let sql = "DROP TRIGGER approvals_asked_is_fixed; DROP TRIGGER approvals_have_a_record_update;
        DROP TRIGGER approvals_go_forward; UPDATE approvals SET asked = replace(asked, 'shop', 'bank')";
    opened.raw.execute_batch(sql).unwrap();
    let error = opened.store.find(&opened.waiting.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    let error = opened
        .store
        .apply(yes(&opened.waiting, "ada"), at(2))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let opened = opened().await;
    let path = opened.path();
    drop(opened.raw);
    drop(opened.store);
    let store: Store = Arc::new(SqliteStore::open(&path).unwrap());
    assert_eq!(found(&store, &opened.approved.id).await, opened.approved);
    let again = ask("again").like("waiting").command();
    let again = store.open(again, at(2)).await.unwrap();
    assert!(matches!(again, Opened::Joined(_)), "{again:?}");
    assert_eq!(store.records(&opened.approved.id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_has_gone() {
    let opened = opened().await;
    let path = opened.path();
    // A lock belongs to an open file, so a second opening in one process is as good as one in another.
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, SqliteOpenError::InUse(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("another process uses the database"),
        "{error}"
    );
    drop(opened.store);
    drop(SqliteStore::open(&path).unwrap());
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let opened = opened().await;
    for name in [
        "approvals.db",
        "approvals.db-wal",
        "approvals.db-shm",
        "approvals.db.lock",
    ] {
        let path = opened.directory.path().join(name);
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

fn reopened_after(path: &Path, sql: &str) -> SqliteOpenError {
    drop(SqliteStore::open(path).unwrap());
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
    SqliteStore::open(path).unwrap_err()
}

#[test]
fn a_schema_that_is_not_known_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let newer = "INSERT INTO countersign_migrations VALUES (9999, 'x')";
    let error = reopened_after(&directory.path().join("newer.db"), newer);
    assert!(error.to_string().contains("schema 9999"), "{error}");
    let changed = "UPDATE countersign_migrations SET digest = 'x' WHERE number = 1";
    let error = reopened_after(&directory.path().join("changed.db"), changed);
    assert!(
        matches!(error, SqliteOpenError::ChangedSchema { number: 1 }),
        "{error:?}"
    );
    let foreign = directory.path().join("foreign.db");
    let sql = "CREATE TABLE theirs (id)";
    Connection::open(&foreign)
        .unwrap()
        .execute_batch(sql)
        .unwrap();
    let error = SqliteStore::open(&foreign).unwrap_err();
    assert!(matches!(error, SqliteOpenError::NotOurs), "{error:?}");
    let garbage = directory.path().join("garbage.db");
    std::fs::write(&garbage, "not a database at all ".repeat(100)).unwrap();
    let error = SqliteStore::open(&garbage).unwrap_err();
    assert!(matches!(error, SqliteOpenError::Sqlite(_)), "{error:?}");
    let nowhere = directory.path().join("nowhere").join("approvals.db");
    let error = SqliteStore::open(&nowhere).unwrap_err();
    assert!(matches!(error, SqliteOpenError::File { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_an_error_and_recovers() {
    let opened = opened().await;
    // Longer than the store waits.
    opened.raw.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = opened
        .store
        .apply(yes(&opened.waiting, "ada"), at(2))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    // Readers do not mind.
    assert_eq!(
        found(&opened.store, &opened.waiting.id).await,
        opened.waiting
    );
    opened.raw.execute_batch("ROLLBACK").unwrap();
    let voted = done(&opened.store, yes(&opened.waiting, "ada"), 3).await;
    assert_eq!(voted.version, 2);
}
