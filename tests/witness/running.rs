//! Runs against a witness that knows the rules, and against some that break them.

use std::collections::BTreeMap;

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::cosignature::CosignatureError;
use countersign::audit::note::Note;
use countersign::channel::{Hidden, WitnessError};
use countersign::config::WitnessConfig;

use crate::log::{Log, ORIGIN};
use crate::run::{WitnessRun, WitnessRunError, runs};
use crate::witness::{Cosigner, Manner, NAME, TIME, TestWitness};
use crate::{http, witness};

/// A log of `size` records, a witness of it and a run that knows nothing yet.
fn new() -> (Log, TestWitness, WitnessRun) {
    let log = Log::new();
    let witness = TestWitness::start(log.key());
    let run = WitnessRun::new(witness.client());
    (log, witness, run)
}

/// Checks that `cosigned` is `note` with the witness's line and nothing else, which is what the log's readers believe.
#[track_caller]
fn check(cosigned: &str, note: &str, log: &Log) {
    let text = Note::parse(note).unwrap().text().to_owned();
    let line = Cosigner::new(NAME, 9).line(TIME, &text);
    assert_eq!(cosigned, format!("{note}{line}"));
    let opened = Checkpoint::open(cosigned, ORIGIN, &[log.key()]).unwrap();
    assert_eq!(opened, Checkpoint::parse(&text).unwrap());
    let parsed = Note::parse(cosigned).unwrap();
    let key = Cosigner::new(NAME, 9).key();
    assert_eq!(key.verify(&parsed.signatures()[1], &text), Some(TIME));
    assert_eq!(key.verify(&parsed.signatures()[0], &text), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_contact_begins_at_nothing() {
    let (mut log, witness, mut run) = new();
    let (note, reader) = log.grow(5);
    assert_eq!(run.name(), "w1");
    let cosigned = run.run(&note, &reader).await.unwrap().unwrap();
    check(&cosigned, &note, &log);
    assert_eq!(witness.asked(), [(0, 5, 200)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_witness_is_asked() {
    let (mut log, witness, _) = new();
    let configured = |prefix: &str| {
        let config = WitnessConfig {
            url: Hidden::from(prefix.to_owned()),
            key: Cosigner::new(NAME, 9).key().to_string(),
        };
        runs(&BTreeMap::from([("soc".to_owned(), config)]))
    };
    let mut found = configured(&witness.prefix()).unwrap();
    assert_eq!((found.len(), found[0].name()), (1, "soc"));
    let (note, reader) = log.grow(5);
    let cosigned = found[0].run(&note, &reader).await.unwrap().unwrap();
    check(&cosigned, &note, &log);
    let error = configured("http://w.example/t0ken")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("`audit.witness.soc.url`: the URL does"),
        "{error}"
    );
    assert!(!error.contains("t0ken"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_growth_is_cosigned_once() {
    let (mut log, witness, mut run) = new();
    let mut before = 0;
    for size in [1, 2, 3, 4, 7, 8, 255, 256, 257, 511, 512, 600, 1_000, 1_025] {
        let (note, reader) = log.grow(size);
        let cosigned = run.run(&note, &reader).await.unwrap().unwrap();
        check(&cosigned, &note, &log);
        assert_eq!(run.run(&note, &reader).await.unwrap(), None);
        assert_eq!(witness.asked(), [(before, size, 200)]);
        before = size;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_between_small_sizes_is_proved() {
    for old in 1..20 {
        let (mut log, witness, mut run) = new();
        let (note, reader) = log.grow(old);
        run.run(&note, &reader).await.unwrap().unwrap();
        for new in old + 1..20 {
            let (note, reader) = log.grow(new);
            run.run(&note, &reader).await.unwrap().unwrap();
            assert_eq!(witness.state().size, new);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_witness_says_where_it_stands() {
    let (mut log, witness, mut run) = new();
    let (note, reader) = log.grow(300);
    run.run(&note, &reader).await.unwrap().unwrap();
    let (note, reader) = log.grow(700);
    let mut next = WitnessRun::new(witness.client());
    let cosigned = next.run(&note, &reader).await.unwrap().unwrap();
    check(&cosigned, &note, &log);
    assert_eq!(
        witness.asked(),
        [(0, 300, 200), (0, 700, 409), (300, 700, 200)]
    );
    // Another replica, which has nothing newer, gets the signature as well.
    let mut other = WitnessRun::new(witness.client());
    check(
        &other.run(&note, &reader).await.unwrap().unwrap(),
        &note,
        &log,
    );
    assert_eq!(witness.asked(), [(0, 700, 409), (700, 700, 200)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_fell_behind_is_brought_up_again() {
    let (mut log, witness, mut run) = new();
    let mut earlier = Vec::new();
    for size in [10, 20] {
        let (note, reader) = log.grow(size);
        run.run(&note, &reader).await.unwrap().unwrap();
        earlier.push((size, witness.state().root));
    }
    (witness.state().size, witness.state().root) = (0, countersign::audit::tree::EMPTY_ROOT);
    let (note, reader) = log.grow(30);
    check(
        &run.run(&note, &reader).await.unwrap().unwrap(),
        &note,
        &log,
    );
    let (size, root) = earlier[0];
    witness.state().size = size;
    witness.state().root = root;
    witness.asked();
    let (note, reader) = log.grow(40);
    check(
        &run.run(&note, &reader).await.unwrap().unwrap(),
        &note,
        &log,
    );
    assert_eq!(witness.asked(), [(30, 40, 409), (10, 40, 200)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_may_be_ahead_for_a_moment_only() {
    let (mut log, witness, mut run) = new();
    let (old_note, old_reader) = log.grow(10);
    let (note, reader) = log.grow(20);
    let mut other = WitnessRun::new(witness.client());
    other.run(&note, &reader).await.unwrap().unwrap();
    // The other replica was faster.
    assert_eq!(run.run(&old_note, &old_reader).await.unwrap(), None);
    // A run later the log should be where the witness was.
    let error = run.run(&old_note, &old_reader).await.unwrap_err();
    assert!(
        matches!(
            error,
            WitnessRunError::Ahead {
                theirs: 20,
                ours: 10
            }
        ),
        "{error}"
    );
    assert!(error.is_contradiction());
    let (note, reader) = log.grow(21);
    check(
        &run.run(&note, &reader).await.unwrap().unwrap(),
        &note,
        &log,
    );
    // Within one process, too, a log that shrinks is noticed.
    assert_eq!(run.run(&old_note, &old_reader).await.unwrap(), None);
    let error = run.run(&old_note, &old_reader).await.unwrap_err();
    assert!(error.is_contradiction(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_in_turn_are_no_contradiction() {
    let (mut log, witness, mut run) = new();
    let mut other = WitnessRun::new(witness.client());
    for size in (1..60).step_by(2) {
        // This replica is always one record late.
        let (late, late_reader) = log.grow(2 * size);
        let (note, reader) = log.grow(2 * size + 1);
        other.run(&note, &reader).await.unwrap().unwrap();
        assert_eq!(run.run(&late, &late_reader).await.unwrap(), None);
        // Just where the witness was is far enough.
        let (next, reader) = log.grow(2 * size + 2);
        other.run(&next, &reader).await.unwrap().unwrap();
        assert_eq!(run.run(&note, &reader).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_kept_that_was_not_verified() {
    for (manner, is_named) in [
        (Manner::WrongKey, true),
        (Manner::OtherCheckpoint, true),
        (Manner::OtherTime, true),
        (Manner::PlainNote, true),
        (Manner::OnlyStrangers, false),
        (Manner::Echo, false),
    ] {
        let (mut log, witness, mut run) = new();
        witness.state().manner = manner;
        let (note, reader) = log.grow(12);
        let error = run.run(&note, &reader).await.unwrap_err();
        let WitnessRunError::Cosignature(why) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(is_named, matches!(why, CosignatureError::Wrong { .. }));
        assert_eq!(!is_named, *why == CosignatureError::Missing);
        assert!(!error.is_contradiction());
        // It is asked again, and what is right then is kept.
        witness.state().manner = Manner::WithStrangers;
        check(
            &run.run(&note, &reader).await.unwrap().unwrap(),
            &note,
            &log,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_refused_and_told() {
    let (mut log, witness, mut run) = new();
    let (note, reader) = log.grow(100);
    run.run(&note, &reader).await.unwrap().unwrap();
    let mut fork = Log::forked(99);
    let (note, reader) = fork.grow(100);
    for (manner, is_fresh) in [
        (Manner::Honest, true),
        (Manner::SizeOnFork, true),
        (Manner::Honest, false),
    ] {
        witness.state().manner = manner;
        let mut run = if is_fresh {
            WitnessRun::new(witness.client())
        } else {
            run_at(&witness).await
        };
        let error = run.run(&note, &reader).await.unwrap_err();
        assert!(
            matches!(error, WitnessRunError::Asking(WitnessError::Conflict)),
            "{error:?}"
        );
        assert!(error.is_contradiction());
    }
    let (note, reader) = fork.grow(150);
    for _ in 0..2 {
        let error = run.run(&note, &reader).await.unwrap_err();
        assert!(
            matches!(error, WitnessRunError::Asking(WitnessError::Inconsistent)),
            "{error:?}"
        );
        assert!(error.is_contradiction());
    }
    assert_eq!(witness.state().size, 100);
    // The log itself goes on.
    let (note, reader) = log.grow(150);
    check(
        &run.run(&note, &reader).await.unwrap().unwrap(),
        &note,
        &log,
    );
}

/// A run that knows where the witness stands, at 100 records.
async fn run_at(witness: &TestWitness) -> WitnessRun {
    let mut log = Log::new();
    let mut run = WitnessRun::new(witness.client());
    let (note, reader) = log.grow(99);
    assert_eq!(run.run(&note, &reader).await.unwrap(), None);
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_does_not_know_us_is_no_contradiction() {
    let (mut log, witness, mut run) = new();
    let (note, reader) = log.grow(3);
    witness.state().origin = "other/control".to_owned();
    let error = run.run(&note, &reader).await.unwrap_err();
    assert!(
        matches!(error, WitnessRunError::Asking(WitnessError::UnknownLog)),
        "{error:?}"
    );
    let stranger = countersign::audit::note::SignerKey::from_seed(ORIGIN, &[2; 32]).unwrap();
    let distrustful = TestWitness::start(stranger.verifier().clone());
    let mut run = WitnessRun::new(distrustful.client());
    let error = run.run(&note, &reader).await.unwrap_err();
    assert!(
        matches!(error, WitnessRunError::Asking(WitnessError::UntrustedKey)),
        "{error:?}"
    );
    assert!(!error.is_contradiction());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_never_settles_is_left_alone() {
    let mut log = Log::new();
    let (note, reader) = log.grow(50);
    let mut size = 0;
    let port = http::start(move |_, stream| {
        size += 1;
        let answer = http::answer(409, "Text/X.tlog.size; charset=utf-8", &format!("{size}\n"));
        drop(std::io::Write::write_all(stream, answer.as_bytes()));
    });
    let client = witness::client(&format!("http://localhost:{port}"));
    let error = WitnessRun::new(client)
        .run(&note, &reader)
        .await
        .unwrap_err();
    assert!(matches!(error, WitnessRunError::Restless), "{error:?}");
    let port = http::start_with(http::answer(409, "text/x.tlog.size", "0\n"));
    let client = witness::client(&format!("http://127.0.0.1:{port}"));
    let error = WitnessRun::new(client)
        .run(&note, &reader)
        .await
        .unwrap_err();
    assert!(
        matches!(error, WitnessRunError::Contradictory { size: 0 }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_without_the_records_gives_no_proof() {
    let (mut log, _witness, mut run) = new();
    let (first, reader) = log.grow(10);
    run.run(&first, &reader).await.unwrap().unwrap();
    let (note, _) = log.grow(20);
    // The reader has not looked again.
    let error = run.run(&note, &reader).await.unwrap_err();
    assert!(matches!(error, WitnessRunError::Proof(_)), "{error:?}");
    for text in ["", "prod/control\n", "a\n\n— w AAAAAAA=\n"] {
        assert!(run.run(text, &reader).await.is_err());
    }
}
