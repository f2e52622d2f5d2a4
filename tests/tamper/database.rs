//! A store of approvals beside its control log: untouched it agrees, and a change to the store alone is found.

use std::path::Path;

use countersign::approval::flood::FloodLimits;
use countersign::approval::{Approval, ApprovalId, Asked, Digest, Event, Opening};
use countersign::audit::control_record::encode_control;
use countersign::audit::keys::key_added;
use countersign::audit::proto::record;
use countersign::audit::tree::leaf_hash;
use countersign::audit::verify::{Report, Severity};
use countersign::cli::{VerifyInputs, verify};
use countersign::model::{Record, Value};
use countersign::storage::sqlite::SqliteStore;
use countersign::usecase::approval_store::{
    Applied, ApplyCommand, ApprovalStore, OpenCommand, Opened,
};
use countersign::usecase::control_log::{ControlLog, SEQUENCER, SequenceCommand};
use rusqlite::Connection;
use uuid::Uuid;

use crate::cluster::signer;
use crate::lives::random::dice::Dice;
use crate::lives::random::life::Life;
use crate::lives::support::{asked, at, seconds};
use crate::log::Log;
use crate::maker::with_id;
use crate::{grave, times};

/// Changes to the store, each a statement that changes at least one row, or else is not counted.
const CHANGES: [(&str, &str); 14] = [
    (
        "reviewers are shown something else",
        "UPDATE approvals SET asked = replace(asked, 'production', 'staging') WHERE asked LIKE '%production%'",
    ),
    (
        "the headline is another one",
        "UPDATE approvals SET asked = replace(asked, '\"headline\":{\"text\":\"', '\"headline\":{\"text\":\"not ')
        WHERE asked LIKE '%\"headline\":{\"text\":%'",
    ),
    (
        "a vote becomes a no",
        "UPDATE votes SET choice = 'DENY' WHERE choice = 'APPROVE'",
    ),
    (
        "a vote becomes another's",
        "UPDATE votes SET person = 'User::\"mallory\"'",
    ),
    (
        "a vote is cast by another account",
        "UPDATE votes SET account = 'User::\"mallory\"'",
    ),
    (
        "a vote is cast at another time",
        "UPDATE votes SET at_us = at_us + 1",
    ),
    ("votes are gone", "DELETE FROM votes"),
    (
        "a grant was spent by another decision",
        "UPDATE redemptions SET decision_id = '01920000-0000-7000-8000-000000000000'",
    ),
    (
        "a grant was spent by another caller",
        "UPDATE redemptions SET caller = 'mallory'",
    ),
    ("redemptions are gone", "DELETE FROM redemptions"),
    (
        "a course is another one",
        "UPDATE approvals SET course = replace(course, '\"APPROVE\"', '\"DENY\"')
        WHERE course LIKE '%\"APPROVE\"%'",
    ),
    (
        "a request was joined",
        "UPDATE approvals SET course = replace(course, '\"joined\":', '\"joined\":1')",
    ),
    (
        "a record is another one",
        "UPDATE control_entries SET body = body || x'00' WHERE entry = 2",
    ),
    (
        "the last records are gone",
        "DELETE FROM control_log WHERE idx > 0",
    ),
];

/// Writes a store at `database`, and its control log below `root`.
async fn write(database: &Path, root: &Path, seed: u64) {
    let mut dice = Dice::new(seed);
    let store = SqliteStore::open(database).unwrap();
    let key = signer("prod-eu/control", &mut dice);
    let added = key_added(&key, None).unwrap();
    store
        .append(vec![encode_control(1, record::What::KeyAdded(added))])
        .await
        .unwrap();
    for number in 0..4 {
        live(&store, seed * 10 + number).await;
    }
    let epoch = store
        .lease(SEQUENCER, "one".to_owned(), seconds(60), at(0))
        .await
        .unwrap()
        .unwrap();
    let pending = store.pending(0, 1_000).await.unwrap();
    // Some have no place yet, and a few that have are not in the copy yet.
    let placed = pending.len() - dice.below(3);
    let mut frontier = store.head().await.unwrap().frontier;
    let placed = &pending[..placed];
    for entry in placed {
        frontier.push(leaf_hash(&entry.bytes));
    }
    let command = SequenceCommand {
        from: 0,
        entries: placed.iter().map(|entry| entry.entry).collect(),
        frontier,
        holder: "one".to_owned(),
        epoch,
        now: at(0),
    };
    assert!(store.sequence(command).await.unwrap());
    let mut log = Log::new("prod-eu/control", format!("{}\n", key.verifier()), 9_000);
    let copied = placed.len() - dice.below(3);
    log.leaves = placed[..copied]
        .iter()
        .map(|entry| entry.bytes.clone())
        .collect();
    log.sign(&key);
    log.write(&root.join("control"));
}

