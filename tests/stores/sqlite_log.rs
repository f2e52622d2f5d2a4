//! What `SQLite`'s own rules refuse of the control log, what survives, and what is seen by whoever only looks.

use std::path::Path;
use std::sync::Arc;

use countersign::approval::{Digest, Status};
use countersign::storage::sqlite::{SqliteEvidence, SqliteOpenError, SqliteStore};
use countersign::usecase::approval_store::StoreError;
use countersign::usecase::evidence::Evidence as _;
use rusqlite::Connection;

use crate::backends::{JsonRecords, Kept};
use crate::evidence;
use crate::logging::{append, lease, sequence, waiting, whole_log};
use crate::support::{ask, done, found, yes};

fn opened(path: &Path) -> Kept {
    Kept::new(SqliteStore::open_with(path, Arc::new(JsonRecords)).unwrap())
}

/// The connection goes around the program.
fn around(path: &Path) -> Connection {
    let raw = Connection::open(path).unwrap();
    raw.pragma_update(None, "foreign_keys", "ON").unwrap();
    raw
}

/// Statements that break a rule, each with what is said of it.
const BROKEN: [(&str, &str); 35] = [
    (
        "UPDATE control_entries SET body = x'00'",
        "is never changed",
    ),
    (
        "UPDATE control_entries SET entry = 9 WHERE entry = 3",
        "is never changed",
    ),
    (
        "DELETE FROM control_entries WHERE entry = 3",
        "is never deleted",
    ),
    (
        "REPLACE INTO control_entries VALUES (3, x'00')",
        "is never changed",
    ),
    ("INSERT INTO control_entries (body) VALUES (x'')", "CHECK"),
    ("INSERT INTO control_entries VALUES (-1, x'00')", "CHECK"),
    ("UPDATE control_queue SET entry = 1", "waits for its place"),
    ("DELETE FROM control_queue", "waits for its place"),
    ("INSERT INTO control_queue VALUES (1)", "gets one place"),
    ("INSERT INTO control_queue VALUES (9)", "FOREIGN KEY"),
    (
        "UPDATE control_log SET entry = 3 WHERE idx = 1",
        "is never changed",
    ),
    (
        "UPDATE control_log SET idx = 9 WHERE idx = 1",
        "is never changed",
    ),
    ("DELETE FROM control_log WHERE idx = 1", "is never deleted"),
    ("REPLACE INTO control_log VALUES (1, 3)", "has no holes"),
    ("INSERT INTO control_log VALUES (3, 3)", "has no holes"),
    ("INSERT INTO control_log VALUES (-1, 3)", "has no holes"),
    ("INSERT INTO control_log VALUES (NULL, 3)", "has no holes"),
    (
        "INSERT INTO control_log VALUES (2, 1)",
        "only an entry that waits",
    ),
    (
        "INSERT INTO control_log VALUES (2, 9)",
        "only an entry that waits",
    ),
    (
        "INSERT INTO control_head VALUES (2, 0, x'0000000000000000', 0)",
        "one head",
    ),
    (
        "REPLACE INTO control_head VALUES (1, 0, x'0000000000000000', 0)",
        "one head",
    ),
    ("DELETE FROM control_head", "one head"),
    ("UPDATE control_head SET size = 1", "follows its places"),
    ("UPDATE control_head SET size = 3", "follows its places"),
    (
        "UPDATE control_head SET frontier = x'0000000000000000'",
        "follows its places",
    ),
    (
        "INSERT INTO control_log VALUES (2, 3); UPDATE control_head SET size = 3, epoch = 0",
        "follows its places",
    ),
    (
        "UPDATE control_checkpoints SET note = ''",
        "is never changed",
    ),
    ("DELETE FROM control_checkpoints", "is never deleted"),
    (
        "INSERT INTO control_checkpoints VALUES (1, '')",
        "of a later size",
    ),
    (
        "REPLACE INTO control_checkpoints VALUES (1, '')",
        "of a later size",
    ),
    (
        "INSERT INTO control_checkpoints VALUES (0, '')",
        "of a later size",
    ),
    (
        "INSERT INTO control_checkpoints VALUES (3, '')",
        "of what has a place",
    ),
    (
        "INSERT INTO records (approval, version, at_us, body) VALUES ('a', 1, 0, '')",
        "no record without an entry",
    ),
    (
        "INSERT INTO records (approval, version, at_us, body, entry) VALUES ('a', 1, 0, '', 9)",
        "FOREIGN KEY",
    ),
    (
        "INSERT INTO records (approval, version, at_us, body, entry) VALUES ('a', 1, 0, '', 1), ('a', 1, 0, '', 1)",
        "no record without an entry",
    ),
];

#[tokio::test]
async fn statements_that_break_a_rule_of_the_log_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("approvals.db");
    let kept = opened(&path);
    append(&kept, &["a", "b", "c"]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    sequence(&kept, "one", epoch, 2).await.unwrap();
    kept.log.keep_checkpoint(1, "one".to_owned()).await.unwrap();
    let raw = around(&path);
    for (sql, reason) in BROKEN {
        let sql = format!("BEGIN; {sql}");
        let error = raw.execute_batch(&sql).expect_err(&sql).to_string();
        raw.execute_batch("ROLLBACK").unwrap();
        assert!(error.contains(reason), "{sql}: {error}");
    }
    // What is not refused, so that the refusals above are not those of typing errors.
    for sql in [
        "INSERT INTO control_entries (body) VALUES (x'00')",
        "INSERT INTO control_log VALUES (2, 3)",
        "UPDATE control_head SET size = 3",
        "INSERT INTO control_checkpoints VALUES (3, '')",
        "INSERT INTO records (approval, version, at_us, body, entry) VALUES ('a', 1, 0, '', 4)",
    ] {
        raw.execute_batch(sql).expect(sql);
    }
    assert_eq!(waiting(&kept).await, ["\0"]);
    // The head that was written around the program has a tree of another size.
    let head = kept.log.head().await;
    assert!(matches!(head, Err(StoreError::Corrupt(_))), "{head:?}");
}