/// Lets an approval live in the store.
async fn live(store: &SqliteStore, seed: u64) {
    let mut life = Life::new(Dice::new(seed));
    let id = Uuid::from_u128(u128::from(seed) << 32);
    life.first.id = ApprovalId::new(id.to_string());
    life.first.asked = asked_of(&life.first, id);
    let first = life.first.clone();
    let command = OpenCommand {
        opening: Opening {
            id: first.id.clone(),
            asked: first.asked.clone(),
            requirements: first.requirements.clone(),
        },
        key: None,
        limits: FloodLimits::default(),
    };
    let Opened::New(opened) = store.open(command, first.opened).await.unwrap() else {
        return;
    };
    let mut approval: Approval = *opened;
    for number in 0..40_u128 {
        let (now, event) = life.next(&approval);
        let event: Event = with_id(event, Uuid::from_u128(u128::from(seed) << 32 | number));
        let command = ApplyCommand {
            id: approval.id.clone(),
            event,
            version: None,
            key: None,
        };
        approval = match store.apply(command, now).await {
            Ok(Applied::Done(after) | Applied::Refused(after, _)) => *after,
            // The store has rules of its own, such as that of the clock.
            _ => approval,
        };
    }
}

/// What is asked by a request of its own, with digests that belong to it.
fn asked_of(first: &Approval, id: Uuid) -> Asked {
    let mut request = first.asked.request.clone();
    request.context = Record::from(vec![
        (
            "environment".to_owned(),
            Value::String("production".to_owned()),
        ),
        ("ticket".to_owned(), Value::String(id.to_string())),
    ]);
    let requirements = &first.requirements;
    asked(request, requirements, first.asked.barred.clone())
}

fn compared(database: &Path, root: &Path) -> Report {
    let inputs = VerifyInputs {
        sources: vec![root.to_owned()],
        approvals: Some(database.to_str().unwrap().to_owned()),
        ..VerifyInputs::default()
    };
    verify(&inputs).unwrap()
}

/// Does what no program may: the rules of the tables are put aside for a moment. Answers whether anything was changed.
fn force(database: &Path, statement: &str) -> bool {
    let connection = Connection::open(database).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys = OFF")
        .unwrap();
    let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'";
    let triggers: Vec<(String, String)> = {
        let mut query = connection.prepare(sql).unwrap();
        let rows = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        rows.map(Result::unwrap).collect()
    };
    for (name, _) in &triggers {
        connection
            .execute_batch(&format!("DROP TRIGGER {name}"))
            .unwrap();
    }
    let changed = connection.execute(statement, []);
    // The digest beside the text has no key: whoever changes the one changes the other.
    if statement.contains("SET asked") {
        digest_again(&connection);
    }
    for (_, sql) in &triggers {
        connection.execute_batch(sql).unwrap();
    }
    changed.is_ok_and(|changed| changed > 0)
}

/// Makes the digests of what was asked again.
fn digest_again(connection: &Connection) {
    let texts: Vec<(String, String)> = {
        let mut query = connection
            .prepare("SELECT id, asked FROM approvals")
            .unwrap();
        let rows = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        rows.map(Result::unwrap).collect()
    };
    for (id, asked) in texts {
        let digest = Digest::of("countersign asked text v1", asked.as_bytes()).to_string();
        let sql = "UPDATE approvals SET asked_digest = ?1 WHERE id = ?2";
        connection.execute(sql, [digest, id]).unwrap();
    }
}

#[test]
fn a_store_agrees_with_its_log_until_it_is_changed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let rounds = times("COUNTERSIGN_TAMPER", 400).div_ceil(100);
    let (mut made, mut missed) = (0, Vec::new());
    for seed in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        let (database, root) = (
            folder.path().join("approvals.db"),
            folder.path().join("audit"),
        );
        runtime.block_on(write(&database, &root, seed));
        let honest = compared(&database, &root);
        assert_eq!(grave(&honest), Vec::<String>::new(), "seed {seed}");
        for (kind, statement) in CHANGES {
            let copy = folder.path().join("changed.db");
            let source = Connection::open(&database).unwrap();
            source
                .execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
                .unwrap();
            if force(&copy, statement) {
                made += 1;
                if compared(&copy, &root).verdict() == Severity::Note {
                    missed.push(format!("seed {seed}: {kind}"));
                }
            }
            for name in ["changed.db", "changed.db-wal", "changed.db-shm"] {
                std::fs::remove_file(folder.path().join(name)).ok();
            }
        }
    }
    eprintln!("{made} changes to stores, {} missed", missed.len());
    assert!(missed.is_empty(), "{missed:#?}");
}