#[tokio::test]
async fn the_log_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("approvals.db");
    let kept = opened(&path);
    append(&kept, &["a", "b", "c"]).await;
    let epoch = lease(&kept, "one", 0).await.unwrap();
    sequence(&kept, "one", epoch, 2).await.unwrap();
    let head = kept.log.head().await.unwrap();
    drop(kept);
    let kept = opened(&path);
    assert_eq!(kept.log.head().await.unwrap(), head);
    assert_eq!(whole_log(&kept).await, [b"a", b"b"]);
    assert_eq!(waiting(&kept).await, ["c"]);
    sequence(&kept, "one", epoch, 2).await.unwrap();
    assert_eq!(whole_log(&kept).await, [b"a", b"b", b"c"]);
}

#[tokio::test]
async fn records_from_before_the_log_stay_and_get_no_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("approvals.db");
    let raw = Connection::open(&path).unwrap();
    let first = include_str!("../../src/storage/sqlite/migrations/0001_approvals.sql");
    let digest = Digest::of("countersign migration", first.as_bytes());
    raw.execute_batch(first).unwrap();
    let sql = format!(
        "CREATE TABLE countersign_migrations (number INTEGER PRIMARY KEY, digest TEXT NOT NULL) STRICT;
         INSERT INTO countersign_migrations VALUES (1, '{digest}');
         INSERT INTO records (approval, version, at_us, body) VALUES ('old', 1, 0, 'as it was'), ('old', 2, 1, 'later')"
    );
    raw.execute_batch(&sql).unwrap();
    let error = SqliteEvidence::open(&path).unwrap_err();
    assert!(
        matches!(error, SqliteOpenError::OlderSchema { found: 1, known: 2 }),
        "{error}"
    );
    let kept = opened(&path);
    assert_eq!(waiting(&kept).await, Vec::<String>::new());
    let approval = ask("new").open(&kept.store, 0).await;
    let approved = done(&kept.store, yes(&approval, "ada"), 1).await;
    assert_eq!(found(&kept.store, &approval.id).await, approved);
    assert_eq!(waiting(&kept).await.len(), 2);
    let sql = "SELECT group_concat(body) FROM records WHERE entry IS NULL";
    let bodies: String = raw.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(bodies, "as it was,later");
}

#[tokio::test]
async fn evidence_is_read_while_the_store_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("approvals.db");
    let kept = opened(&path);
    let written = evidence::written(&kept).await;
    let looked_at = SqliteEvidence::open(&path).unwrap();
    // What is written now is of a later moment.
    ask("later").open(&kept.store, 0).await;
    append(&kept, &["later"]).await;
    evidence::check(&looked_at, &written);
    drop(looked_at);
    let later = SqliteEvidence::open(&path).unwrap();
    assert_eq!(evidence::ids(&later).len(), 4);
    let raw = around(&path);
    raw.execute_batch(
        "DROP TRIGGER approvals_asked_is_fixed; DROP TRIGGER approvals_have_a_record_update;
         DROP TRIGGER approvals_go_forward; DROP TRIGGER control_log_is_kept_delete;
         UPDATE approvals SET asked = replace(asked, 'shop', 'bank') WHERE id = 'b';
         DELETE FROM control_log WHERE idx = 1",
    )
    .unwrap();
    drop(later);
    let changed = SqliteEvidence::open(&path).unwrap();
    let all = changed.approvals(None, 10).unwrap();
    let is_read: Vec<bool> = all.iter().map(|each| each.approval.is_ok()).collect();
    assert_eq!(is_read, [true, false, true, true]);
    let missing = changed.control_bodies(0, 10);
    assert!(
        matches!(missing, Err(StoreError::Corrupt(_))),
        "{missing:?}"
    );
    // Nobody was kept out, and nothing was changed.
    let approval = ask("last").open(&kept.store, 0).await;
    assert_eq!(approval.status(), Status::Pending);
}

#[test]
fn evidence_is_of_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let none = directory.path().join("none.db");
    let error = SqliteEvidence::open(&none).unwrap_err();
    assert!(matches!(error, SqliteOpenError::Sqlite(_)), "{error:?}");
    assert!(!none.exists());
    let foreign = directory.path().join("foreign.db");
    let sql = "CREATE TABLE theirs (id)";
    Connection::open(&foreign)
        .unwrap()
        .execute_batch(sql)
        .unwrap();
    let error = SqliteEvidence::open(&foreign).unwrap_err();
    assert!(matches!(error, SqliteOpenError::NotOurs), "{error:?}");
    // A database that no server has is looked at all the same.
    let path = directory.path().join("approvals.db");
    drop(opened(&path));
    let evidence = SqliteEvidence::open(&path).unwrap();
    assert_eq!(evidence.control_size(), Ok(0));
    assert_eq!(evidence.approvals(None, 10), Ok(Vec::new()));
    drop(opened(&path));
}
